"""`TcpProxy`: a loopback proxy before PostgreSQL that can cut, delay or swallow, for demo and tests.

It reads just enough of the wire protocol to know a COMMIT or a statement when it passes. It keeps
and logs no parameter, password or answer. How to use it:

    async with TcpProxy.before(server_url) as proxy:
        proxy.cut_after_commit()
        ... connect to proxy.url_for(server_url), see the commit fail though it was done ...
        assert proxy.fired[Fault.CUT_AFTER_COMMIT] == 1
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from typing import Final, Self
from urllib.parse import urlsplit

from mpesa_sync.demo.proxy_link import Cut, Fault, Faults, Link

__all__ = ["Fault", "TcpProxy"]

_HOST: Final = "127.0.0.1"


class TcpProxy:
    """A proxy on a free loopback port before one PostgreSQL server; an async context manager.

    Faults are armed by its methods, for the next occasion or the next `times`, over all
    connections; several may be armed at once, and `disarm` takes all of them back. A cut is a real
    RST on both sides. Connections through it are never encrypted: with `sslmode=require` they fail.
    """

    def __init__(self, target_host: str, target_port: int) -> None:
        self._target = (target_host, target_port)
        self._faults = Faults()
        self._faults.lifted.set()
        self._server: asyncio.Server | None = None
        self._holder: socket.socket | None = None
        self._port = 0
        self._links: dict[asyncio.Task[None], Link] = {}
        self._failures: list[Exception] = []

    @classmethod
    def before(cls, url: str) -> Self:
        """Return a proxy before the server that a `postgresql://` URL names (port 5432 if none)."""
        parts = urlsplit(url)
        return cls(parts.hostname or _HOST, parts.port or 5432)

    async def __aenter__(self) -> Self:
        # Bound and never listening: keeps the port ours while it is closed.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind((_HOST, 0))
        self._port = int(self._holder.getsockname()[1])
        await self.open_port()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close_port()
        for link in self._links.values():
            link.reset()
        tasks = list(self._links)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._holder:
            self._holder.close()
        if self._failures:
            raise ExceptionGroup("the proxy itself failed", self._failures)

    @property
    def port(self) -> int:
        """The port on 127.0.0.1 to connect to; the same until the block ends."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections go through the proxy now."""
        return len(self._links)

    @property
    def fired(self) -> Counter[Fault]:
        """How often each fault did something; for the black hole, to how many connections."""
        return self._faults.fired

    @property
    def messages(self) -> Counter[str]:
        """How many messages clients sent, by type letter (protocol documentation)."""
        return self._faults.messages

    @property
    def statements(self) -> int:
        """How many executions of a statement were seen, prepared or not."""
        return self._faults.statements

    @property
    def commits(self) -> int:
        """How many of these were a COMMIT, forwarded or cut."""
        return self._faults.commits

    def url_for(self, url: str) -> str:
        """Return `url` with this proxy in place of its host and port; all else stays."""
        parts = urlsplit(url)
        user, at, _host = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}{_HOST}:{self.port}").geturl()

    def cut_before_commit(self, times: int = 1) -> None:
        """Reset the connection instead of forwarding the next COMMIT: nothing is committed."""
        self._faults.cuts.append(Cut(Fault.CUT_BEFORE_COMMIT, times))

    def cut_after_commit(self, times: int = 1, *, nth: int = 1) -> None:
        """Forward the `nth` COMMIT from now, wait for its answer, drop that, then reset: it is committed."""
        self._faults.cuts.append(Cut(Fault.CUT_AFTER_COMMIT, times, nth - 1))

    def cut_statement(self, containing: str, *, nth: int = 1, after: bool = False, times: int = 1) -> None:
        """Cut at the `nth` execution, from now, of a statement whose SQL has `containing` in it.

        Case counts. `after=False`: the server never gets it. `after=True`: the server has answered
        it, and the answer is dropped. Executions are counted, prepared or not; parsing is none.
        """
        fault = Fault.CUT_AFTER_STATEMENT if after else Fault.CUT_BEFORE_STATEMENT
        self._faults.cuts.append(Cut(fault, times, nth - 1, containing))

    def delay_answers(self, seconds: float, times: int | None = None) -> None:
        """Hold back each of the next `times` answers, None: every one, by `seconds`.

        An answer is all that the server says to one request. Signing in is not delayed.
        """
        self._faults.delay_s, self._faults.delays = seconds, times

    def black_hole(self) -> None:
        """Swallow every byte, both ways, and keep connections open: the host has vanished.

        Neither side learns that the other has closed. Lasts until `disarm`, which resets every
        connection that lost something.
        """
        self._faults.lifted.clear()

    def refuse_connections(self, times: int = 1) -> None:
        """Reset the next `times` new connections at once. For a closed port see `close_port`."""
        self._faults.refusals = times

    def reset_all(self) -> int:
        """Reset every connection now; return how many there were."""
        links = [link for link in self._links.values() if link.reset()]
        self._faults.fired[Fault.RESET] += len(links)
        return len(links)

    def disarm(self) -> None:
        """Take back whatever is armed, lift the black hole. Counters and a closed port stay."""
        self._faults.cuts.clear()
        self._faults.refusals = 0
        self._faults.delays = 0
        self._faults.lifted.set()
        for link in self._links.values():
            if link.lost:
                link.reset()

    async def close_port(self) -> None:
        """Stop listening: connecting fails with "connection refused"; open connections stay."""
        if self._server:
            self._server.close()
            self._server = None

    async def open_port(self) -> None:
        """Listen again, on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, _HOST, self.port, reuse_port=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self._faults, self._target, reader, writer)
        if self._faults.refusals:
            self._faults.refusals -= 1
            self._faults.fired[Fault.REFUSE] += 1
            link.reset()
            return
        task = asyncio.create_task(link.run())
        self._links[task] = link
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._links[task]
        if not task.cancelled() and isinstance(failure := task.exception(), Exception):
            self._failures.append(failure)
