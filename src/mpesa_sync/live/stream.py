"""`serve_stream`: the thin ASGI handler of one page's event stream. Everything that is shared is the hub's.

Once the answer has begun, it only waits for the client to go: frames are written by the hub (facts/live.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from mpesa_sync.errors import BarNotFound, DatabaseFault, SchemaError
from mpesa_sync.live.connection import Receive, Send, Wire
from mpesa_sync.live.delivery import StreamRefused
from mpesa_sync.live.hub import Hub

HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
Problem = Callable[[int, str, str, bool], bytes]
"""Encodes a refusal: its status, its code, its text, and whether the same request may succeed later."""


async def serve_stream(
    hub: Hub,
    receive: Receive,
    send: Send,
    bar_id: UUID,
    *,
    last_event_id: str | None,
    address: str,
    problem: Problem,
    wire: Wire | None = None,
) -> None:
    """Serve the events of one bar until the client goes or the hub ends the stream (R3.2).

    The page is registered before its bar is read, so no change falls between (L5). A bar that does not exist is
    answered 404, a cap or a server that is being stopped 503 with Retry-After; a bar that cannot be read is `stale`
    until it can be. A bar that is deleted meanwhile ends with `bye`, and the client that comes back finds 404.

    Arguments:
        receive, send: of ASGI.
        bar_id: the bar.
        last_event_id: the version that the client has, as `epoch:n`; None or anything else: it has none.
        address: whom the stream counts for, for the cap.
        problem: makes the document of a refusal (R4).
        wire: the connection under it. That of a client that takes nothing is cut: it would else stay open for as long
            as bytes wait in it.
    """
    try:
        stream = hub.join(bar_id, address, send, wire)
    except StreamRefused as refused:
        body = problem(503, f"streams_{refused.cause}", str(refused), True)
        await _refuse(send, 503, body, retry_after_s=refused.retry_after_s)
        return
    try:
        is_stale = False
        try:
            await hub.known(bar_id, fresh=hub.is_ahead(bar_id, last_event_id))
        except BarNotFound as error:
            stream.end("not_found")
            await _refuse(send, 404, problem(404, error.code, error.message, False))
            return
        except (DatabaseFault, SchemaError):
            is_stale = True
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        hub.open(stream, seen=last_event_id, is_stale=is_stale)
        await stream.until_gone(receive)
    finally:
        hub.leave(stream)
    if stream.cause == "slow" and wire is not None:
        wire.abort()


async def _refuse(send: Send, status: int, body: bytes, *, retry_after_s: int | None = None) -> None:
    """Answer with a problem document (R4)."""
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(body)),
    ]
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
