"""/api/alerts: the alerts of all venues as JSON, for operators: list, one, acknowledge, resolve (R5.2)."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, QueryParameter

from mpesa_sync.db import alerts, deliveries
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.errors import InvalidInput, NotAllowed
from mpesa_sync.identity.people import Person
from mpesa_sync.refusals import AlertNotFound
from mpesa_sync.sync import alert_actions, spool
from mpesa_sync.sync.alert_document import Alert, AlertDetail, detail, document
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alert_reading import Which, bar_meant, fate_of
from mpesa_sync.web import context, cursor
from mpesa_sync.web.api import openapi
from mpesa_sync.web.api.alert_bodies import NoteOperation
from mpesa_sync.web.auth import CSRF_HEADER, require_csrf, signed_in
from mpesa_sync.web.body import json_object
from mpesa_sync.web.query import require_known

PATH: Final = "/api/alerts"
MOST: Final = 200
_ONE: Final = PATH + "/{alert_id:str}"


class Alerts(msgspec.Struct, frozen=True, kw_only=True):
    """A page of alerts, those seen last first. `next` is the `after` of the next page, null on the last.

    `spooled`: how many more wait in files of this machine until the database can take them; null: they cannot be read.
    """

    alerts: list[Alert]
    next: str | None
    spooled: int | None


@get(
    PATH,
    summary="The alerts of all venues, for operators",
    operation_id="listAlerts",
    security=openapi.SIGNED_IN,
    responses=openapi.failures(400, 401, 403, 404, 500, 503),
)
async def list_(
    request: Request[Any, Any, Any],
    which: Annotated[
        str,
        QueryParameter(name="state", required=False, description="open, firing, acknowledged, resolved or all."),
    ] = "open",
    kind: Annotated[str | None, QueryParameter(name="kind", required=False, description="Only this kind.")] = None,
    bar: Annotated[
        str | None, QueryParameter(name="bar", required=False, description="Only of this bar, by id or slug.")
    ] = None,
    after: Annotated[
        str, QueryParameter(name="after", required=False, description="The next of the page before.")
    ] = "",
    limit: Annotated[
        str, QueryParameter(name="limit", required=False, description=f"How many at most, 1 to {MOST}.")
    ] = "50",
) -> Alerts:
    """Return a page of alerts, those seen last first."""
    await _operator(request)
    require_known(request, "state", "kind", "bar", "after", "limit")
    if which not in tuple(Which):
        raise InvalidInput("state", f"must be one of {', '.join(Which)}")
    if kind is not None and kind not in tuple(AlertKind):
        raise InvalidInput("kind", f"must be one of {', '.join(AlertKind)}")
    most, before = _limit(limit), cursor.position(after)
    database = context.of(request).database
    async with database.reading() as connection:
        bar_id = None if bar is None else await bar_meant(connection, line_of_text("bar", bar, longest=500))
        found = await alerts.page(
            connection, states=Which(which).states, bar_id=bar_id, kind=kind, before=before, limit=most + 1
        )
    return Alerts(
        alerts=[document(alert) for alert in found[:most]],
        next=cursor.after(found, limit=most),
        spooled=await asyncio.to_thread(spool.waiting, database),
    )


@get(
    _ONE,
    summary="One alert, with the messages that were sent about it",
    operation_id="getAlert",
    security=openapi.SIGNED_IN,
    responses=openapi.failures(400, 401, 403, 404, 500, 503),
)
async def read(request: Request[Any, Any, Any], alert_id: FromPath[str]) -> AlertDetail:
    """Return one alert."""
    await _operator(request)
    wanted = _alert_id(alert_id)
    async with context.of(request).database.reading() as connection:
        found = await alerts.find(connection, wanted)
        if found is None:
            raise _absent()
        fate, told = await fate_of(connection, found), await deliveries.of_alert(connection, wanted)
    return detail(found, fate, told)


@post(
    f"{_ONE}/acknowledge",
    status_code=200,
    summary="Say that somebody looks after an alert; it stays open",
    operation_id="acknowledgeAlert",
    security=openapi.SIGNED_IN,
    responses=openapi.failures(400, 401, 403, 404, 409, 500, 503),
)
async def acknowledge(request: Request[Any, Any, Any], alert_id: FromPath[str]) -> Alert:
    """Acknowledge an alert. One that is acknowledged already stays as it is, whoever did it."""
    person = await _operator(request, changes=True)
    wanted = _alert_id(alert_id)
    return document(await alert_actions.acknowledge(context.of(request).database, wanted, actor=person.actor))


@post(
    f"{_ONE}/resolve",
    status_code=200,
    summary="Close an alert by hand",
    operation_id="resolveAlert",
    operation_class=NoteOperation,
    security=openapi.SIGNED_IN,
    responses=openapi.failures(400, 401, 403, 404, 408, 409, 413, 500, 503),
)
async def resolve(request: Request[Any, Any, Any], alert_id: FromPath[str]) -> Alert:
    """Resolve an alert. What happens after that is a new episode."""
    body = await json_object(request) if _has_body(request) else {}
    person = await _operator(request, changes=True)
    wanted = _alert_id(alert_id)
    note = body.get("note", "")
    if body.keys() - {"note"}:
        raise InvalidInput("body", "may hold note and nothing else")
    return document(await alert_actions.resolve(context.of(request).database, wanted, actor=person.actor, note=note))


async def _operator(request: Request[Any, Any, Any], *, changes: bool = False) -> Person:
    """Return the operator who asks.

    Arguments:
        changes: whether the request changes something: a session's browser must then send its page's token.
    Raises:
        NotSignedIn, NotAllowed
    """
    who = await signed_in(request)
    if changes and who.session is not None:
        require_csrf(request, who.session, request.headers.get(CSRF_HEADER))
    if not who.person.is_operator:
        raise NotAllowed("Alerts are for operators.")
    return who.person


def _has_body(request: Request[Any, Any, Any]) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0") != "0"


def _alert_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _absent() from None


def _absent() -> AlertNotFound:
    return AlertNotFound("There is no alert with this id.")


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MOST)) and 1 <= int(text) <= MOST):
        raise InvalidInput("limit", f"must be a number from 1 to {MOST}")
    return int(text)
