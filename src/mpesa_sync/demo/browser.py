"""`Browser`: a small HTTP client for the story: one cookie, forms, JSON, and a live stream read frame by frame."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

_TIMEOUT_S: Final = 20.0
_JSON: Final = "application/json"
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as a text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """Return the body as a JSON value."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Frame:
    """One event of a stream, and when it came (`time.perf_counter`, seconds)."""

    name: str
    id: str
    data: Any
    at: float

    @property
    def methods(self) -> list[str]:
        """Return the ids of what is offered."""
        return [method["id"] for method in self.data["methods"]]


class Browser:
    """Somebody who asks a site, and keeps its cookie.

    Arguments:
        url: of the site, `http://host:port`.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.cookie = ""

    async def get(self, path: str, **headers: str) -> Answer:
        """Return what is at a path; `headers` with `_` for `-`."""
        return await self._ask("GET", path, _named(headers), b"")

    async def post_form(self, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """Send a form as a browser does."""
        named = {"origin": self.url, "content-type": _FORM, **_named(headers)}
        return await self._ask("POST", path, named, urlencode(fields).encode())

    async def post_json(self, path: str, body: Mapping[str, Any], **headers: str) -> Answer:
        """Send a JSON object as a program does."""
        return await self._ask("POST", path, {"content-type": _JSON, **_named(headers)}, json.dumps(body).encode())

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await self._sent(method, path, {"connection": "close", **headers}, body)
            try:
                status, found = await _head(reader)
                content = b"".join([part async for part in _parts(reader, found)])
            finally:
                await _closed(writer)
        if (set_cookie := found.get("set-cookie")) is not None:
            self.cookie = set_cookie.partition(";")[0]
        return Answer(status, found, content)

    async def _sent(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        site = urlsplit(self.url)
        lines = {"host": site.netloc, "content-length": str(len(body)), **headers}
        if self.cookie:
            lines["cookie"] = self.cookie
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        reader, writer = await asyncio.open_connection(site.hostname, site.port)
        writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return reader, writer

    @asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[Stream]:
        """Open a stream of events, and close it at the end."""
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await self._sent("GET", path, {"accept": "text/event-stream"}, b"")
            status, headers = await _head(reader)
        stream = Stream(status, headers)
        task = asyncio.create_task(stream.follow(_parts(reader, headers)))
        try:
            yield stream
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                await task
            await _closed(writer)


class Stream:
    """An open stream: `frames` is everything that has come so far, in its order."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.frames: list[Frame] = []
        self._news = asyncio.Event()

    async def follow(self, parts: AsyncIterator[bytes]) -> None:
        """Take in what comes until it ends."""
        held = b""
        async for part in parts:
            held += part
            at = time.perf_counter()
            while b"\n\n" in held:
                block, _, held = held.partition(b"\n\n")
                fields = dict(line.partition(": ")[::2] for line in block.decode().splitlines())
                if "event" in fields:
                    data = json.loads(fields.get("data") or "null")
                    self.frames.append(Frame(fields["event"], fields.get("id", ""), data, at))
            self._news.set()

    async def until(self, is_so: Callable[[Frame], bool], *, after: int, within_s: float) -> Frame | None:
        """Return the first event that is as described, None where none comes in time.

        Arguments:
            after: how many events to pass over: those that were there before.
            within_s: seconds.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while True:
                    self._news.clear()
                    for frame in self.frames[after:]:
                        if is_so(frame):
                            return frame
                    await self._news.wait()
        return None


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(first.split(" ", 2)[1]), headers


async def _parts(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
    """Give the body as it comes, without the framing of HTTP."""
    if headers.get("transfer-encoding") != "chunked":
        yield (
            await reader.read()
            if "content-length" not in headers
            else await reader.readexactly(int(headers["content-length"]))
        )
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
