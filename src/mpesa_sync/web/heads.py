"""HEAD is answered as GET is, without the body: what watches a site, and link previews, ask so."""

from __future__ import annotations

from typing import Any


class Heads:
    """Wraps an application whose routes know GET.

    Arguments:
        app: what answers.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve; of the answer to HEAD only the status and the headers."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def without_body(message: Any) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self._app({**scope, "method": "GET"}, receive, without_body)

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped application has: its routes and its state."""
        return getattr(self._app, name)
