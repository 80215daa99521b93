"""A customer's open page, without a server: it drives the ASGI handler by hand and keeps what it was sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mpesa_sync.live.connection import Message
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.stream import serve_stream
from mpesa_sync.web.streams import refusal

_DEADLINE_S: Final = 20.0


@dataclass(frozen=True)
class Said:
    """One event: its name, its id, and its data."""

    name: str
    id: str | None
    data: Any

    @property
    def version(self) -> tuple[str, int]:
        """Epoch and number of a frame."""
        assert self.id is not None
        epoch, _, number = self.id.partition(":")
        return epoch, int(number)

    @property
    def methods(self) -> list[str]:
        """What the frame offers."""
        return [method["id"] for method in self.data["methods"]]


class Page:
    """What one client got, and the connection under it, unless `has_wire` is False."""

    def __init__(
        self,
        hub: Hub,
        bar_id: UUID,
        *,
        last_event_id: str | None = None,
        address: str = "192.0.2.1",
        has_wire: bool = True,
    ) -> None:
        self._hub = hub
        self._bar_id = bar_id
        self._last_event_id = last_event_id
        self._address = address
        self._has_wire = has_wire
        self._left = asyncio.Event()
        self._news = asyncio.Event()
        self._reads = asyncio.Event()
        self._reads.set()
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.body = b""
        self.writes = 0
        self.attempts = 0
        self.aborted = False
        self.is_over = False

    async def run(self) -> None:
        """Be open until the server ends it or `leave`."""
        try:
            await serve_stream(
                self._hub,
                self._receive,
                self._send,
                self._bar_id,
                last_event_id=self._last_event_id,
                address=self._address,
                problem=refusal,
                wire=self if self._has_wire else None,
            )
        finally:
            self.is_over = True
            self._news.set()

    def leave(self) -> None:
        """Close the page."""
        self._left.set()

    def stop_reading(self) -> None:
        """Take nothing from now on."""
        self._reads.clear()

    def read_again(self) -> None:
        """Take what comes."""
        self._reads.set()

    def write_now(self, body: bytes) -> bool:
        """Take what the server writes without waiting."""
        if not self._reads.is_set():
            return False
        self.attempts += 1
        self._take(body)
        return True

    def abort(self) -> None:
        """Be cut off."""
        self.aborted = True

    def _take(self, body: bytes) -> None:
        self.writes += 1
        self.body += body
        self._news.set()

    async def _receive(self) -> Message:
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.attempts += 1
            await self._reads.wait()
            self._take(message["body"])
        self._news.set()

    @property
    def events(self) -> list[Said]:
        """Everything that was said, in order."""
        said = []
        for block in self.body.decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines())
            if "event" in fields:
                said.append(Said(fields["event"], fields.get("id"), json.loads(fields["data"])))
        return said

    @property
    def frames(self) -> list[Said]:
        """The frames among it."""
        return [said for said in self.events if said.name == "payment-methods"]

    @property
    def names(self) -> list[str]:
        """The names of the events."""
        return [said.name for said in self.events]

    async def next(self) -> None:
        """Wait until something more is said."""
        self._news.clear()
        await self._news.wait()

    async def until(self, is_so: Callable[[Page], bool], *, within_s: float = _DEADLINE_S) -> None:
        """Wait until the page is as described."""
        try:
            async with asyncio.timeout(within_s):
                while not is_so(self):
                    assert not self.is_over, f"the stream has ended: {self.events}"
                    await self.next()
        except TimeoutError:
            raise AssertionError(f"not within {within_s} s; the page got {self.events}") from None

    async def until_offers(self, *methods: str, within_s: float = _DEADLINE_S) -> None:
        """Wait until the newest frame offers exactly this."""
        await self.until(lambda page: bool(page.frames) and page.frames[-1].methods == list(methods), within_s=within_s)

    async def until_over(self, *, within_s: float = _DEADLINE_S) -> None:
        """Wait until the server has ended it."""
        async with asyncio.timeout(within_s):
            while not self.is_over:
                await self.next()


@asynccontextmanager
async def open_page(hub: Hub, bar_id: UUID, **options: Any) -> AsyncIterator[Page]:
    """Open a page, and close it at the end."""
    page = Page(hub, bar_id, **options)
    task = asyncio.create_task(page.run())
    try:
        yield page
    finally:
        page.leave()
        page.read_again()
        await task
