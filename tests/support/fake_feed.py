"""The pages with a feed that does as it is told: answers, goes silent, goes stale, refuses.

Only what is awkward to bring about on a real server is played here; the real one has its own tests.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from playwright.async_api import Page

from mpesa_sync.domain.bars import BarFacts
from mpesa_sync.web import pages, status_view, views
from mpesa_sync.web.cors import SCRIPT
from mpesa_sync.web.customer import drop_in
from tests.support.pages import BAR, facts, mpesa, row, status_of

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HOST: Final = "/host"
"""A page with the drop-in."""
_HOST_PAGE: Final = f"""<!doctype html><title>Host</title><main></main>
<mpesa-methods bar="mama-njeri"></mpesa-methods><script src="{SCRIPT}"></script>"""
_DEADLINE_S: Final = 20.0


class FakeFeed:
    """A server of one bar. `methods` and `number` are the answer; `has_stream` False refuses streams alone,
    `is_known` False knows no bar. While `answers` is cleared, nothing that is asked is answered."""

    def __init__(self) -> None:
        self.methods: Sequence[str] = ("mpesa", "card", "cash")
        self.number = 7
        self.facts: BarFacts = facts(row())
        self.has_stream = True
        self.is_stale = False
        self.is_known = True
        self.opened: list[str] = []
        self.polls = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.address = ""
        self._streams: set[asyncio.StreamWriter] = set()

    @property
    def version(self) -> str:
        """The version of the answer."""
        return f"e:{self.number}"

    def change(self, *methods: str) -> None:
        """Change the answer and send it to every stream."""
        self.methods, self.number = methods, self.number + 1
        self.send_frame()

    def send_frame(self, methods: Sequence[str] | None = None, version: str | None = None) -> None:
        """Send a frame, of another version where one is given."""
        self.send("payment-methods", self._answer(methods or self.methods, version or self.version))

    def send(self, event: str, data: str = "{}") -> None:
        """Send one event to every stream."""
        for stream in self._streams:
            stream.write(f"event: {event}\ndata: {data}\n\n".encode())

    def cut(self) -> None:
        """End every stream."""
        for stream in self._streams:
            stream.close()

    @staticmethod
    def _answer(methods: Sequence[str], version: str) -> str:
        return json.dumps({"methods": [{"id": one, "label": one} for one in methods], "version": version})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request on one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            await self.answers.wait()
            url = urlsplit(head.split(" ")[1])
            if url.path.endswith("/events"):
                await self._stream(reader, writer, parse_qs(url.query).get("last_event_id", [""])[0])
                return
            status, kind, body = self._page(url.path, head)
            length = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{length}Content-Security-Policy: {POLICY}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the browser has gone
        finally:
            self._streams.discard(writer)
            writer.close()

    def _page(self, path: str, head: str) -> tuple[int, str, bytes]:
        html = "text/html; charset=utf-8"
        if path.startswith("/static/"):
            asset = pages.assets()[path.removeprefix("/static/")]
            return 200, asset.content_type, asset.body
        if path == SCRIPT:
            return 200, "text/javascript", drop_in.script()[0]
        if path == HOST:
            return 200, html, _HOST_PAGE.encode()
        if path.endswith("/payment-methods"):
            self.polls += 1
            if not self.is_known:
                return 404, "application/json", b"{}"
            known = re.search('if-none-match: "(.*)"', head, re.I)
            if known and known[1] == self.version:
                return 304, "application/json", b""
            return 200, "application/json", self._answer(self.methods, self.version).encode()
        if path.endswith("/status"):
            return 200, "application/json", json.dumps(status_view.status_json(status_of(self.facts))).encode()
        if path.startswith("/staff/"):
            return 200, html, pages.render("mpesa.html", view=mpesa(self.facts)).encode()
        menu = views.menu(str(BAR), "Mama Njeri's Kitchen", self.methods, self.version)
        return 200, html, pages.render("menu.html", view=menu).encode()

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: str) -> None:
        if not (self.has_stream and self.is_known):
            writer.write(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        self.opened.append(seen)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n:\n\n")
        first = "" if seen == self.version else self._answer(self.methods, self.version)
        writer.write(f"event: payment-methods\ndata: {first}\n\n".encode() if first else b"")
        writer.write(b"event: stale\ndata: {}\n\n" if self.is_stale else b"")
        self._streams.add(writer)
        await reader.read()


@asynccontextmanager
async def fake_feed() -> AsyncIterator[FakeFeed]:
    """Serve the pages on a free port of this machine."""
    feed = FakeFeed()
    server = await asyncio.start_server(feed.serve, "127.0.0.1", 0)
    feed.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield feed
    finally:
        server.close()
        feed.cut()


async def shown(page: Page) -> list[str]:
    """Return the methods that a page lets choose."""
    ids: list[str] = await page.eval_on_selector_all("#methods > li", "all => all.map(one => one.dataset.method)")
    return ids


async def until(page: Page, says: str, wanted: Any = True) -> None:
    """Wait until an expression has a value in a page; the policy forbids the browser to wait by itself."""
    value: Any = None
    try:
        async with asyncio.timeout(_DEADLINE_S):
            while (value := await page.evaluate(f"() => ({says})")) != wanted:
                await page.evaluate("() => new Promise(requestAnimationFrame)")
    except TimeoutError:
        raise AssertionError(f"{says} is {value!r}, not {wanted!r}") from None


async def until_shown(page: Page, *methods: str) -> None:
    """Wait until a page lets choose exactly this."""
    await until(page, "[...document.querySelectorAll('#methods > li')].map(one => one.dataset.method)", list(methods))


async def until_state(page: Page, state: str) -> None:
    """Wait until a customers' page is in this state."""
    await until(page, "document.querySelector('main').dataset.state", state)
