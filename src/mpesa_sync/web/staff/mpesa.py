"""/staff/bars/{id}/mpesa: what customers see and why, the switch, the credentials, the last changes (R4, T2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect

from mpesa_sync.domain.credentials import FieldError
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import DatabaseFault, InvalidSettings, MpesaSyncError, NotSignedIn, OutcomeUnknown, SyncRefused
from mpesa_sync.identity import membership
from mpesa_sync.identity.sessions import Session
from mpesa_sync.sync.settings_service import SettingsSaved
from mpesa_sync.web import auth, context, status_view
from mpesa_sync.web.api.settings_body import change_of
from mpesa_sync.web.body import form_fields
from mpesa_sync.web.problems import OPERATION
from mpesa_sync.web.staff import mpesa_page
from mpesa_sync.web.staff import session as staff
from mpesa_sync.web.texts import text

PATH = "/staff/bars/{bar_id:uuid}/mpesa"
_NOTICES = {
    "saved": "notice.saved",
    "saved-off": "notice.saved.off",
    "on": "notice.on",
    "off": "notice.off",
    "unchanged": "notice.unchanged",
}


@get(PATH, include_in_schema=False)
async def show(request: Request[Any, Any, Any], bar_id: FromPath[UUID], done: FromQuery[str] = "") -> Response[Any]:
    """Return the M-Pesa page of a venue."""
    session = await staff.session_of(request)
    if session is None:
        return staff.to_sign_in(request)
    notice = text(_NOTICES[done]) if done in _NOTICES else ""
    return staff.page("mpesa.html", await mpesa_page.read(context.of(request), session, bar_id, notice=notice))


@post(PATH, include_in_schema=False)
async def save(request: Request[Any, Any, Any], bar_id: FromPath[UUID]) -> Response[Any]:
    """Store the credentials of the form and, where it is ticked, switch on with them."""
    session, fields = await _posted(request)
    if session is None:
        return staff.to_sign_in(request)
    body: dict[str, Any] = {name: value for name, value in fields.items() if name.startswith("mpesa_")}
    body["mpesa_enabled"] = True if fields.get("mpesa_enabled") == "true" else None
    if body.get("mpesa_account_type") != "till":
        body.pop("mpesa_till_number", None)
    return await _saved(request, session, change_of(bar_id, body), fields)


@post(f"{PATH}/switch", include_in_schema=False)
async def switch(request: Request[Any, Any, Any], bar_id: FromPath[UUID]) -> Response[Any]:
    """Switch M-Pesa on or off with the credentials that are stored."""
    session, fields = await _posted(request)
    if session is None:
        return staff.to_sign_in(request)
    wanted = {"true": True, "false": False}.get(fields.get("is_active", ""))
    body: dict[str, Any] = {"mpesa_enabled": fields.get("is_active") if wanted is None else wanted}
    if fields.get("environment"):
        body["mpesa_environment"] = fields["environment"]
    return await _saved(request, session, change_of(bar_id, body), None)


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
    fields = await form_fields(request)
    if session is not None:
        auth.require_csrf(request, session, fields.get(auth.CSRF_FIELD))
    return session, fields


async def _saved(
    request: Request[Any, Any, Any], session: Session, change: SettingsChange, typed: dict[str, str] | None
) -> Response[Any]:
    """Save, then show the page anew; or show it again with what is wrong, and what was typed except secrets."""
    request.state[OPERATION] = operation_id = uuid4()
    try:
        saved = await context.of(request).settings_service.save(change, session.person, operation_id=operation_id)
    except MpesaSyncError as error:
        if error.http_status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
            raise
        return await _not_saved(request, session, change, typed, error)
    return Redirect(
        f"{request.url.path.removesuffix('/switch')}?done={_done(saved, change)}", status_code=staff.SEE_OTHER
    )


async def _not_saved(
    request: Request[Any, Any, Any],
    session: Session,
    change: SettingsChange,
    typed: dict[str, str] | None,
    error: MpesaSyncError,
) -> Response[Any]:
    """Show the page again with what went wrong; where it cannot be read either, what went wrong alone."""
    faults: Sequence[FieldError] = ()
    said = _failed(error)
    if isinstance(error, InvalidSettings):
        faults, said = error.errors, "" if typed else _sentence(error)
    try:
        view = await mpesa_page.read(
            context.of(request), session, change.bar_id, typed=typed, errors=faults, error=said
        )
    except DatabaseFault:
        raise error from None
    return staff.page("mpesa.html", view, HTTPStatus(error.http_status))


def _done(saved: SettingsSaved, change: SettingsChange) -> str:
    if not saved.changed:
        return "unchanged"
    if saved.stored:
        return "saved" if saved.enabled else "saved-off"
    return "on" if saved.enabled else "off"


def _sentence(error: InvalidSettings) -> str:
    """Return what is wrong where there is no form to say it at: each field's remedy."""
    return " ".join([error.message + ".", *(fault.message for fault in error.errors)])


def _failed(error: MpesaSyncError) -> str:
    if isinstance(error, OutcomeUnknown):
        return text("error.unknown")
    if isinstance(error, SyncRefused):
        return error.message
    return text("error.retry" if error.retryable else "error.failed", reason=error.message)
