"""The processes that `benchmarks.web` measures: `python -m benchmarks.web_app app|asgi|fanout [BAR]`.

`app` is the real application, with the settings of the environment; the others are its limits. Each prints its port.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final, cast

import asyncpg
import uvicorn
import uvloop
from litestar import Request, get

from mpesa_sync import bootstrap
from mpesa_sync.db import notices
from mpesa_sync.live import stream
from mpesa_sync.settings import Settings
from mpesa_sync.web import composition, context, protocol, server
from mpesa_sync.web.app import create_app

CONSTANT: Final = "/bench/constant"
CONTROL: Final = "/bench/control"
HEADER_END: Final = b"\r\n\r\n"
_FRAME: Final = (
    b"event: payment-methods\nid: 0123456789ab:%d\n"
    b'data: {"bar":{"id":"00000000-0000-4000-8000-000000000001","slug":"bar-1","name":"Bench #%06d"},'
    b'"methods":[{"id":"mpesa","label":"M-Pesa"},{"id":"cash","label":"Cash"}],"version":"0123456789ab:%d"}\n\n'
)


def resident() -> int:
    """Return the bytes of memory that this process holds, after a garbage collection."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _said(port: int) -> None:
    print(port, flush=True)


@get(CONSTANT, include_in_schema=False)
async def _constant() -> dict[str, Any]:
    """Answer the same, whoever asks: what this application on this server costs without any work."""
    return {
        "bar": {"id": "00000000-0000-4000-8000-000000000001", "slug": "bar-1", "name": "Bar 1"},
        "methods": [{"id": "mpesa", "label": "M-Pesa"}, {"id": "cash", "label": "Cash"}],
        "version": "0123456789ab:1",
    }


@get(CONTROL, include_in_schema=False)
async def _control(request: Request[Any, Any, Any]) -> dict[str, Any]:
    state = context.of(request).hub.state
    return {"resident": resident(), "streams": state.streams, "live": state.is_live, "mode": state.mode}


async def _app() -> None:
    """Serve as `mpesa-sync serve` does, with two more routes."""
    settings, stop = Settings.load(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    bootstrap.configure_logging(settings, level=logging.INFO)
    listening = server.bound("127.0.0.1", 0)
    async with (
        bootstrap.served(settings) as serving,
        composition.started(serving, settings) as found,
        server.serving(create_app(found, more_routes=[_constant, _control]), found.hub, listening),
    ):
        _said(listening.getsockname()[1])
        await stop.wait()


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    """Serve streams with nothing but ASGI."""
    if scope["path"] == CONTROL:
        body = b'{"resident":%d}' % resident()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})
        return
    await send({"type": "http.response.start", "status": 200, "headers": stream.HEADERS})
    await send({"type": "http.response.body", "body": _FRAME % (0, 0, 0), "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _asgi() -> None:
    listening = server.bound("127.0.0.1", 0)
    quiet: Any = {"log_config": None, "access_log": False, "ws": "none", "lifespan": "off"}
    config = uvicorn.Config(cast(Any, _bare), http=protocol.Protocol, **quiet)
    _said(listening.getsockname()[1])
    await uvicorn.Server(config).serve(sockets=[listening])


class _Subscriber(asyncio.Protocol):
    """One socket of the bare fan-out; it gets its first frame when it has asked for anything."""

    everyone: Final[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.everyone.add(self.transport)
        self.transport.write(b"HTTP/1.1 200 OK" + HEADER_END + _FRAME % (0, 0, 0))

    def connection_lost(self, exc: Exception | None) -> None:
        self.everyone.discard(self.transport)


async def _fanout(bar: str) -> None:
    """Write a frame to every socket whenever a notice of the bar comes: what no feed can be faster than."""
    url, heard = Settings.load().database_url, 0
    assert url is not None

    def on_notice(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        nonlocal heard
        if payload == bar:
            heard += 1
            frame = _FRAME % (heard, heard, heard)
            for transport in _Subscriber.everyone:
                transport.write(frame)

    connection = await asyncpg.connect(url.reveal())
    await connection.add_listener(notices.CHANNEL, on_notice)
    serving = await asyncio.get_running_loop().create_server(_Subscriber, "127.0.0.1", 0, backlog=2048)
    _said(serving.sockets[0].getsockname()[1])
    await serving.serve_forever()


if __name__ == "__main__":
    _kind, *_arguments = sys.argv[1:]
    uvloop.run(_fanout(*_arguments) if _kind == "fanout" else _app() if _kind == "app" else _asgi())
