"""/menu/{slug}: what a customer of a bar may pay with, rendered by the server and kept true by a script (R3, T7.1)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.params import FromPath

from mpesa_sync.errors import BarNotFound, DatabaseFault, InvalidInput, SchemaError
from mpesa_sync.web import context, pages, views


@get("/menu/{bar:str}", media_type=MediaType.HTML, include_in_schema=False)
async def show(request: Request[Any, Any, Any], bar: FromPath[str]) -> Response[str]:
    """Return the page of a bar, by its slug or id. Where the answer cannot be had it offers cash, and no M-Pesa."""
    hub = context.of(request).hub
    try:
        bar_id = await hub.resolve(bar)
        known = await hub.known(bar_id)
    except (BarNotFound, InvalidInput):
        return _page(pages.render("problem.html", view=views.problem(404, customer=True)), HTTPStatus.NOT_FOUND)
    except (DatabaseFault, SchemaError):
        return _page(pages.render("menu.html", view=views.menu_unsure(bar)), HTTPStatus.SERVICE_UNAVAILABLE)
    offer = known.offer
    methods = [method.id for method in offer.methods]
    view = views.menu(str(bar_id), offer.bar.name, methods, offer.version)
    return _page(pages.render("menu.html", view=view), HTTPStatus.OK)


def _page(content: str, status: HTTPStatus) -> Response[str]:
    return Response(content, status_code=status, media_type=MediaType.HTML, headers={"cache-control": "no-store"})
