"""The serving process: a socket, the HTTP server in this very event loop, and how it stops: SIGTERM is ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import uvicorn

from mpesa_sync.errors import ConfigurationError, MpesaSyncError
from mpesa_sync.live.hub import Hub
from mpesa_sync.settings import HTTP_HOST, HTTP_PORT
from mpesa_sync.web.protocol import Protocol
from mpesa_sync.web.security import SecurityHeaders

DRAIN_S: Final = 5.0
"""How long streams get to say goodbye, before the server is stopped."""
_STOP_S: Final = 3
_BACKLOG: Final = 2_048


class ServerEnded(MpesaSyncError):
    """The HTTP server ended although nobody had asked it to."""

    code = "server_ended"


@dataclass(frozen=True, slots=True)
class Running:
    """A server that serves: the address that a browser on this machine opens, and the task that it runs in."""

    url: str
    task: asyncio.Task[None]

    def check(self) -> None:
        """Raise where the server has ended.

        Raises:
            ServerEnded: names the kind of the error that ended it, which is its cause.
        """
        if self.task.done():
            cause = None if self.task.cancelled() else self.task.exception()
            why = "" if cause is None else f" ({type(cause).__name__})"
            raise ServerEnded(f"The HTTP server has ended, and nobody asked it to{why}.") from cause

    async def until(self, stop: asyncio.Event) -> None:
        """Wait until `stop` is set.

        Raises:
            ServerEnded: the server ended before.
        """
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({self.task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if not stop.is_set():
            self.check()


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the stop goes through the hub first."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.began = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to whoever runs this process."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so where it has."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            self.began.set()


def bound(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 takes any free one.

    Raises:
        ConfigurationError: the port is taken, or the address is not one of this machine.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise refused_address(host, port, exc) from None


def refused_address(host: str, port: int, exc: OSError) -> ConfigurationError:
    """Return what to say where the kernel does not give an address, and the remedy."""
    if exc.errno == errno.EADDRINUSE:
        return ConfigurationError(
            [f"port {port} on {host} is taken by another program: stop it, or set {HTTP_PORT} (--port) to another"]
        )
    return ConfigurationError(
        [f"cannot listen on {host}, port {port} ({os.strerror(exc.errno or 0)}): see {HTTP_HOST} and {HTTP_PORT}"]
    )


def allow_open_files() -> int:
    """Let this process have as many open files as the system allows it, one for each open page; return how many."""
    _soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def url_of(listening: socket.socket) -> str:
    """Return the address that a browser on this machine opens."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - said, not listened on
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def serving(app: SecurityHeaders, hub: Hub, listening: socket.socket) -> AsyncIterator[Running]:
    """Serve while the block runs; then let streams say goodbye, and stop within its deadline.

    Arguments:
        app: the application.
        hub: already started; it is drained before the server stops, and closed by whoever started it.
        listening: from `bound`; it is closed at the end.
    Raises:
        ServerEnded: it does not even start.
    """
    app_: Any = app
    server = _Server(
        uvicorn.Config(
            app_,
            http=Protocol,
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            workers=1,  # given, so that no variable of the environment decides
            proxy_headers=False,  # `web.forwarded` does it, by the settings
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_STOP_S,
        )
    )
    url = url_of(listening)  # a server that ends closes it
    task = asyncio.create_task(server.serve(sockets=[listening]))
    began = asyncio.create_task(server.began.wait())
    try:
        await asyncio.wait({task, began}, return_when=asyncio.FIRST_COMPLETED)
        running = Running(url, task)
        running.check()
        yield running
        for accepting in server.servers:
            accepting.close()
        await hub.drain(DRAIN_S)
    finally:
        began.cancel()
        server.should_exit = True
        await asyncio.wait({task})
        listening.close()
    await task
