"""/staff/bars/{id}/mpesa: what customers see and why, the switch, the credentials, the last changes (R4, T2.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4, uuid5

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import (
    DatabaseFault,
    InvalidSettings,
    MpesaSyncError,
    NotSignedIn,
    OperationConflict,
    OutcomeUnknown,
    SyncRefused,
)
from mpesa_sync.identity import membership
from mpesa_sync.identity.sessions import Session
from mpesa_sync.refusals import StaleForm
from mpesa_sync.sync.settings_service import SettingsSaved
from mpesa_sync.web import context, status_view
from mpesa_sync.web.api.settings_body import change_of
from mpesa_sync.web.deadline import Deadline
from mpesa_sync.web.problems import OPERATION
from mpesa_sync.web.staff import mpesa_page
from mpesa_sync.web.staff import session as staff
from mpesa_sync.web.texts import text

PATH = "/staff/bars/{bar_id:uuid}/mpesa"


@dataclass(frozen=True, slots=True)
class _Posted:
    """One of the two forms as it was posted by a person who is signed in."""

    session: Session
    change: SettingsChange
    fields: Mapping[str, str]
    deadline: Deadline
    is_switch: bool = False

    def operation_id(self) -> UUID:
        """Return the operation of this form: the same where it is sent twice, by the same person."""
        try:
            return uuid5(UUID(self.fields.get("once", "")), str(self.session.person.id))
        except ValueError:
            return uuid4()


@get(PATH, include_in_schema=False)
async def show(
    request: Request[Any, Any, Any], bar_id: FromPath[UUID], done: FromQuery[str] = "", environment: FromQuery[str] = ""
) -> Response[Any]:
    """Return the M-Pesa page of a venue; its form begins with one environment, where one is named."""
    session = await staff.session_of(request)
    if session is None:
        return staff.to_sign_in(request)
    view = await mpesa_page.read(context.of(request), session, bar_id, done=done, environment=environment)
    return staff.page("mpesa.html", view)


@post(PATH, include_in_schema=False)
async def save(request: Request[Any, Any, Any], bar_id: FromPath[UUID]) -> Response[Any]:
    """Store the credentials of the form and, where it is ticked, switch on with them."""
    deadline = Deadline(context.of(request).database.clock)
    session, fields = await _posted(request)
    if session is None:
        return staff.to_sign_in(request)
    body: dict[str, Any] = {name: value for name, value in fields.items() if name.startswith("mpesa_")}
    body["mpesa_enabled"] = True if fields.get("mpesa_enabled") == "true" else None
    if body.get("mpesa_account_type") != "till":
        body.pop("mpesa_till_number", None)
    return await _saved(request, _Posted(session, change_of(bar_id, body), fields, deadline))


@post(f"{PATH}/switch", include_in_schema=False)
async def switch(request: Request[Any, Any, Any], bar_id: FromPath[UUID]) -> Response[Any]:
    """Switch M-Pesa on or off with the credentials that are stored."""
    deadline = Deadline(context.of(request).database.clock)
    session, fields = await _posted(request)
    if session is None:
        return staff.to_sign_in(request)
    wanted = {"true": True, "false": False}.get(fields.get("is_active", ""))
    body: dict[str, Any] = {"mpesa_enabled": fields.get("is_active") if wanted is None else wanted}
    if fields.get("environment"):
        body["mpesa_environment"] = fields["environment"]
    return await _saved(request, _Posted(session, change_of(bar_id, body), fields, deadline, is_switch=True))


@get(f"{PATH}/status", include_in_schema=False)
async def status(request: Request[Any, Any, Any], bar_id: FromPath[UUID]) -> Response[dict[str, Any]]:
    """Return what customers see now and why, for the page's script; for members only."""
    session = await staff.session_of(request)
    if session is None:
        raise NotSignedIn("Not signed in")
    found = context.of(request)
    async with found.database.reading() as connection:
        await membership.require(connection, session.person, bar_id, to_write=False)
    view = await mpesa_page.status_of(found.hub, bar_id)
    return Response(status_view.status_json(view), headers={"cache-control": "no-store"})


async def _posted(request: Request[Any, Any, Any]) -> tuple[Session | None, dict[str, str]]:
    session = await staff.session_of(request)
    return session, await staff.fields_of(request, session)


async def _saved(request: Request[Any, Any, Any], posted: _Posted) -> Response[Any]:
    """Save, then show the page anew; or show it again with what is wrong, and what was typed except secrets."""
    try:
        try:
            saved = await _save(request, posted, posted.operation_id())
        except OperationConflict:  # the form was sent before, with other values: another change
            saved = await _save(request, posted, uuid4())
    except MpesaSyncError as error:
        if error.http_status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            raise
        return await _not_saved(request, posted, error)
    return _back(request, _done(saved, posted.change))


async def _save(request: Request[Any, Any, Any], posted: _Posted, operation_id: UUID) -> SettingsSaved:
    request.state[OPERATION] = operation_id
    etag, person = posted.fields.get("etag"), posted.session.person
    return await context.of(request).settings_service.save(
        posted.change,
        person,
        operation_id=operation_id,
        origin=context.origin_of(request, person),
        unless_changed={etag} if etag else None,
        within_s=posted.deadline.left_s(),
    )


async def _not_saved(request: Request[Any, Any, Any], posted: _Posted, error: MpesaSyncError) -> Response[Any]:
    """Show the page again with what went wrong; where it cannot be read either, what went wrong alone."""
    typed = None if posted.is_switch else posted.fields
    shown: dict[str, Any] = {"typed": typed, "error": _failed(error)}
    if isinstance(error, InvalidSettings):
        shown |= {"errors": error.errors, "error": ""}
    if isinstance(error, StaleForm):
        shown = {"conflict": mpesa_page.Conflict(error, posted.fields, posted.is_switch)}
    try:
        async with asyncio.timeout(posted.deadline.rest_s()):
            view = await mpesa_page.read(context.of(request), posted.session, posted.change.bar_id, **shown)
    except (DatabaseFault, TimeoutError):
        raise error from None
    if view.conflict is not None and not view.conflict.differs:
        # Somebody else has done just that, or the same person with a second press.
        done = ("on" if posted.change.enabled else "off") if posted.is_switch else "unchanged"
        return _back(request, done)
    return staff.page("mpesa.html", view, HTTPStatus(error.http_status))


def _back(request: Request[Any, Any, Any], done: str) -> Redirect:
    return Redirect(f"{request.url.path.removesuffix('/switch')}?done={done}", status_code=staff.SEE_OTHER)


def _done(saved: SettingsSaved, change: SettingsChange) -> str:
    if not saved.changed:
        return "unchanged"
    if saved.stored:
        return "saved" if saved.enabled else "saved-off"
    return "on" if saved.enabled else "off"


def _failed(error: MpesaSyncError) -> str:
    if isinstance(error, OutcomeUnknown):
        return text("error.unknown")
    if isinstance(error, SyncRefused):
        return error.message
    return text("error.retry" if error.retryable else "error.failed", reason=error.message)
