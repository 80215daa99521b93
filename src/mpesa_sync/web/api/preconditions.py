"""Entity tags: the `ETag` of a venue's settings, and what `If-Match` asks for (RFC 9110, 8.8.3 and 13.1.1)."""

from __future__ import annotations

import re
from typing import Any, Final

from litestar import Request

from mpesa_sync.errors import InvalidInput

IF_MATCH: Final = "If-Match"
_TAG: Final = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e\x80-\xff]*)")?[ \t]*(?:,|\Z)')


def etag(digest: str) -> str:
    """Return the entity tag of what has this digest, a strong one."""
    return f'"{digest}"'


def expected(request: Request[Any, Any, Any]) -> frozenset[str] | None:
    """Return the digests that a request asks for; None where it asks for none, or for anything that exists (`*`).

    A weak tag never matches: this is a strong comparison (RFC 9110, 13.1.1). Where all are weak nothing that is stored
    could match, so that is the fault of the request, and no conflict.

    Raises:
        InvalidInput: it is no list of entity tags, or all of them are weak.
    """
    lines = request.headers.getall(IF_MATCH, [])
    if not lines or [line.strip() for line in lines] == ["*"]:
        return None
    text, at, tags, is_weak = ",".join(lines), 0, set[str](), False
    while at < len(text):
        found = _TAG.match(text, at)
        if found is None:
            raise _malformed()
        at = found.end()
        if found[1]:
            is_weak = True
        elif found[2] is not None:
            tags.add(found[2])
    if not tags:
        raise _weak() if is_weak else _malformed()
    return frozenset(tags)


def _weak() -> InvalidInput:
    return InvalidInput(
        IF_MATCH,
        'holds only weak tags (W/"…"), which never match: send the tag that GET answered, without W/ where a proxy '
        "that compresses has put it there",
    )


def _malformed() -> InvalidInput:
    return InvalidInput(IF_MATCH, 'must be entity tags as GET answers them, such as "5f2c", or *')
