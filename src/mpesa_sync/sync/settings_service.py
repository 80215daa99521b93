"""Saving a venue's M-Pesa settings: credentials and both status fields, in one transaction or not at all (R1.4, R4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal
from uuid import UUID, uuid4, uuid5

import msgspec

from mpesa_sync.crypto.cipher import seal
from mpesa_sync.db import alerts, credentials, installation, settings, shape
from mpesa_sync.db.operations import NOWHERE, Operation, Origin
from mpesa_sync.db.pool import Database
from mpesa_sync.db.shape import Shape
from mpesa_sync.db.transaction import Done
from mpesa_sync.domain import availability, saving
from mpesa_sync.domain.bars import BarFacts
from mpesa_sync.domain.credentials import SECRET_FIELDS, AccountType, Environment, clean_text
from mpesa_sync.domain.saving import Save, SettingsChange, StoredCredentials
from mpesa_sync.errors import BarNotFound, ConstraintRefused, IntegrityFault, InvalidInput, SchemaError
from mpesa_sync.identity import membership
from mpesa_sync.identity.people import Person
from mpesa_sync.sync import freshness, writer
from mpesa_sync.sync.alert_kinds import RESOLVED_BY_SUCCESS
from mpesa_sync.sync.manager import MpesaSyncManager
from mpesa_sync.sync.settling import settled

_LONGEST_NUMBER: Final = 7
_STATUS: Final = "status"
"""Names the operation of the manager inside ours: its id follows from ours, so a repeat is the same one."""
_NAMED: Final[dict[Environment, Literal["sandbox", "production"]]] = {
    Environment.SANDBOX: "sandbox",
    Environment.PRODUCTION: "production",
}


@dataclass(frozen=True, slots=True)
class _Status:
    """Both fields, read back."""

    enabled: bool
    environment: str | None
    changed: bool


class Warned(msgspec.Struct, frozen=True):
    """Something worth a second look, which did not stop the save."""

    field: str
    code: str
    message: str


class SettingsSaved(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored now, read back. Holds no secret.

    `credentials_updated` and `bar_status_updated`: both fields are as asked (R4.3). `stored`: names of the fields of
    the credentials that changed. `changed`: whether anything was written.
    """

    operation_id: UUID
    bar_id: UUID
    enabled: bool
    environment: str | None
    credentials_updated: bool
    bar_status_updated: bool
    stored: tuple[str, ...] = ()
    changed: bool
    warnings: tuple[Warned, ...] = ()


class SettingsService:
    """Saves what a signed-in person posted for a bar.

    Arguments:
        database: what `mpesa_sync.connect` gives; new secrets are sealed with its first key.
        callback_url: for platforms whose credentials require one (`MPESA_SYNC_CALLBACK_URL`).
    """

    def __init__(self, database: Database, *, callback_url: str | None = None) -> None:
        self._db = database
        self._manager = MpesaSyncManager(database)
        self._callback_url = callback_url
        self._shape: Shape | None = None
        self._allow_sandbox: bool | None = None

    async def save(
        self,
        change: SettingsChange,
        person: Person,
        *,
        operation_id: UUID | None = None,
        origin: Origin = NOWHERE,
        unless_changed: Collection[str] | None = None,
        within_s: float | None = None,
    ) -> SettingsSaved:
        """Store credentials and switch, as one transaction with its audit entry (R4.1).

        Membership and role are read in that transaction: who has lost them meanwhile writes nothing.

        Arguments:
            change: what was posted.
            person: who posted it.
            operation_id: the same id makes a repeat safe. None takes a new one.
            origin: from where, for the audit.
            unless_changed: digests (`StoredSettings.digest`) one of which must be that of what is stored, judged
                under the lock; None asks for nothing. A repeat of an operation that is done is not judged again.
            within_s: seconds that the caller has, where that is less than the retries may take.
        Raises:
            BarNotFound: no such bar, or not one of this person's.
            NotAllowed: this person may read and not write.
            StaleForm: what is stored has none of those digests; says who changed it and when.
            InvalidSettings: names every wrong field; nothing was written (R4.4).
            MpesaSyncError: as `MpesaSyncManager.sync_mpesa_status`; nothing was written unless it is
                `OutcomeUnknown`. Who needs to name the operation then gives its id.
        """
        operation = Operation(
            id=operation_id or uuid4(),
            kind="settings",
            bar_id=change.bar_id,
            actor=person.actor,
            request=self._request(change),
            origin=origin,
        )

        async def work(connection: Any) -> Done[SettingsSaved]:
            await membership.require(connection, person, change.bar_id, to_write=True)
            return await self._save(connection, change, person, operation, unless_changed)

        try:
            return (await settled(self._db, operation, work, SettingsSaved, within_s=within_s)).result
        except (ConstraintRefused, SchemaError):
            self._shape = None  # a column may have come or gone: looked at again by the next save
            raise

    async def _save(
        self,
        connection: Any,
        change: SettingsChange,
        person: Person,
        operation: Operation,
        unless_changed: Collection[str] | None,
    ) -> Done[SettingsSaved]:
        bar = await writer.lock(connection, change.bar_id)
        # Again: the lock may have been waited for, and the membership taken away meanwhile.
        await membership.require(connection, person, change.bar_id, to_write=True)
        stored = await settings.stored_of(connection, change.bar_id)
        if stored is None:
            raise BarNotFound("Bar not found")
        if unless_changed is not None and stored.digest not in unless_changed:
            raise await freshness.stale(connection, bar.facts)
        allow_sandbox = await self._allows_sandbox(connection)
        save = saving.decide(change, stored.rows, allow_sandbox=allow_sandbox, last_active=stored.last_environment)
        sealed = [None if secret is None else seal(self._db.keys, secret) for secret in save.secrets]
        if save.fields:
            await self._store(connection, change.bar_id, save, sealed, stored.callback_url)
        status = await self._switch(connection, change, save, bar.facts, operation)
        if save.fields:
            await _require_stored(connection, change.bar_id, save, sealed)
        if bar.has_open_alerts:  # also where only credentials were saved: both fields were verified
            await alerts.resolve(connection, change.bar_id, RESOLVED_BY_SUCCESS, by=f"operation:{operation.id}")
        result = SettingsSaved(
            operation_id=operation.id,
            bar_id=change.bar_id,
            enabled=status.enabled,
            environment=status.environment or (save.environment and save.environment.value),
            credentials_updated=True,  # both were read back; whatever is not as asked was raised before
            bar_status_updated=True,
            stored=save.fields,
            changed=status.changed or bool(save.fields),
            warnings=tuple(Warned(w.field, w.code, w.message) for w in save.warnings),
        )
        return Done(result, *_remembered(save, stored))

    async def _switch(
        self, connection: Any, change: SettingsChange, save: Save, facts: BarFacts, operation: Operation
    ) -> _Status:
        """Write the status asked for; where none is, see that both fields agree and are as they were."""
        row = availability.judged_row(facts)
        active = row.environment if row else None
        wanted = change.enabled
        environment = save.environment if wanted else None
        if wanted is None:
            if availability.direction(facts) is None:
                await writer.let_deferred_speak(connection)
                after = (await writer.lock(connection, change.bar_id)).facts
                if availability.shown(after) is not availability.shown(facts) or availability.direction(after):
                    raise IntegrityFault("A trigger or rule of the database changed the status. Nothing was saved.")
                return _Status(availability.authority(after), active and active.value, changed=False)
            wanted, environment = availability.authority(facts), active
        switched = await self._manager.sync_mpesa_status(
            change.bar_id,
            wanted,
            environment=_NAMED[environment] if environment else None,
            actor=operation.actor,
            operation_id=uuid5(operation.id, _STATUS),
            origin=operation.origin,
            connection=connection,
        )
        if not (switched.credentials_updated and switched.bar_status_updated):
            raise IntegrityFault("The status read back is not the one that was asked for. Nothing was saved.")
        return _Status(wanted, switched.environment, switched.changed)

    async def _store(
        self, connection: Any, bar_id: UUID, save: Save, sealed: Sequence[bytes | None], other_callback_url: str | None
    ) -> None:
        columns = (await self._columns(connection)).tables["mpesa_credentials"]
        assert save.environment is not None
        await writer.write_credentials(
            connection,
            bar_id,
            save.environment,
            shortcode=save.shortcode or None,
            secrets=sealed,
            as_text=columns["consumer_key_enc"] != "bytea",
            callback_url=(self._callback_url or other_callback_url or "") if "callback_url" in columns else None,
        )
        await settings.keep_details(connection, bar_id, save.environment, save.account_type, save.till_number)

    async def _allows_sandbox(self, connection: Any) -> bool:
        """Return whether sandbox credentials may serve customers: asked once, an installation stays what it is."""
        if self._allow_sandbox is None:
            self._allow_sandbox = await installation.allows_sandbox(connection, self._db)
        return self._allow_sandbox

    def _request(self, change: SettingsChange) -> dict[str, Any]:
        """Return what the audit keeps of a request: what was asked, and of secrets only what tells two requests apart.

        An operation id that comes with another request is a conflict, and no repeat.
        """
        given = {name: getattr(change, name) for name in SECRET_FIELDS}
        return {
            "mpesa_enabled": change.enabled,
            "mpesa_environment": change.environment and change.environment.value,
            "mpesa_business_shortcode": _if_number(change.shortcode),
            "mpesa_account_type": change.account_type if change.account_type in tuple(AccountType) else None,
            "mpesa_till_number": _if_number(change.till_number),
            "given": {name: self._db.keys.fingerprint(secret) for name, secret in given.items() if secret},
        }

    async def _columns(self, connection: Any) -> Shape:
        """Return the shape of the platform's tables, looked at once."""
        if self._shape is None:
            self._shape = await shape.require(connection)
        return self._shape


async def _require_stored(connection: Any, bar_id: UUID, save: Save, sealed: Sequence[bytes | None]) -> None:
    """Read the credentials back: a trigger or rule of the database may have kept or made something else (R4.3)."""
    found = await settings.stored_of(connection, bar_id)
    row = next((row for row in found.rows if row.environment is save.environment), None) if found else None
    secrets = (await credentials.stored_secrets_of(connection, bar_id)).get(row.environment) if row else None
    pairs = zip(sealed, secrets or (None, None, None), strict=True)
    is_stored = (
        row is not None
        and row.shortcode == (save.shortcode or row.shortcode)
        and (row.account_type, row.till_number) == (save.account_type, save.till_number)
        # A column of type text holds hex (form 3).
        and all(new is None or old in (new, b"\\x" + new.hex().encode()) for new, old in pairs)
    )
    if not is_stored:
        raise IntegrityFault("A trigger or rule of the database changed the credentials. Nothing was saved.")


def _if_number(text: str | None) -> str | None:
    """Return a posted number where it looks like one: anything else might be a secret in the wrong field."""
    cleaned = clean_text(text or "")
    return cleaned if cleaned.isascii() and cleaned.isdigit() and len(cleaned) <= _LONGEST_NUMBER else None


def _remembered(save: Save, stored: settings.StoredSettings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the audit keeps of credentials, before and after: their numbers, of secrets the names alone."""
    if not save.fields:
        return {}, {}
    row = next((row for row in stored.rows if row.environment is save.environment), None)
    named = {"environment": save.environment and save.environment.value, "fields": list(save.fields)}
    return {"saved": _numbers(row) if row else {}}, {"saved": named | _numbers(save)}


def _numbers(kept: StoredCredentials | Save) -> dict[str, str | None]:
    return {
        "mpesa_business_shortcode": _if_number(kept.shortcode),
        "mpesa_account_type": str(kept.account_type),
        "mpesa_till_number": _if_number(kept.till_number),
    }


def require_bar_id(value: object) -> UUID:
    """Return the id of a posted bar.

    Raises:
        InvalidInput: it is not the text of a UUID.
    """
    if isinstance(value, str):
        with suppress(ValueError):
            return UUID(value)
    raise InvalidInput("barId", "must be the id of a bar, such as 7d9c2f64-0f0b-4d1e-9f0e-5a9b3c1d2e4f")
