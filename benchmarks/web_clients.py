"""Clients of `benchmarks.web`: streams held here; as processes of their own `load`, `write` and `crowd`.

They are bare protocols on uvloop, so that what is measured is the server.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import secrets
import sys
import time
from pathlib import Path
from typing import Final, cast

import asyncpg
import msgspec
import uvloop

from mpesa_sync.secret import MASK

CLIENTS: Final = 16
WARM_S: Final = 0.5
GIVE_UP_S: Final = 60.0
_LENGTH: Final = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


def bar_id(number: int) -> str:
    """Return the id of a bar of `place.make_fleet`."""
    return f"00000000-0000-4000-8000-{number:012x}"


class Load(msgspec.Struct):
    """What the load client does: `path` is asked for by GET, or, where it is "", settings are saved.

    `pid` is the server's, whose share of a core is read for the same seconds. `bars`: random ones of so many.
    """

    port: int
    pid: int
    seconds: float
    token: str = ""
    path: str = ""
    bars: int = 1
    new_secrets: bool = False


class Loaded(msgspec.Struct):
    """What became of it: answers a second, those that were not 200, and shares of a core."""

    rate: float
    refused: int
    server_share: float
    client_share: float
    median_ms: float
    example: str


class _Asker(asyncio.Protocol):
    """One connection: asks, and asks again as soon as the answer is whole."""

    def __init__(self, load: Load, tally: list[float], refused: list[str]) -> None:
        self._load, self._tally, self._refused = load, tally, refused
        self._buffer, self._enabled = b"", random.random() < 0.5

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def _ask(self) -> None:
        self._began = time.monotonic()
        path = self._load.path
        if path:
            path = path.format(bar=bar_id(random.randint(1, self._load.bars)))
            self._transport.write(f"GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n".encode())
            return
        self._enabled = not self._enabled
        given = [secrets.token_hex(32) if self._load.new_secrets else MASK for _ in range(3)]
        body = msgspec.json.encode(
            {
                "barId": bar_id(random.randint(1, self._load.bars)),
                "mpesa_enabled": self._enabled,
                "mpesa_environment": "production",
                "mpesa_business_shortcode": "600123",
                **dict(zip(("mpesa_consumer_key", "mpesa_consumer_secret", "mpesa_passkey"), given, strict=True)),
            }
        )
        head = (
            f"POST /api/mpesa-settings HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {self._load.token}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._transport.write(head.encode() + body)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if not end or found is None or len(body) < int(found[1]):
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self._refused.append(body.decode())
        self._tally.append(time.monotonic() - self._began)
        self._buffer = b""
        self._ask()


def _cpu_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


async def _load(spec: Load) -> Loaded:
    """Ask from 16 connections for some seconds, after a while that does not count."""
    loop, tally, refused = asyncio.get_running_loop(), list[float](), list[str]()
    for _ in range(CLIENTS):
        await loop.create_connection(lambda: _Asker(spec, tally, refused), "127.0.0.1", spec.port)
    await asyncio.sleep(WARM_S)
    tally.clear()
    refused.clear()
    began, server_cpu, own_cpu = time.monotonic(), _cpu_s(spec.pid), time.process_time()
    await asyncio.sleep(spec.seconds)
    elapsed, done = time.monotonic() - began, sorted(tally)
    return Loaded(
        rate=len(done) / elapsed,
        refused=len(refused),
        server_share=(_cpu_s(spec.pid) - server_cpu) / elapsed,
        client_share=(time.process_time() - own_cpu) / elapsed,
        median_ms=done[len(done) // 2] * 1e3 if done else 0.0,
        example=refused[0] if refused else "",
    )


async def _write() -> None:
    """Read a URL, then `write BAR NAME` or `kill APPLICATION`; say of each when it was acknowledged (monotonic)."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    connection = await asyncpg.connect((await reader.readline()).decode().strip())
    while line := (await reader.readline()).decode().rstrip("\n"):
        what, _, rest = line.partition(" ")
        if what == "write":
            bar, _, name = rest.partition(" ")
            await connection.execute("update public.bars set name = $2 where id = $1", bar, name)
        else:
            await connection.fetch(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1", rest
            )
        print(time.monotonic(), flush=True)


class _Page(asyncio.Protocol):
    """One open stream."""

    def __init__(self, pages: Pages, request: bytes) -> None:
        self._pages, self._request = pages, request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pages.transports.append(cast(asyncio.Transport, transport))
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        self._pages.came(data)


class Pages:
    """Many open streams, and when the last of them has got what is waited for."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._marker, self._wanted, self._seen = b"", 0, 0
        self._arrived: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.transports: list[asyncio.Transport] = []

    def came(self, data: bytes) -> None:
        """Count a stream that has got the marker."""
        if self._marker in data:
            self._seen += 1
            if self._seen == self._wanted and not self._arrived.done():
                self._arrived.set_result(time.monotonic())

    def expect(self, marker: bytes, count: int) -> asyncio.Future[float]:
        """Return when `count` streams will have got bytes that hold the marker (monotonic seconds)."""
        self._marker, self._wanted, self._seen = marker, count, 0
        self._arrived = asyncio.get_running_loop().create_future()
        return self._arrived

    async def open(self, paths: list[str]) -> None:
        """Open a stream for each path, each from an address of its own, and wait for the first frames."""
        first = self.expect(b"event: payment-methods", len(paths))
        await self.connect(paths)
        async with asyncio.timeout(GIVE_UP_S):
            await first

    async def connect(self, paths: list[str], *, spread_s: float = 0.0) -> None:
        """Open a stream for each path; each at a random moment of so many seconds, or one after the other."""
        loop = asyncio.get_running_loop()

        async def one(number: int, path: str, wait_s: float) -> None:
            await asyncio.sleep(wait_s)
            address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
            request = f"GET {path} HTTP/1.1\r\nhost: bench\r\nx-forwarded-for: {address}\r\n\r\n".encode()
            await loop.create_connection(lambda: _Page(self, request), "127.0.0.1", self._port)

        opening = (one(number, path, random.uniform(0.0, spread_s)) for number, path in enumerate(paths))
        if spread_s:
            await asyncio.gather(*opening)
        else:
            for connecting in opening:
                await connecting

    def close(self) -> None:
        """Close every stream."""
        for transport in self.transports:
            transport.abort()
        self.transports.clear()


async def _crowd() -> None:
    """Read a port, a path and a number, open so many streams, say so; then of every marker when all of them have it."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    port, path, count = (await reader.readline()).decode().split()
    pages = Pages(int(port))
    await pages.open([path] * int(count))
    print(time.monotonic(), flush=True)
    while marker := (await reader.readline()).rstrip(b"\n"):
        async with asyncio.timeout(GIVE_UP_S):
            print(await pages.expect(marker, int(count)), flush=True)


def _main(what: str) -> None:
    if what == "load":
        found = uvloop.run(_load(msgspec.json.decode(sys.stdin.buffer.readline(), type=Load)))
        sys.stdout.buffer.write(msgspec.json.encode(found))
    else:
        uvloop.run(_crowd() if what == "crowd" else _write())


if __name__ == "__main__":
    _main(sys.argv[1])
