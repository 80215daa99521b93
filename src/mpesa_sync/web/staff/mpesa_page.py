"""Reads what the M-Pesa page of a venue shows, and puts it together. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from mpesa_sync.db import history, installation, settings
from mpesa_sync.db.settings import StoredSettings
from mpesa_sync.domain.credentials import SECRET_FIELDS, CredentialsInput, FieldError, check_credentials
from mpesa_sync.errors import BarNotFound, DatabaseFault, SchemaError
from mpesa_sync.identity import membership
from mpesa_sync.identity.sessions import Session
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.offers import Known
from mpesa_sync.refusals import StaleForm
from mpesa_sync.web import conflict_view, form_view, status_view, views
from mpesa_sync.web.conflict_view import ConflictView
from mpesa_sync.web.context import Context
from mpesa_sync.web.form_view import FormView, Stored
from mpesa_sync.web.staff import session as staff
from mpesa_sync.web.status_view import StatusView
from mpesa_sync.web.texts import text

CHANGES = 12
"""How many of the last changes the page shows."""
_NOTICES = {
    "saved": "notice.saved",
    "saved-off": "notice.saved.off",
    "on": "notice.on",
    "off": "notice.off",
    "unchanged": "notice.unchanged",
}
_TRUE_WHILE = {"saved-off": False, "on": True, "off": False}
"""Of notices that say how the switch stands: how it must stand for that."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A form that met another change: what was posted, and by which of the two forms."""

    error: StaleForm
    typed: Mapping[str, str]
    is_switch: bool


async def read(
    context: Context,
    session: Session,
    bar_id: UUID,
    *,
    typed: Mapping[str, str] | None = None,
    errors: Sequence[FieldError] = (),
    done: str = "",
    error: str = "",
    conflict: Conflict | None = None,
    environment: str = "",
) -> views.MpesaView:
    """Return the page of a venue.

    Arguments:
        typed: what was posted, to be shown again; None shows what is stored.
        errors: what is wrong with it, by field.
        done: a word for what has been done, shown where it is still so.
        error: why it could not be done.
        conflict: why a form was not saved; it stands in the place of the forms.
        environment: whose credentials the form begins with; "" those that are in use.
    Raises:
        BarNotFound: no such venue, or not one of this person's.
        DatabaseFault: it cannot be read.
    """
    async with context.database.reading() as connection:
        role = await membership.require(connection, session.person, bar_id, to_write=False)
        stored = await settings.stored_of(connection, bar_id)
        changes = await history.recent(connection, bar_id, limit=CHANGES)
        allow_sandbox = await installation.allows_sandbox(connection, context.database)
    if stored is None:
        raise BarNotFound("Bar not found")
    known = await context.hub.known(bar_id, fresh=True)
    options = _options(stored)
    writes = role.may_write and conflict is None
    return views.MpesaView(
        person=staff.signed_in(session),
        bar_id=str(bar_id),
        slug=known.offer.bar.slug or str(bar_id),
        name=known.offer.bar.name,
        role=role,
        status=_status(known),
        changes=tuple(form_view.change_of(change, with_place=role.may_write) for change in changes),
        switch=status_view.switch(known.facts, allow_sandbox=allow_sandbox) if writes else None,
        form=_form(stored, options, typed, errors, environment) if writes else None,
        conflict=_conflict(conflict, options) if conflict else None,
        etag=stored.digest,
        once=str(uuid4()),
        notice=_notice(done, is_on=any(option.is_active for option in options)),
        error=error,
    )


def _notice(done: str, *, is_on: bool) -> str:
    """Return what has been done, "" where it is not so (any more): a page that is loaded again must not say it."""
    if done not in _NOTICES or _TRUE_WHILE.get(done, is_on) is not is_on:
        return ""
    return text(_NOTICES[done])


def _conflict(conflict: Conflict, options: Sequence[Stored]) -> ConflictView:
    view_of = conflict_view.of_switch if conflict.is_switch else conflict_view.of_form
    return view_of(conflict.error, conflict.typed, options)


def _form(
    stored: StoredSettings,
    options: Sequence[Stored],
    typed: Mapping[str, str] | None,
    errors: Sequence[FieldError],
    environment: str,
) -> FormView:
    """Return the form; what looks odd of the row that is meant is said for as long as it is stored."""
    warnings: Sequence[FieldError] = ()
    begins = [row for row in stored.rows if row.environment == environment] or stored.rows
    if typed is None and begins:
        row = begins[0]
        given = CredentialsInput(row.environment, row.shortcode, row.account_type, row.till_number)
        warnings = check_credentials(given).warnings
    return form_view.form(options, typed=typed, errors=errors, warnings=warnings, environment=environment)


async def status_of(hub: Hub, bar_id: UUID) -> StatusView:
    """Return what customers of a bar see now; `status_unknown` where it cannot be had."""
    try:
        return _status(await hub.known(bar_id, fresh=True))
    except (DatabaseFault, SchemaError):
        return status_view.status_unknown()


def _status(known: Known) -> StatusView:
    return status_view.status(known.facts, known.reason, known.warnings, version=known.offer.version)


def _options(stored: StoredSettings) -> list[Stored]:
    return [
        Stored(
            environment=row.environment,
            shortcode=row.shortcode,
            account_type=row.account_type,
            till_number=row.till_number,
            secrets=frozenset(name for name, has in zip(SECRET_FIELDS, row.has, strict=True) if has),
            is_active=row.is_active is True,
        )
        for row in stored.rows
    ]
