"""`serve_stream`: the thin ASGI handler of one page's event stream. Everything that is shared is the hub's.

Once the answer has begun, it only waits for the client to go: frames are written by the hub (facts/live.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.errors import BarNotFound, DatabaseFault, SchemaError
from mpesa_sync.live.connection import Receive, Send
from mpesa_sync.live.delivery import StreamRefused
from mpesa_sync.live.hub import Hub

HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
]
_TITLES: Final = {404: "Not Found", 503: "Service Unavailable"}


async def serve_stream(
    hub: Hub,
    scope: Any,
    receive: Receive,
    send: Send,
    bar_id: UUID,
    *,
    last_event_id: str | None,
    address: str,
    abort: Callable[[], None] | None = None,
) -> None:
    """Serve the events of one bar until the client goes or the hub ends the stream (R3.2).

    The page is registered before its bar is read, so no change falls between (L5). A bar that does not exist is
    answered 404, a cap or a server that is being stopped 503 with Retry-After; a bar that cannot be read is `stale`
    until it can be. A bar that is deleted meanwhile ends with `bye`, and the client that comes back finds 404.

    Arguments:
        scope, receive, send: of ASGI.
        bar_id: the bar.
        last_event_id: the version that the client has, as `epoch:n`; None or anything else: it has none.
        address: whom the stream counts for, for the cap.
        abort: cuts the connection; called for a client that takes nothing, whose connection would else stay open for
            as long as bytes wait in it.
    """
    del scope
    try:
        stream = hub.join(bar_id, address, send)
    except StreamRefused as refused:
        await _refuse(send, 503, f"streams_{refused.cause}", str(refused), retry_after_s=refused.retry_after_s)
        return
    try:
        is_stale = False
        try:
            await hub.known(bar_id, fresh=hub.is_ahead(bar_id, last_event_id))
        except BarNotFound as error:
            stream.end("not_found")
            await _refuse(send, 404, error.code, error.message)
            return
        except (DatabaseFault, SchemaError):
            is_stale = True
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        hub.open(stream, seen=last_event_id, is_stale=is_stale)
        await stream.until_gone(receive)
    finally:
        hub.leave(stream)
    if stream.cause == "slow" and abort is not None:
        abort()


async def _refuse(send: Send, status: int, code: str, error: str, *, retry_after_s: int | None = None) -> None:
    """Answer with a problem document (R4)."""
    body = msgspec.json.encode(
        {
            "type": "about:blank",
            "title": _TITLES[status],
            "status": status,
            "error": error,
            "code": code,
            "retryable": retry_after_s is not None,
        }
    )
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"content-length", b"%d" % len(body)),
    ]
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % retry_after_s))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
