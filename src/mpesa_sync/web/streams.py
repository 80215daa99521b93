"""Streams go past the framework: what it keeps for each request would stay for as long as a page is open.

Everything but a plain GET of a bar that exists is left to the framework's own route, which answers it in our words.
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qs

from mpesa_sync.live.hub import Hub
from mpesa_sync.live.stream import HEADERS, serve_stream
from mpesa_sync.web.problems import encoded

WIRE: Final = "mpesa_sync.wire"
"""In a scope's extensions: the connection, a `live.connection.Wire`; put there by `web.protocol`."""
_PATH: Final = re.compile("/api/bars/([^/]+)/payment-methods/events")


class StreamsFirst:
    """Wraps an application, and serves streams before it.

    Arguments:
        app: what answers everything else.
        hub: what the streams show.
    """

    def __init__(self, app: Any, hub: Hub) -> None:
        self._app = app
        self._hub = hub

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a stream, or hand the request on."""
        path = (
            _PATH.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else None
        )
        if path is None:
            await self._app(scope, receive, send)
            return
        try:
            bar_id = await self._hub.resolve(path[1])
        except Exception:  # noqa: BLE001 - whatever it is, the framework's route meets it too, and answers in our words
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await serve_stream(
            self._hub,
            receive,
            send,
            bar_id,
            last_event_id=_last_event_id(scope),
            address=scope["client"][0] if scope.get("client") else "",
            problem=refusal,
            wire=(scope.get("extensions") or {}).get(WIRE),
        )

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped application has: its routes and its state."""
        return getattr(self._app, name)


def refusal(status: int, code: str, text: str, retryable: bool) -> bytes:
    """Return the document of a stream that is not opened (R4), as every other route would word it."""
    return encoded(status, code, text, retryable=retryable)


def _last_event_id(scope: Any) -> str | None:
    """Return the version that the page has: of the header on a reconnect, of the query on its first connection."""
    for name, value in scope["headers"]:
        if name == b"last-event-id":
            return str(value.decode("latin-1"))
    return next(iter(parse_qs(scope["query_string"].decode("latin-1")).get("last_event_id", ())), None)
