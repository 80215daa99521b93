"""Many open pages over real sockets, each behaving as our page does: it comes back after `bye` and after a loss."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from uuid import UUID

from tests.support.faults import until

_LOST_S = 1.0
"""After a loss a page comes back within this time, at random."""


@dataclass(eq=False)
class Client:
    """One page: what it shows, every version that it was given, and how its streams ended."""

    bar_id: UUID
    address: str
    shown: tuple[str, ...] = ()
    seen: list[tuple[str, int]] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    is_open: bool = False

    @property
    def went_back(self) -> bool:
        """Whether a version was lower than one before it in the same epoch (L3)."""
        return any(
            one[0] == other[0] and other[1] < one[1] for one, other in zip(self.seen, self.seen[1:], strict=False)
        )


class Clients:
    """Pages of these bars in turn, at a server's address."""

    def __init__(self, url: str, bars: Sequence[UUID], count: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._host, self._port = parts.hostname, parts.port
        self._writers: set[asyncio.StreamWriter] = set()
        self.all = [Client(bars[n % len(bars)], f"10.1.{n >> 8}.{n & 255}") for n in range(count)]

    async def until_open(self) -> None:
        """Wait until every page has a stream and something to show."""

        async def are_open() -> bool:
            return all(client.is_open and client.shown for client in self.all)

        await until(are_open)

    async def until_shown(self, wanted: dict[UUID, tuple[str, ...]]) -> None:
        """Wait until every page has a stream and shows what it should."""

        async def are_right() -> bool:
            return all(client.is_open and client.shown == wanted[client.bar_id] for client in self.all)

        await until(are_right)

    async def until_version(self, number: int) -> None:
        """Wait until every page has a stream and has seen this version last."""

        async def are_right() -> bool:
            return all(client.is_open and client.seen[-1][1] == number for client in self.all)

        await until(are_right)

    def cut(self) -> None:
        """Cut every connection at the same moment; each page comes back as after any loss."""
        for writer in list(self._writers):
            writer.transport.abort()

    def ends(self) -> Counter[str]:
        """How streams have ended so far, of all pages."""
        return sum((client.ends for client in self.all), Counter())

    async def live(self, client: Client) -> None:
        """Be one page for ever."""
        while True:
            pause_s, how = random.uniform(0.0, _LOST_S), "lost"
            try:
                pause_s, how = await self._visit(client)
            except (OSError, asyncio.IncompleteReadError) as exc:
                how = "refused" if isinstance(exc, ConnectionRefusedError) else "lost"
            client.is_open = False
            client.ends[how] += 1
            await asyncio.sleep(pause_s)

    async def _visit(self, client: Client) -> tuple[float, str]:
        """Hold one stream; return how long to wait after its end, and how it ended."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        self._writers.add(writer)
        try:
            head = [
                f"GET /api/bars/{client.bar_id}/payment-methods/events HTTP/1.1",
                f"host: {self._host}",
                f"x-forwarded-for: {client.address}",
                *([f"last-event-id: {':'.join(map(str, client.seen[-1]))}"] if client.seen else []),
            ]
            writer.write("\r\n".join([*head, "", ""]).encode())
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            if not answer.startswith("http/1.1 200"):
                return random.uniform(0.0, _LOST_S), answer.split()[1]
            client.is_open = True
            while True:
                bye_s = self._take(client, (await reader.readuntil(b"\n\n")).decode())
                if bye_s is not None:
                    return bye_s, "bye"
        finally:
            self._writers.discard(writer)
            writer.close()

    def _take(self, client: Client, block: str) -> float | None:
        """Take one event; return how long to wait where it is `bye`."""
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line)
        if fields.get("event") == "bye":
            return float(json.loads(fields["data"])["retry_ms"]) / 1000
        if fields.get("event") == "payment-methods":
            epoch, _, number = fields["id"].partition(":")
            client.seen.append((epoch, int(number)))
            client.shown = tuple(method["id"] for method in json.loads(fields["data"])["methods"])
        return None


@asynccontextmanager
async def open_clients(url: str, bars: Sequence[UUID], count: int) -> AsyncIterator[Clients]:
    """Open so many pages, and give them once all show something; they are closed at the end."""
    clients = Clients(url, bars, count)
    tasks = [asyncio.create_task(clients.live(client)) for client in clients.all]
    try:
        await clients.until_open()
        yield clients
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
