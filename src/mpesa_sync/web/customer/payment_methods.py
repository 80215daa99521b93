"""GET /api/bars/{id or slug}/payment-methods and its stream of events (R3.1–R3.4)."""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath

from mpesa_sync.errors import TransientFault
from mpesa_sync.live.offers import Offer
from mpesa_sync.web import context
from mpesa_sync.web.api import openapi

PATH: Final = "/api/bars/{bar:str}/payment-methods"
VENUE: Final = "x-venue"
"""In an answer: `closed` where the venue is marked so; streams have the event `closed` for it."""
_UNCHANGED: Final = ResponseSpec(
    None, generate_examples=False, description="What If-None-Match names is the current version."
)


@get(
    PATH,
    summary="What a bar's customers may pay with now",
    operation_id="getPaymentMethods",
    responses={304: _UNCHANGED, **openapi.failures(400, 404, 500, 503)},
)
async def read(request: Request[Any, Any, Any], bar: FromPath[str]) -> Response[Offer]:
    """Return what customers may pay with, M-Pesa first. The version is the ETag as well."""
    hub = context.of(request).hub
    known = await hub.known(await hub.resolve(bar))
    headers = {"etag": f'"{known.offer.version}"', "cache-control": "no-cache"}
    held = [tag.strip().removeprefix("W/").strip('"') for tag in request.headers.get("if-none-match", "").split(",")]
    if known.is_closed:
        headers[VENUE] = "closed"
    body: Any = known.body  # encoded once a version
    if any(hub.is_current(known, version) for version in held):
        return Response(None, status_code=304, headers=headers)  # type: ignore[arg-type]  # an answer without a body
    return Response(body, media_type="application/json", headers=headers)


@get(
    f"{PATH}/events",
    media_type="text/event-stream",
    summary="The same as a stream of events: now, and whenever it changes",
    operation_id="streamPaymentMethods",
    responses=openapi.failures(400, 404, 500, 503),
)
async def events(request: Request[Any, Any, Any], bar: FromPath[str]) -> None:
    """Describe the stream, and refuse it: one that can be served was served by `web.streams`, before the framework."""
    await context.of(request).hub.resolve(bar)
    raise TransientFault("The stream could not be opened. Try again.")
