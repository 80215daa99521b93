"""/operator/alerts: the alerts of all venues, and what an operator does with one (R5.2)."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final
from uuid import UUID

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.response import Redirect

from mpesa_sync.errors import InvalidInput
from mpesa_sync.identity.sessions import Session
from mpesa_sync.refusals import AlertClosed
from mpesa_sync.sync import alert_actions
from mpesa_sync.sync.alert_reading import Which
from mpesa_sync.web import alert_view, context, views
from mpesa_sync.web.operator import alerts_page
from mpesa_sync.web.operator.session import operator_of
from mpesa_sync.web.operator_texts import text
from mpesa_sync.web.query import require_known
from mpesa_sync.web.staff import session as staff

_ONE: Final = alert_view.LIST + "/{alert_id:uuid}"


@get(alert_view.LIST, include_in_schema=False)
async def show(
    request: Request[Any, Any, Any],
    which: Annotated[str, QueryParameter(name="state", required=False)] = "open",
    bar: FromQuery[str] = "",
    after: FromQuery[str] = "",
) -> Response[Any]:
    """Return a page of the list."""
    session = await operator_of(request)
    if session is None:
        return staff.to_sign_in(request)
    require_known(request, "state", "bar", "after")
    chosen = Which(which) if which in tuple(Which) else Which.OPEN
    view = await alerts_page.read(context.of(request), session, chosen=chosen, bar=bar, after=after)
    return staff.page("alerts.html", view)


@get(_ONE, include_in_schema=False)
async def show_one(
    request: Request[Any, Any, Any], alert_id: FromPath[UUID], done: FromQuery[str] = ""
) -> Response[Any]:
    """Return the page of one alert."""
    session = await operator_of(request)
    if session is None:
        return staff.to_sign_in(request)
    return staff.page("alert.html", await alerts_page.one(context.of(request), session, alert_id, done=done))


@post(f"{_ONE}/acknowledge", include_in_schema=False)
async def acknowledge(request: Request[Any, Any, Any], alert_id: FromPath[UUID]) -> Response[Any]:
    """Acknowledge an alert, then show it."""
    session, _ = await _posted(request)
    if session is None:
        return staff.to_sign_in(request)
    try:
        await alert_actions.acknowledge(context.of(request).database, alert_id, actor=session.person.actor)
    except AlertClosed as error:
        return await _refused(request, session, alert_id, error.message, HTTPStatus.CONFLICT)
    return Redirect(f"{alert_view.LIST}/{alert_id}?done=acknowledged", status_code=staff.SEE_OTHER)


@post(f"{_ONE}/resolve", include_in_schema=False)
async def resolve(request: Request[Any, Any, Any], alert_id: FromPath[UUID]) -> Response[Any]:
    """Resolve an alert, then show it; or show again what was typed, with what is wrong."""
    session, fields = await _posted(request)
    if session is None:
        return staff.to_sign_in(request)
    note = fields.get("note", "")
    try:
        await alert_actions.resolve(context.of(request).database, alert_id, actor=session.person.actor, note=note)
    except AlertClosed as error:
        return await _refused(request, session, alert_id, error.message, HTTPStatus.CONFLICT)
    except InvalidInput as error:
        said = text("error.note", reason=error.message.removeprefix(f"{error.field}: "))
        return await _refused(request, session, alert_id, said, HTTPStatus.BAD_REQUEST, note=note)
    return Redirect(f"{alert_view.LIST}/{alert_id}?done=resolved", status_code=staff.SEE_OTHER)


async def _posted(request: Request[Any, Any, Any]) -> tuple[Session | None, dict[str, str]]:
    session = await operator_of(request)
    return session, await staff.fields_of(request, session)


async def _refused(
    request: Request[Any, Any, Any], session: Session, alert_id: UUID, error: str, status: HTTPStatus, note: str = ""
) -> Response[Any]:
    view = await alerts_page.one(
        context.of(request), session, alert_id, error=error, note=views.typed(note, longest=500)
    )
    return staff.page("alert.html", view, status)
