"""/static/{name}: the style sheet and scripts, from memory; browsers keep them, their addresses change with them."""

from __future__ import annotations

from typing import Any

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, FromQuery

from mpesa_sync.web.pages import assets


@get("/static/{name:str}", include_in_schema=False)
async def show(name: FromPath[str], v: FromQuery[str] = "") -> Response[Any]:
    """Return one static file; kept for good only under the address of this very content."""
    asset = assets().get(name)
    if asset is None:
        raise NotFoundException
    kept = "public, max-age=31536000, immutable" if v == asset.digest else "no-cache"
    return Response(asset.body, media_type=asset.content_type, headers={"cache-control": kept})
