"""/drop-in/v1.js: the script that brings what we say to a page that a venue has already (R3.2), from memory."""

from __future__ import annotations

import functools
import hashlib
import re
from importlib import resources
from typing import Any, Final

import msgspec
from litestar import Request, Response, get

from mpesa_sync.web.cors import SCRIPT
from mpesa_sync.web.customer_texts import words_for

_TYPE: Final = "text/javascript"
_KEPT: Final = "public, max-age=300, stale-if-error=86400"
"""Minutes, not for good: its address never changes, and what is mended must reach every page."""
_NO_TEXTS: Final = "TEXTS={}"


@get(SCRIPT, include_in_schema=False)
async def show(request: Request[Any, Any, Any]) -> Response[Any]:
    """Return the script; 304 to who has it."""
    body, etag = script()
    headers = {"etag": etag, "cache-control": _KEPT}
    if etag in request.headers.get("if-none-match", ""):
        return Response(None, status_code=304, headers=headers)
    return Response(body, media_type=_TYPE, headers=headers)


@functools.cache
def script() -> tuple[bytes, str]:
    """Return the script as it is served, and its ETag."""
    source = (resources.files("mpesa_sync.web") / "customer" / "drop-in.js").read_text("utf-8")
    texts = msgspec.json.encode(words_for().under("drop-in.")).decode()
    body = dense(source).replace(_NO_TEXTS, f"TEXTS={texts}").encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:16]}"'


def dense(source: str) -> str:
    """Return a script without comments, which have lines of their own, and without the white space that means nothing.

    Names stay as they are, and no line is put before another. Its texts may not have a space beside a sign.
    """
    lines = re.sub(r"^\s*(//.*\n)?", "", source, flags=re.MULTILINE)
    signs = re.sub(r" ?([=<>?:{}()\[\],;&|!+*/-]) ?", r"\1", lines)
    joined = re.sub(r"(?<=[;{,(])\n|\n(?=})|(?<=})\n(?=function|async|class)", "", signs)
    return joined.replace(";}", "}")
