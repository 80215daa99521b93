"""The head of a request is bounded, in bytes and in time, whatever stands in front (issue 6, slow and oversized)."""

from __future__ import annotations

import asyncio
from typing import Final
from urllib.parse import urlsplit

import pytest

from mpesa_sync.web import protocol
from mpesa_sync.web.protocol import MAX_HEAD
from tests.support.web import Site

_END: Final = b"host: localhost\r\nconnection: close\r\n\r\n"


async def answer_to(site: Site, *parts: bytes) -> bytes:
    """Send this on a connection of its own and return what comes back until the server ends it."""
    at = urlsplit(site.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(30):
            return await reader.read()
    except ConnectionError:  # it does not wait for the rest
        return b""
    finally:
        writer.close()


async def test_a_head_of_usual_size_is_read(site: Site) -> None:
    """A long address and long cookies are no attack."""
    head = b"GET /livez?" + b"x" * 8_000 + b" HTTP/1.1\r\ncookie: a=" + b"y" * 16_000 + b"\r\n"
    assert (await answer_to(site, head, _END)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "begin", [b"GET /", b"GET / HTTP/1.1\r\nx: ", b"GET / HTTP/1.1\r\n"], ids=["line", "one", "many"]
)
async def test_a_head_without_end_is_refused(site: Site, monkeypatch: pytest.MonkeyPatch, begin: bytes) -> None:
    """One address, one header, many headers: refused after the bound of bytes, not after that of time."""
    monkeypatch.setattr(protocol, "HEAD_S", 100.0)
    more = b"x: y\r\n" * 1_000 if begin.endswith(b"\n") else b"x" * 6_000
    rest = [more] * (16 * MAX_HEAD // len(more))
    answer = await answer_to(site, begin, *rest)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert b" 200 " not in answer
    assert (await site.client.get("/livez")).status_code == 200


@pytest.mark.parametrize("begin", [b"", b"GET /livez HTTP/1.1\r\nx: y"], ids=["silent", "half"])
async def test_a_connection_that_says_nothing_more_is_ended(
    site: Site, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    """Slow heads: a connection is not held for ever, before its first byte and in the middle."""
    monkeypatch.setattr(protocol, "HEAD_S", 0.2)
    assert await answer_to(site, begin) == b""
