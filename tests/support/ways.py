"""`Way`: a plain relay between a browser and a site, which can be cut and can stall, both without a word to either."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

_HOST: Final = "127.0.0.1"
_STREAM: Final = b"content-type: text/event-stream"


class Way:
    """A relay on a free port of this machine. `url` is the site's address by this way."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._open: set[asyncio.StreamWriter] = set()
        self._flows = asyncio.Event()
        self._flows.set()
        self.url = ""
        self.cuts = 0
        """How many connections were cut."""

    def cut(self) -> None:
        """Reset every connection; what was on its way is lost. New ones get through."""
        self._flows.set()
        for writer in self._open:
            self.cuts += 1
            writer.transport.abort()

    def stall(self) -> None:
        """Keep connections open, and hold back from now on whatever comes on streams; other answers pass."""
        self._flows.clear()

    def go_on(self) -> None:
        """Pass on what was held back, in order."""
        self._flows.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side ends it."""
        self._open.add(writer)
        try:
            with contextlib.suppress(OSError):
                answers, asks = await asyncio.open_connection(self._target.hostname, self._target.port)
                there = asyncio.create_task(self._pass(reader, asks))
                back = asyncio.create_task(self._pass(answers, writer, held=True))
                await asyncio.wait({there, back}, return_when=asyncio.FIRST_COMPLETED)
                for task in (there, back):
                    task.cancel()
                asks.transport.abort()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, held: bool = False) -> None:
        is_stream = False
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                is_stream = is_stream or (held and _STREAM in data)
                if is_stream:
                    await self._flows.wait()
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def way_to(target: str) -> AsyncIterator[Way]:
    """Open a way to a site, until the block ends."""
    way = Way(target)
    server = await asyncio.start_server(way.carry, _HOST, 0)
    way.url = f"http://{_HOST}:{server.sockets[0].getsockname()[1]}"
    try:
        yield way
    finally:
        server.close()
        way.cut()
