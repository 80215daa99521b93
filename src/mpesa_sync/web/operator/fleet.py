"""/operator: all venues at a glance, a list of them to search and filter, and one of them explained. Reads only."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Request, Response, get
from litestar.params import FromPath, FromQuery, QueryParameter

from mpesa_sync.web import context
from mpesa_sync.web.fleet_view import BAR, OVERVIEW
from mpesa_sync.web.operator import bar_page, fleet_page
from mpesa_sync.web.operator.fleet_counts import StoredCounts
from mpesa_sync.web.operator.session import operator_of
from mpesa_sync.web.query import require_known
from mpesa_sync.web.staff import session as staff

KEY: Final = "fleet_counts"
"""In the application's state: a `StoredCounts`."""


@get(OVERVIEW, include_in_schema=False)
async def show(
    request: Request[Any, Any, Any],
    which: Annotated[str, QueryParameter(name="state", required=False)] = "",
    words: Annotated[str, QueryParameter(name="q", required=False)] = "",
    after: FromQuery[str] = "",
) -> Response[Any]:
    """Return the overview with a page of the list."""
    session = await operator_of(request)
    if session is None:
        return staff.to_sign_in(request)
    require_known(request, "state", "q", "after")
    counts: StoredCounts = request.app.state[KEY]
    view = await fleet_page.read(context.of(request), session, counts, which=which, words=words, after=after)
    return staff.page("fleet.html", view, HTTPStatus.BAD_REQUEST if view.error else HTTPStatus.OK)


@get(f"{BAR}/{{bar_id:uuid}}", include_in_schema=False)
async def show_bar(request: Request[Any, Any, Any], bar_id: FromPath[UUID]) -> Response[Any]:
    """Return one venue explained."""
    session = await operator_of(request)
    if session is None:
        return staff.to_sign_in(request)
    return staff.page("bar.html", await bar_page.read(context.of(request), session, bar_id))
