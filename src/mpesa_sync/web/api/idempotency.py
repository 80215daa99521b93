"""`Idempotency-Key` over HTTP: the key as it is sent, the answer of a repeat. Its meaning stands in `sync.repeats`."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request

from mpesa_sync.errors import InvalidInput

KEY: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
LONGEST: Final = 255


def key_of(request: Request[Any, Any, Any]) -> str | None:
    """Return the key of a request, None where it has none.

    Raises:
        InvalidInput: it is not 1 to 255 printable ASCII characters, or there are several.
    """
    keys = request.headers.getall(KEY, [])
    if not keys:
        return None
    key = keys[0]
    if len(keys) > 1 or not 1 <= len(key) <= LONGEST or not (key.isascii() and key.isprintable()):
        raise InvalidInput(KEY, f"must be one text of 1 to {LONGEST} printable ASCII characters")
    return str(key)


def headers(*, replayed: bool) -> dict[str, str]:
    """Return the headers of the answer to a request with a key."""
    return {REPLAYED.lower(): "true"} if replayed else {}
