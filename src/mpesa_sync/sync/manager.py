"""`MpesaSyncManager` (T1.1): the two fields of a bar written together, compared, and repaired."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeVar
from uuid import UUID, uuid4

import msgspec

from mpesa_sync.crypto import usability
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.db import alerts as alerts_sql
from mpesa_sync.db import detection, installation
from mpesa_sync.db.operations import NOWHERE, Operation, Origin
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Done
from mpesa_sync.domain import availability, environments
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.inputs import bar_uuid, flag, line_of_text, named_environment, uuid_of
from mpesa_sync.errors import (
    BarNotFound,
    EnvironmentNotAllowed,
    InvalidInput,
    KmsKeyMissing,
    MpesaSyncError,
    StaleAuthority,
)
from mpesa_sync.sync import stale_authority, writer
from mpesa_sync.sync.alert_kinds import RESOLVED_BY_SUCCESS, RESOLVED_BY_SWITCH_ON
from mpesa_sync.sync.results import RepairResult, SyncResult, ValidationResult
from mpesa_sync.sync.settling import settled

T = TypeVar("T")
_NO_KEY: Final = (
    "Switching on needs the key that opens the stored secrets: set MPESA_KMS_KEY, or pass kms_keys to connect."
)


class MpesaSyncManager:
    """Keeps `mpesa_credentials.is_active` and `bars.mpesa_enabled` of a bar one fact (R1).

    Arguments:
        database: what `mpesa_sync.connect` gives.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    async def sync_mpesa_status(
        self,
        bar_id: UUID | str,
        is_active: bool,
        *,
        environment: Literal["sandbox", "production"] | None = None,
        actor: str = "program",
        operation_id: UUID | None = None,
        reason: str = "",
        origin: Origin = NOWHERE,
        connection: Any = None,
    ) -> SyncResult:
        """Switch M-Pesa on or off for both applications, in one transaction or not at all (R1.1–R1.3).

        Arguments:
            bar_id: the bar.
            is_active: True makes exactly one environment active and shows M-Pesa; False clears every
                environment and hides it.
            environment: which environment is to be active; None lets R1's order decide. Not used for False.
            actor: who asks, for the audit: 1 to 200 characters.
            operation_id: the same id makes a repeat safe: it replays the stored answer. None takes a new one.
            reason: why, for the audit: up to 500 characters.
            origin: from where, for the audit.
            connection: an asyncpg connection in a READ COMMITTED transaction, which the change then joins in a
                savepoint: no commit, no retry, no alert; SET CONSTRAINTS ALL IMMEDIATE stays in force (R1.4).
        Returns:
            What is stored now, read back inside the transaction.
        Raises:
            SyncRefused: the caller's own mistake (`BarNotFound`, `CredentialsMissing`, `CredentialsUnusable`,
                `AmbiguousEnvironment`, `EnvironmentNotAllowed`, `InvalidInput`, `OperationConflict`,
                `UnsupportedTransaction`). Nothing was written.
            KmsKeyMissing: switching on, and no key was given to `connect`.
            TransientFault: retries are exhausted (R5.1); nothing was written; an alert is open.
            OutcomeUnknown: the change may have been saved; an alert asks to verify it.
            DatabaseFault, SchemaError: refused for good; nothing was written; an alert is open (R5.2).
            Each carries a `SyncResult` in `result`.
        """
        operation_id = uuid4() if operation_id is None else operation_id

        async def work(joined: Any) -> Done[SyncResult]:
            return await self._switch(joined, operation)

        try:
            wanted, named = flag("is_active", is_active), named_environment(environment)
            operation = Operation(
                id=uuid_of("operation_id", operation_id),
                kind="switch",
                bar_id=bar_uuid(bar_id),
                actor=line_of_text("actor", actor),
                reason=line_of_text("reason", reason, shortest=0, longest=500),
                request={"is_active": wanted, "environment": named and named.value},
                origin=origin,
            )
            if wanted and not self._db.keys:
                raise KmsKeyMissing(_NO_KEY)
            committed = await settled(self._db, operation, work, SyncResult, connection)
        except MpesaSyncError as error:
            error.result = _not_synced(operation_id, error)
            raise
        return msgspec.structs.replace(committed.result, attempts=committed.attempts)

    async def _switch(self, connection: Any, operation: Operation) -> Done[SyncResult]:
        on = operation.request["is_active"]
        bar = await writer.lock(connection, operation.bar_id, with_secrets=on)
        environment = await self._chosen(connection, bar, operation) if on else None
        written = await writer.write_status(connection, operation.bar_id, environment)
        await _resolve_alerts(connection, bar, RESOLVED_BY_SWITCH_ON if on else RESOLVED_BY_SUCCESS, operation)
        result = SyncResult(
            success=True,
            credentials_updated=True,
            bar_status_updated=True,
            changed=written.credentials_changed or written.bar_changed,
            environment=environment and environment.value,
            operation_id=operation.id,
        )
        return Done(result, before=bar.state(), after=_state_after(bar, written))

    async def _chosen(self, connection: Any, bar: writer.LockedBar, operation: Operation) -> Environment:
        """Return the environment to make active, once its credentials are known to be usable."""
        named = operation.request["environment"]
        environment = environments.choose(
            bar.facts.rows,
            named=Environment(named) if named else None,
            last_active=bar.last_environment,
        )
        if environment is Environment.SANDBOX and not await installation.allows_sandbox(connection, self._db):
            raise EnvironmentNotAllowed(
                "Sandbox credentials may not serve customers here. Use production credentials, or set "
                "MPESA_SYNC_ALLOW_SANDBOX=true."
            )
        locked = next(row for row in bar.rows if row.row.environment is environment)
        usability.require_usable(self._db.keys, locked.stored_secrets, environment)
        return environment

    async def validate_sync(self, bar_id: UUID | str) -> ValidationResult:
        """Compare both fields of a bar, read in one statement (R1).

        Raises:
            BarNotFound, InvalidInput: with a `ValidationResult` in `result`.
            DatabaseFault, SchemaError: the database cannot be asked.
        """
        try:
            bar = bar_uuid(bar_id)
            async with self._db.reading() as connection:
                found = await detection.facts_of(connection, bar)
                allow_sandbox = await installation.allows_sandbox(connection, self._db)
                if found is None:
                    raise BarNotFound("There is no bar with this id.")
                facts = await stale_authority.judged(connection, self._db.keys, found.facts)
        except MpesaSyncError as error:
            error.result = ValidationResult(
                is_consistent=False,
                credentials_active=False,
                bar_mpesa_enabled=None,
                error=error.message,
            )
            raise
        drift = availability.direction(facts)
        return ValidationResult(
            is_consistent=drift is None,
            credentials_active=availability.authority(facts),
            bar_mpesa_enabled=facts.mpesa_enabled,
            direction=drift,
            warnings=tuple(availability.warnings(facts, allow_sandbox=allow_sandbox)),
        )

    async def repair_inconsistency(
        self,
        bar_id: UUID | str,
        *,
        actor: str,
        reason: str = "",
        operation_id: UUID | None = None,
        authority: Literal["credentials"] | None = None,
        origin: Origin = NOWHERE,
    ) -> RepairResult:
        """Where the two fields disagree, correct `mpesa_enabled` to `is_active` (R5.4); never the other way.

        Arguments:
            bar_id: the bar.
            actor: who asks, for the audit: 1 to 200 characters.
            reason: why, for the audit: up to 500 characters.
            operation_id: as for `sync_mpesa_status`.
            authority: `credentials` to repair also a bar whose secrets stand in `bars` while it has no
                credentials row, or, as a key given to `connect` shows, one with others (stale authority, R2).
            origin: from where, for the audit.
        Raises:
            StaleAuthority: such a bar, and `authority` does not say that it may be repaired.
            Otherwise as `sync_mpesa_status`; each carries a `RepairResult` in `result`.
        """
        operation_id = uuid4() if operation_id is None else operation_id

        async def work(connection: Any) -> Done[RepairResult]:
            return await repair_locked(
                connection, operation, keys=self._db.keys, accept_stale=authority == "credentials"
            )

        try:
            if authority not in (None, "credentials"):
                raise InvalidInput("authority", "must be 'credentials', or be left out")
            operation = Operation(
                id=uuid_of("operation_id", operation_id),
                kind="repair",
                bar_id=bar_uuid(bar_id),
                actor=line_of_text("actor", actor),
                reason=line_of_text("reason", reason, shortest=0, longest=500),
                origin=origin,
            )
            return (await settled(self._db, operation, work, RepairResult)).result
        except MpesaSyncError as error:
            error.result = RepairResult(success=False, repaired=False, operation_id=operation_id, error=error.message)
            raise


async def repair_locked(
    connection: Any,
    operation: Operation,
    *,
    keys: KeyRing,
    accept_stale: bool = False,
    allowed: Callable[[Any], Awaitable[None]] | None = None,
) -> Done[RepairResult]:
    """Lock a bar and correct its flag where it has drifted, in the transaction of the connection.

    Arguments:
        keys: open the secrets of a bar that holds them in both places; an empty ring opens none.
        accept_stale: correct also a bar whose `is_active` may not be the truth.
        allowed: asked once the bar is locked and known to have drifted; what it raises ends the work.
    Raises:
        BarNotFound, StaleAuthority, IntegrityFault: as `MpesaSyncManager.repair_inconsistency`.
    """
    bar = await writer.lock(connection, operation.bar_id)
    facts = bar.facts
    drift = availability.direction(facts)
    if drift is not None and not accept_stale:
        facts = await stale_authority.judged(connection, keys, facts)
        if availability.may_be_stale(facts):
            raise StaleAuthority(
                "This bar keeps M-Pesa secrets in bars, and has no credentials row or one with others, so is_active "
                "may not be the truth. Look at it, then repair with authority='credentials' if it is."
            )
    new, after = facts.mpesa_enabled, bar.state()
    if drift is not None:
        if allowed is not None:
            await allowed(connection)
        written = await writer.write_shown(connection, operation.bar_id, availability.authority(facts))
        new, after = written.mpesa_enabled, _state_after(bar, written)
    await _resolve_alerts(connection, bar, RESOLVED_BY_SUCCESS, operation)
    result = RepairResult(
        success=True,
        repaired=drift is not None,
        previous_bar_status=facts.mpesa_enabled,
        new_bar_status=new,
        operation_id=operation.id,
    )
    return Done(result, before=bar.state(), after=after)


async def _resolve_alerts(connection: Any, bar: writer.LockedBar, kinds: list[str], operation: Operation) -> None:
    if bar.has_open_alerts:
        await alerts_sql.resolve(connection, bar.facts.bar_id, kinds, by=f"operation:{operation.id}")


def _state_after(bar: writer.LockedBar, written: writer.Written) -> dict[str, Any]:
    flags = {row.environment.value: row.environment.value in written.active for row in bar.facts.rows}
    return {"credentials": flags, "mpesa_enabled": written.mpesa_enabled}


def _not_synced(operation_id: UUID, error: MpesaSyncError) -> SyncResult:
    return SyncResult(
        success=False,
        credentials_updated=False,
        bar_status_updated=False,
        changed=False,
        operation_id=operation_id,
        attempts=error.attempts,
        error=error.message,
    )
