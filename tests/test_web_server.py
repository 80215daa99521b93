"""The HTTP server inside the process: one that ends by itself is noticed, at its start and later (issue 3)."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import pytest

from mpesa_sync.web import server
from mpesa_sync.web.app import create_app
from mpesa_sync.web.server import ServerEnded, serving
from tests.support.live_hub import switch
from tests.support.venues import add_bar
from tests.support.web import Site


async def test_a_server_that_does_not_start_gives_no_address(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 3: it ended in its start without any error."""

    async def startup(self: Any, sockets: Any = None) -> None:
        self.should_exit = True

    monkeypatch.setattr("uvicorn.Server.startup", startup)
    listening = server.bound("127.0.0.1", 0)
    with pytest.raises(ServerEnded):
        async with asyncio.timeout(20), serving(create_app(site.context), site.hub, listening):
            pytest.fail("nothing serves")
    assert listening.fileno() == -1


@pytest.mark.parametrize("cause", [None, OSError("the canary")], ids=["ends", "fails"])
async def test_a_server_that_ends_later_ends_the_wait(
    site: Site, monkeypatch: pytest.MonkeyPatch, cause: Exception | None
) -> None:
    """Issue 3: whoever waits for the stop is told, with the kind of the error and not its text."""
    ends = asyncio.Event()

    async def main_loop(_self: Any) -> None:
        await ends.wait()
        if cause is not None:
            raise cause

    monkeypatch.setattr("uvicorn.Server.main_loop", main_loop)
    with pytest.raises(ServerEnded, match="has ended") as ended:
        async with (
            asyncio.timeout(20),
            serving(create_app(site.context), site.hub, server.bound("127.0.0.1", 0)) as running,
        ):
            ends.set()
            await running.until(asyncio.Event())
    assert ended.value.__cause__ is cause
    assert "canary" not in str(ended.value)
    assert ("OSError" in str(ended.value)) == (cause is not None)


async def test_a_stop_that_was_asked_for_is_no_error(site: Site) -> None:
    """Issue 3: also where it was asked for before anybody waited."""
    stop = asyncio.Event()
    stop.set()
    async with serving(create_app(site.context), site.hub, server.bound("127.0.0.1", 0)) as running:
        await running.until(stop)


async def test_a_request_that_is_pipelined_behind_a_stream_spoils_no_frame(site: Site, sql: Any) -> None:
    """Live path: the frames of the stream come whole and in chunks, and the other request waits for its end."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    at = urlsplit(site.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    head = b" HTTP/1.1\r\nhost: localhost\r\n\r\n"
    writer.write(b"GET /api/bars/%b/payment-methods/events" % str(bar).encode() + head + b"GET /livez" + head)
    try:
        async with asyncio.timeout(30):
            assert b"200" in await reader.readuntil(b"\r\n\r\n")
            for is_on in (True, False, True):
                await switch(sql, bar, is_on)
                while True:
                    body = await reader.readexactly(int((await reader.readline()).strip(), 16) + 2)
                    assert body.endswith(b"\n\n\r\n")
                    if b"event: payment-methods" in body and (b'"mpesa"' in body) is is_on:
                        break
    finally:
        writer.close()
