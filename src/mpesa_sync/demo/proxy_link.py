"""One connection through the proxy: what passes, what is recognised, and what a fault does to it.

Reads just enough of PostgreSQL's frontend/backend protocol 3 ("Message Formats") to see a statement
executed and an answer complete. No parameter, password or row is looked at, kept or logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

_CANCEL_REQUEST: Final = 80877102
_ENCRYPTION_REQUESTS: Final = frozenset({80877103, 80877104})  # SSLRequest, GSSENCRequest
_STARTUP_LIMIT: Final = 10_000  # bytes, as in the server itself; more is no startup message
_ENDS_A_REQUEST: Final = frozenset("QSF")  # Query, Sync, FunctionCall: one ReadyForQuery each
_READY: Final = ord("Z")
_NOTIFICATION: Final = ord("A")
_LOST: Final = (OSError, asyncio.IncompleteReadError)
# `END` counts only alone: within several statements it nearly always ends a function body.
_COMMIT: Final = re.compile(
    r"(?:^|;)\s*commit(?:\s+(?:work|transaction))?(?:\s+and\s+(?:no\s+)?chain)?\s*(?:;|\Z)"
    r"|^\s*end(?:\s+(?:work|transaction))?\s*;?\s*\Z",
    re.IGNORECASE,
)


class Fault(StrEnum):
    """What the proxy can do to a connection; the keys of `TcpProxy.fired`."""

    CUT_BEFORE_COMMIT = "cut_before_commit"
    CUT_AFTER_COMMIT = "cut_after_commit"
    CUT_BEFORE_STATEMENT = "cut_before_statement"
    CUT_AFTER_STATEMENT = "cut_after_statement"
    DELAY = "delay"
    BLACK_HOLE = "black_hole"
    REFUSE = "refuse"
    RESET = "reset"


@dataclass(slots=True)
class Cut:
    """An armed cut: let `skip` matching executions pass, then cut at the next `times`."""

    fault: Fault
    times: int
    skip: int = 0
    text: str | None = None  # None: COMMIT

    def falls_on(self, sql: str) -> bool:
        """Whether it is this execution's turn to be cut; counts it."""
        matches = is_commit(sql) if self.text is None else self.text in sql
        if not matches or not self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass(slots=True)
class Faults:
    """What is armed, shared by all connections of one proxy, and how often it did something."""

    cuts: list[Cut] = field(default_factory=list)
    refusals: int = 0
    delay_s: float = 0.0
    delays: int | None = 0  # None: without end
    lifted: asyncio.Event = field(default_factory=asyncio.Event)  # cleared: black hole
    fired: Counter[Fault] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    statements: int = 0
    commits: int = 0

    def due_cut(self, sql: str) -> Fault | None:
        """Count one execution and return the cut that falls on it."""
        self.statements += 1
        self.commits += is_commit(sql)
        return next((cut.fault for cut in self.cuts if cut.falls_on(sql)), None)

    def due_delay_s(self) -> float:
        """Return for how many seconds the next answer is held back, and use that up."""
        if self.delays == 0:
            return 0.0
        if self.delays is not None:
            self.delays -= 1
        self.fired[Fault.DELAY] += 1
        return self.delay_s


def is_commit(sql: str) -> bool:
    """Whether executing `sql` ends a transaction by COMMIT, alone or among several statements."""
    return _COMMIT.search(sql) is not None


class Link:
    """One client's connection to the server. `lost`: the black hole took something from it."""

    def __init__(
        self,
        faults: Faults,
        target: tuple[str, int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.lost = False
        self._faults = faults
        self._target = target
        self._client = reader
        self._writers = [writer]
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}
        # ReadyForQuery messages asked for and passed on; the first answers the startup message.
        self._asked = 1
        self._answered = 0
        self._cut_after: tuple[Fault, int] | None = None

    async def run(self) -> None:
        """Carry the connection until either side closes it or a fault ends it."""
        try:
            with contextlib.suppress(*_LOST):
                await self._carry()
        finally:
            for writer in self._writers:
                writer.close()
            for writer in self._writers:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def reset(self) -> bool:
        """Send a real RST to both sides; return whether there was anything left to reset."""
        alive = False
        for writer in self._writers:
            sock = writer.transport.get_extra_info("socket")
            if sock.fileno() != -1:
                alive = True
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return alive

    async def _carry(self) -> None:
        startup = await self._startup()
        if startup is None:
            return
        try:
            reader, writer = await asyncio.open_connection(*self._target)
        except OSError:
            self.reset()
            return
        self._writers.append(writer)
        writer.write(startup)
        await writer.drain()
        if _startup_code(startup) == _CANCEL_REQUEST:
            await reader.read()  # nothing: the server closes when it has taken note
            return
        pumps = [
            asyncio.create_task(self._from_client(writer)),
            asyncio.create_task(self._from_server(reader)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            ends = await asyncio.gather(*pumps, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _startup(self) -> bytes | None:
        while (message := await self._next(self._client, _read_startup)) is not None:
            if _startup_code(message) not in _ENCRYPTION_REQUESTS:
                return message
            # Refused here: what is encrypted cannot be read, and this is loopback.
            self._writers[0].write(b"N")
        return None

    async def _next(
        self, reader: asyncio.StreamReader, read: Callable[[asyncio.StreamReader], Awaitable[bytes]]
    ) -> bytes | None:
        """Return the next message that comes through, None at the end of the connection."""
        while True:
            try:
                message = await read(reader)
            except _LOST:
                message = None
            if not self._swallowed():
                return message
            if message is None:
                # Whoever is at the other end must not learn that this end is gone.
                await self._faults.lifted.wait()
                return None

    def _swallowed(self) -> bool:
        if self._faults.lifted.is_set():
            return False
        if not self.lost:
            self.lost = True
            self._faults.fired[Fault.BLACK_HOLE] += 1
        return True

    async def _from_client(self, server: asyncio.StreamWriter) -> None:
        while (message := await self._next(self._client, _read_message)) is not None:
            kind = chr(message[0])
            self._faults.messages[kind] += 1
            sql = self._executed(kind, message[5:])
            match None if sql is None else self._faults.due_cut(sql):
                case None:
                    pass
                case Fault.CUT_AFTER_COMMIT | Fault.CUT_AFTER_STATEMENT as fault:
                    self._cut_after = (fault, self._asked)
                case fault:
                    self._faults.fired[fault] += 1
                    self.reset()
                    return
            if kind in _ENDS_A_REQUEST:
                self._asked += 1
            server.write(message)
            await server.drain()

    async def _from_server(self, server: asyncio.StreamReader) -> None:
        client = self._writers[0]
        begins = True  # the next message is the first of an answer
        while (message := await self._next(server, _read_message)) is not None:
            ready = message[0] == _READY
            if self._cut_after is not None and self._answered >= self._cut_after[1]:
                if ready:
                    self._faults.fired[self._cut_after[0]] += 1
                    break
                continue
            # Not while signing in, which is one long answer to the startup message.
            if begins and self._answered and (delay_s := self._faults.due_delay_s()):
                await asyncio.sleep(delay_s)
                if self._swallowed():
                    continue
            begins = ready or (begins and message[0] == _NOTIFICATION)
            self._answered += ready
            client.write(message)
            await client.drain()
        if self._cut_after is not None:
            self.reset()

    def _executed(self, kind: str, body: bytes) -> str | None:
        """Return the SQL that this message executes, None where it executes nothing."""
        match kind:
            case "Q":
                return _text(body.rstrip(b"\0"))
            case "P":
                name, sql = body.split(b"\0")[:2]
                self._prepared[name] = _text(sql)
            case "B":
                portal, name = body.split(b"\0", 2)[:2]
                self._portals[portal] = self._prepared.get(name, "")
            case "C" if body[:1] == b"S":
                self._prepared.pop(body[1:].rstrip(b"\0"), None)
            case "E":
                return self._portals.get(body.split(b"\0", 1)[0], "")
        return None


async def _read_startup(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    length = int.from_bytes(head)
    if not 8 <= length <= _STARTUP_LIMIT:
        raise ConnectionError("not a PostgreSQL client")
    return head + await reader.readexactly(length - 4)


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(int.from_bytes(head[1:]) - 4)


def _startup_code(message: bytes) -> int:
    return int.from_bytes(message[4:8])


def _text(sql: bytes) -> str:
    return sql.decode("utf-8", "replace")
