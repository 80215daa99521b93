"""Uvicorn beside Granian with one and the same application (decision 11): `python -m benchmarks --only servers`.

Run with arguments, `KIND PORT [bare] [drain]`, it is the server that is measured, in a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import uvicorn
import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as Granian
from litestar import Litestar, get
from litestar.handlers import asgi
from litestar.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from benchmarks.place import median

KINDS: Final = ("uvicorn", "uvicorn-strict", "granian")
STREAMS, CLIENTS, ROUNDS, BROADCASTS = 1_000, 16, 7, 15
SECONDS, GRACE_S, GIVE_UP_S = 2.0, 3, 10.0
FLOOD: Final = 64 * 2**20
_FRAME: Final = b"event: payment-methods\nid: 0:0\ndata: " + b"x" * 260 + b"\n\n"
_CHUNK: Final = b"x" * 4096
_FRAMED: Final = len(_CHUNK) + len(b"1000\r\n\r\n")
Pair = tuple[float, float]
Table = list[list[str]]

ANSWER: Final = {"methods": [{"id": n, "label": n.title()} for n in ("cash", "mpesa", "card")], "version": "epoch:1"}

open_streams: set[Send] = set()
tasks: list[asyncio.Future[None]] = []
state = {"gone_at": 0.0, "accepted": 0}


def _body(body: bytes, *, more: bool = True) -> Any:
    return {"type": "http.response.body", "body": body, "more_body": more}


async def _stream(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    await send(_body(_FRAME))
    open_streams.add(send)
    heard = "cancelled"
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
        heard = "disconnect"
    finally:
        state["gone_at"] = time.monotonic()
        open_streams.discard(send)
        print(f"{heard}={time.monotonic()}", flush=True)


async def _flood(send: Send) -> None:
    while state["accepted"] < FLOOD:
        await send(_body(_CHUNK))
        state["accepted"] += len(_CHUNK)
        await asyncio.sleep(0)


async def _control(scope: Scope, receive: Receive, send: Send) -> None:
    what = bytes(scope["query_string"])
    said: dict[str, Any] = {"began": time.monotonic(), "cpu": time.process_time(), "open": len(open_streams), **state}
    if what == b"broadcast":
        tasks[:] = [asyncio.ensure_future(stream(_body(_FRAME))) for stream in open_streams]
    elif what == b"flood":
        tasks[:] = [asyncio.ensure_future(_flood(stream)) for stream in open_streams]
    elif what == b"memory":
        gc.collect()
        said["rss"] = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")  # noqa: ASYNC240
    text = msgspec.json.encode(said)
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send(_body(text, more=False))


@get("/json")
async def _constant() -> dict[str, Any]:
    return ANSWER


MOUNTED: Final = [asgi("/events", copy_scope=False)(_stream), asgi("/control", copy_scope=False)(_control)]
ENDED: Final = [lambda: print(f"lifespan ended={time.monotonic()}", flush=True)]
application = Litestar([_constant, *MOUNTED], on_shutdown=ENDED, openapi_config=None, logging_config=None)


async def bare(scope: Any, receive: Any, send: Any) -> None:
    """Serve the same streams without a framework."""
    await (_stream if scope["path"] == "/events" else _control)(scope, receive, send)


class StrictProtocol(HttpToolsProtocol):
    """On a stream, `send` waits as soon as the kernel has not taken everything; other answers keep their buffer."""

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        if self.scope["path"].endswith("/events"):
            self.transport.set_write_buffer_limits(high=0)


def _on_terminate(stop: Callable[[], Any], *, drain: bool) -> None:
    async def end() -> None:
        for send in list(open_streams) if drain else []:
            await send(_body(b"event: bye\ndata: {}\n\n", more=False))
        stop()

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, lambda: tasks.append(loop.create_task(end())))


async def _serve(kind: str, port: int, app: Any, *, drain: bool) -> None:
    if kind == "granian":
        how = {"interface": Interfaces.ASGI, "http": HTTPModes.http1, "websockets": False, "log_enabled": False}
        embedded = Granian(app, port=port, backlog=2048, backpressure=4096, **cast(Any, how))
        embedded.workers_kill_timeout = GRACE_S
        _on_terminate(cast(Any, embedded).stop, drain=drain)
        await embedded.serve()
        return
    protocol: Any = StrictProtocol if kind == "uvicorn-strict" else "httptools"
    quiet: Any = {"log_level": "critical", "access_log": False, "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(app, port=port, http=protocol, timeout_graceful_shutdown=GRACE_S, **quiet))
    if drain:  # whoever owns the signals: Uvicorn takes them in `serve` and raises them again at its end
        cast(Any, server).capture_signals = contextlib.nullcontext
        _on_terminate(lambda: setattr(server, "should_exit", True), drain=True)
    await server.serve(sockets=[server.config.bind_socket()])


class _Client(asyncio.Protocol):
    """Counts what it gets, all of a target in one tally; asks for an answer again as soon as it is there."""

    def __init__(self, path: str, tally: _Target) -> None:
        self.request = f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
        self.tally, self.end = tally, b"\n\n" if path == "/events" else b'epoch:1"}'

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.tally.transports.append(self.transport)
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if found := data.count(self.end):
            self.tally.seen += found
            self.tally.at = time.monotonic()
            if self.end != b"\n\n":
                self.transport.write(self.request)


class _Target:
    """A server in a process of its own, and its clients."""

    def __init__(self, kind: str, port: int, process: asyncio.subprocess.Process) -> None:
        self.kind, self.port, self.process = kind, port, process
        self.seen, self.at = 0, 0.0
        self.transports: list[asyncio.Transport] = []

    async def ask(self, what: str = "") -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET /control?{what} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return cast(dict[str, Any], msgspec.json.decode(answer.partition(b"\r\n\r\n")[2]))

    async def open(self, path: str, count: int) -> None:
        self.seen, loop = 0, asyncio.get_running_loop()
        for _ in range(count):
            await loop.create_connection(lambda: _Client(path, self), "127.0.0.1", self.port)
        await self.has_seen(count if path == "/events" else 0)

    async def has_seen(self, count: int) -> None:
        async with asyncio.timeout(GIVE_UP_S):
            while self.seen < count:  # noqa: ASYNC110 - a wake for each event would cost the server its core
                await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def _running(kind: str, *options: str) -> AsyncIterator[_Target]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "benchmarks.servers", kind, str(port), *options]
    pipe, null = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=null, start_new_session=True)
    target = _Target(kind, port, process)
    try:
        while process.returncode is None and socket.socket().connect_ex(("127.0.0.1", port)):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        yield target
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _requests(target: _Target) -> Pair:
    before, began = await target.ask(), time.monotonic()
    await target.open("/json", CLIENTS)
    await asyncio.sleep(SECONDS)
    seen, elapsed = target.seen, time.monotonic() - began
    for transport in target.transports:
        transport.abort()
    return seen / elapsed, ((await target.ask())["cpu"] - before["cpu"]) / seen * 1e6


async def _broadcast(target: _Target) -> Pair:
    target.seen = 0
    sent = await target.ask("broadcast")
    await target.has_seen(STREAMS)
    return (target.at - sent["began"]) * 1e3, ((await target.ask())["cpu"] - sent["cpu"]) / STREAMS * 1e6


async def _alternating(measured: Callable[..., Awaitable[Pair]], rounds: int, streams: int) -> Table:
    async with contextlib.AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(_running(kind)) for kind in KINDS]
        for target in targets:
            await target.open("/events", streams)
        found = [[await measured(target) for target in targets] for _ in range(rounds + 1)][1:]  # the first one warms
    return [[f"{median([r[n][figure] for r in found]):,.0f}" for n in range(len(KINDS))] for figure in (0, 1)]


async def _memory(kind: str, *options: str) -> str:
    async with _running(kind, *options) as target:
        await target.open("/events", 50)  # warms the process
        before = await target.ask("memory")
        await target.open("/events", STREAMS)
        return f"{((await target.ask('memory'))['rss'] - before['rss']) / STREAMS / 1024:.1f} KiB"


async def _disconnect(kind: str) -> str:
    async with _running(kind) as target:
        await target.open("/events", 1)
        began = time.monotonic()
        target.transports[0].close()
        while not (at := (await target.ask())["gone_at"]):
            pass
        return f"{(at - began) * 1e3:.1f} ms"


async def _terminate(kind: str, *options: str) -> str:
    async with _running(kind, *options) as target:
        await target.open("/events", 1)
        began = time.monotonic()
        target.process.terminate()
        told, _ = await asyncio.wait_for(target.process.communicate(), GIVE_UP_S)
        heard = [line.split("=") for line in told.decode().splitlines()]
        after = [f"{what} {float(at) - began:.1f} s" for what, at in heard]
        return f"{', '.join(after)}; ends {time.monotonic() - began:.1f} s, code {target.process.returncode}"


async def _back_pressure(kind: str) -> str:
    async with _running(kind) as target:
        with socket.create_connection(("127.0.0.1", target.port)) as silent:
            silent.sendall(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
            while not (await target.ask())["open"]:
                pass
            await target.ask("flood")
            accepted = -1
            while (now := (await target.ask())["accepted"]) != accepted:
                accepted = now
                await asyncio.sleep(1)
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]  # noqa: ASYNC240
            port = f":{target.port:04X}"
            held = [r[4].split(":") for r in rows if port in (r[1][-5:], r[2][-5:]) and r[3] == "01"]
            beyond = accepted // len(_CHUNK) * _FRAMED - sum(int(n, 16) for sent_got in held for n in sent_got)
    return f"{beyond / 1024:,.0f} KiB" if accepted < FLOOD else "never waits"


async def measure() -> Table:
    """Return a table: its head, then what was measured with a cell for each kind."""
    rates, per_request = await _alternating(_requests, ROUNDS, 0)
    delays, per_delivery = await _alternating(_broadcast, BROADCASTS, STREAMS)
    table = [["what", *KINDS], ["JSON a second, 16 clients", *rates], ["CPU a request, µs", *per_request]]
    table += [["broadcast to the last of 1,000, ms", *delays], ["CPU a delivery, µs", *per_delivery]]
    singly: list[tuple[str, Callable[..., Awaitable[str]], list[str]]] = [
        ("memory a stream, in Litestar", _memory, []),
        ("memory a stream, bare ASGI", _memory, ["bare"]),
        ("a client's close reaches the handler after", _disconnect, []),
        ("SIGTERM with a stream, limit 3 s", _terminate, []),
        ("SIGTERM, streams ended first", _terminate, ["drain"]),
        ("accepted beyond what the kernel holds", _back_pressure, []),
    ]
    return table + [[what, *[await measured(kind, *how) for kind in KINDS]] for what, measured, how in singly]


if __name__ == "__main__":
    _kind, _port, *_options = sys.argv[1:]
    uvloop.run(_serve(_kind, int(_port), bare if "bare" in _options else application, drain="drain" in _options))
