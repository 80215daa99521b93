"""Channels for alerts as real HTTP endpoints on this machine: good ones, and those that fail in every way they can."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import alerts
from mpesa_sync.db.alerts import Occurrence
from mpesa_sync.db.pool import Database
from mpesa_sync.jobs import sending, worker
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.jobs.worker import Jobs
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.sync.alert_kinds import AlertKind
from tests.support.occurrences import occurrence

DEADLINE_S: Final = 40.0
"""Above the claim on a message, after which another worker sends it."""
FAST: Final = Pace(
    look_every_s=0.05, poll_every_s=0.2, first_retry_s=0.05, longest_retry_s=0.2, uniform=lambda _low, high: high
)
"""Looks all the time, and tries again at once."""
FLOOD_BYTES: Final = 300_000_000
_REASONS: Final = {200: "OK", 302: "Found", 500: "Internal Server Error"}


class Endpoints:
    """A server whose paths are channels. `does` says how a path behaves: `good` unless set.

    `good` takes a message, `broken` answers 500, `hangs` never answers, `trickles` answers a byte now and then,
    `redirects` points at the path /elsewhere, `floods` takes a message and says `FLOOD_BYTES` about it.
    """

    def __init__(self) -> None:
        self.port = 0
        self.does: dict[str, str] = defaultdict(lambda: "good")
        self.heard: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.tries: dict[str, int] = defaultdict(int)
        self._changed = asyncio.Condition()

    def url(self, path: str) -> Secret:
        """Return the URL of a channel, as Apprise writes it."""
        return Secret(f"json://127.0.0.1:{self.port}/{path}")

    async def has(self, path: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until a channel has taken so many messages, and return them."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.heard[path]) >= count)
        return self.heard[path]

    async def tried(self, path: str, count: int = 1) -> None:
        """Wait until so many messages have come to a channel, taken or not."""
        async with asyncio.timeout(DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: self.tries[path] >= count)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            path = head.split(" ", 2)[1].lstrip("/")
            length = [int(line.split(":")[1]) for line in head.lower().splitlines() if line.startswith("content-len")]
            said = json.loads(await reader.readexactly(length[0])) if length else {}
            behaviour = self.does[path]
            async with self._changed:
                self.tries[path] += 1
                if behaviour == "good":
                    self.heard[path].append(said)
                self._changed.notify_all()
            if behaviour == "hangs":
                await reader.read()
            elif behaviour == "trickles":
                await self._trickle(writer)
            elif behaviour == "floods":
                await self._flood(writer)
            else:
                status = {"good": 200, "broken": 500, "redirects": 302}[behaviour]
                writer.write(
                    f"HTTP/1.1 {status} {_REASONS[status]}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n"
                    "connection: close\r\n\r\n".encode()
                )
                await writer.drain()

    async def _flood(self, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {FLOOD_BYTES}\r\n\r\n".encode())
        part = bytes(1_000_000)
        for _ in range(FLOOD_BYTES // len(part)):
            writer.write(part)
            await writer.drain()

    async def _trickle(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
        while True:  # until the client goes away, or the server is closed
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.05)


def processes() -> set[int]:
    """Return the processes of this one that send; also those that have ended and that nobody has asked about."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(")")
            state, parent = rest.split()[:2]
            is_over = state == "Z" and "(python" in name  # its arguments are gone
            command = stat.with_name("cmdline").read_bytes()
            if int(parent) == os.getpid() and (is_over or sending.__file__.encode() in command):
                found.add(int(stat.parent.name))
    return found


@asynccontextmanager
async def endpoints() -> AsyncIterator[Endpoints]:
    """Give a server of channels, until the block ends."""
    found = Endpoints()
    serving: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(found.serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)
        task.add_done_callback(lambda ended: writer.transport.abort() if ended.cancelled() else writer.close())

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()
        for task in list(serving):
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # for the transports, which end one turn of the loop later


@dataclass(frozen=True)
class Working:
    """Background work in this process, on one database."""

    jobs: Jobs


async def prepared(database: Database, url: str, *channels: Secret, pace: Pace = FAST, **settings: Any) -> Jobs:
    """Return what background work with these channels is done with."""
    return await worker.prepared(database, Secret(url), Settings(alert_urls=channels, **settings), pace)


@asynccontextmanager
async def working(
    database: Database, url: str, *channels: Secret, pace: Pace = FAST, **settings: Any
) -> AsyncIterator[Working]:
    """Do background work with these channels, until the block ends."""
    jobs = await prepared(database, url, *channels, pace=pace, **settings)
    async with worker.running(jobs):
        yield Working(jobs)


def seen_now(bar: UUID | None, kind: str = AlertKind.SYNC_FAILED, **more: Any) -> Occurrence:
    """Return something that a person must know of, seen now by the machine's clock, and about no operation."""
    now = datetime.now(UTC)
    return replace(
        occurrence(
            bar,
            kind,
            sqlstate="55P03",
            what_to_do="Look at the database.",
            operation_id=None,
            first_seen=now,
            last_seen=now,
        ),
        **more,
    )


async def raised(connection: Any, bar: UUID | None, kind: str = "sync_failed", **more: Any) -> UUID:
    """Store an alert and return its id."""
    found = await alerts.count_occurrence(connection, seen_now(bar, kind, **more))
    assert found is not None
    return found


async def until(connection: Any, statement: str, *arguments: Any, says: Callable[[Any], bool] = bool) -> Any:
    """Ask the database again and again until the answer is as wanted, and return it."""
    async with asyncio.timeout(DEADLINE_S):
        while not says(answer := await connection.fetchval(statement, *arguments)):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)  # what is waited for needs the processor, too
    return answer
