"""Behind a proxy: whose word counts for the address that a request comes from, and for the scheme it was sent by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class Forwarded(ProxyHeadersMiddleware):
    """Wraps an application; takes X-Forwarded-For and X-Forwarded-Proto from trusted proxies, and from nobody else.

    The address is the last one in X-Forwarded-For that is no trusted proxy: what a client wrote before it is not
    believed.

    Arguments:
        app: what answers.
        proxies: addresses and networks of proxies.
    """

    def __init__(self, app: Any, proxies: Sequence[str]) -> None:
        super().__init__(app, list(proxies))

    __call__: Any
    """The types of Uvicorn's own declaration are not the framework's."""

    def __getattr__(self, name: str) -> Any:
        """Return what the wrapped application has: its routes and its state."""
        return getattr(self.app, name)
