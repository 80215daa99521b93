"""Headers that every answer carries, whoever made it: what a browser may load, who may frame it, what is kept."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from mpesa_sync.web.cors import MORE_HEADERS

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'none'; form-action 'self'; base-uri 'none'; frame-src {frames}; frame-ancestors {ancestors}"
)
_ALONE: Final = _POLICY.format(frames="'none'", ancestors="'none'").encode()
_FRAMED: Final = _POLICY.format(frames="'self'", ancestors="'self'").encode()
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)


class SecurityHeaders:
    """Wraps the whole application, so that errors and streams carry the headers too.

    Arguments:
        app: what is wrapped.
        framed: whether pages of this very site may show each other in frames: for the demo only.
    """

    def __init__(self, app: ASGIApp, *, framed: bool = False) -> None:
        self._app = app
        self._headers = [
            *_HEADERS,
            (b"content-security-policy", _FRAMED if framed else _ALONE),
            (b"x-frame-options", b"SAMEORIGIN" if framed else b"DENY"),
        ]

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Return what serves, and adds the headers where the answer begins.

        No coroutine of its own: an open stream would keep it.
        """
        if scope["type"] != ScopeType.HTTP:
            return self._app(scope, receive, send)

        more: Any = scope

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers, *more.get(MORE_HEADERS, ())]
            await send(message)

        return self._app(scope, receive, with_headers)

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped application has: its routes and its state."""
        return getattr(self._app, name)
