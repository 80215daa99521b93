"""Which pages of other sites may ask what customers may pay with: those of the origins that the settings list.

Nothing else of this application answers to other origins. Streams pass here too, before the framework.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Collection
from typing import Any, Final
from urllib.parse import urlsplit

from litestar.connection import ASGIConnection
from litestar.datastructures import Headers

from mpesa_sync.settings import ALLOWED_ORIGINS
from mpesa_sync.web.problems import PROBLEM_JSON, encoded

SCRIPT: Final = "/drop-in/v1.js"
"""The drop-in: part of pages that venues have already, so this address stays."""
MORE_HEADERS: Final = "mpesa_sync.more_headers"
"""In a scope: what `web.security` adds to the answer."""
_LISTED: Final = "mpesa_sync.listed_origin"
_PATHS: Final = (
    (re.compile("/api/bars/[^/]+/payment-methods(?:/events)?"), b"GET"),
    (re.compile("/api/bars/[^/]+/payment-intents"), b"POST"),
    (re.compile(re.escape(SCRIPT)), b"GET"),
)
_VARY: Final = (b"vary", b"Origin")
_FOR_US: Final = (b"cross-origin-resource-policy", b"same-origin")
_FOR_ALL: Final = (b"cross-origin-resource-policy", b"cross-origin")
_EXPOSED: Final = (b"access-control-expose-headers", b"ETag, Retry-After, X-Venue")
_PREFLIGHT: Final = (
    (b"access-control-allow-headers", b"Content-Type, If-None-Match"),
    (b"access-control-max-age", b"3600"),
    (b"cache-control", b"no-store"),
)
_REFUSED: Final = f"Pages of this origin may not ask here: whoever runs this lists it in {ALLOWED_ORIGINS}."


class AllowedOrigins:
    """Wraps an application, and lets listed origins ask for what is for customers. Knows no cookies and no wildcard.

    Arguments:
        app: what answers.
        origins: as browsers send them, `scheme://host[:port]`.
    """

    def __init__(self, app: Any, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    def __call__(self, scope: Any, receive: Any, send: Any) -> Awaitable[None]:
        """Return what serves: the application, the refusal of an origin, or the answer to a browser that asks first."""
        path = scope["path"] if scope["type"] == "http" else ""
        method = next((method for pattern, method in _PATHS if pattern.fullmatch(path)), None)
        scope[MORE_HEADERS] = (_FOR_ALL if path == SCRIPT else _FOR_US, *([_VARY] if method else ()))
        headers = Headers.from_scope(scope) if method else Headers()
        origin = headers.get("origin")
        if method and origin is not None and not is_own(origin, headers.get("host", "")):
            if origin not in self._origins:
                return _refuse(send)
            scope[MORE_HEADERS] += ((b"access-control-allow-origin", origin.encode("latin-1")), _EXPOSED)
            scope[_LISTED] = True
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                return _answer(send, 204, [(b"access-control-allow-methods", method), *_PREFLIGHT])
        served: Awaitable[None] = self._app(scope, receive, send)
        return served

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped application has: its routes and its state."""
        return getattr(self._app, name)


def is_listed(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Return whether a request for customers comes from a page of another origin that the settings list."""
    return _LISTED in connection.scope


def is_own(origin: str, host: str) -> bool:
    """Return whether an origin is this very site, which the browser asked for under the name `host`."""
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # brackets that hold no address: no browser sends that
        return False


async def _refuse(send: Any) -> None:
    body = encoded(403, "origin_not_allowed", _REFUSED)
    await _answer(send, 403, [(b"content-type", PROBLEM_JSON.encode()), (b"cache-control", b"no-store")], body)


async def _answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes = b"") -> None:
    length = [(b"content-length", b"%d" % len(body))] if body else []
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *length]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
