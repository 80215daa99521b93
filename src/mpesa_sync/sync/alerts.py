"""When a failure needs a person (R5.2): which alert it is, what to do, and storing it in a transaction of its own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Final
from uuid import UUID, uuid4

from mpesa_sync.db import alerts, session, transaction
from mpesa_sync.db.alerts import Occurrence
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.remedies import for_bar
from mpesa_sync.errors import (
    AccessDenied,
    ConstraintRefused,
    CredentialsUnusable,
    DatabaseFault,
    IntegrityFault,
    MpesaSyncError,
    OutcomeUnknown,
    PermanentFault,
    PoolExhausted,
    SchemaError,
    TriggerRefused,
)
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import spool
from mpesa_sync.sync.alert_kinds import AlertKind

_log: Final = logs.get("alerts")


@dataclass(frozen=True, slots=True)
class Alert:
    """What a person is told about a failure."""

    kind: AlertKind
    cause: str
    sqlstate: str | None
    what_to_do: str


def alert_for(error: MpesaSyncError) -> Alert | None:
    """Return the alert that an error calls for; None for the caller's own mistakes."""
    if isinstance(error, CredentialsUnusable):
        if error.reason != AlertKind.SECRETS_UNREADABLE:
            return None
        return Alert(AlertKind.SECRETS_UNREADABLE, error.code, None, _REMEDIES[CredentialsUnusable])
    if isinstance(error, OutcomeUnknown):
        return Alert(AlertKind.OUTCOME_UNKNOWN, error.code, error.sqlstate, _REMEDIES[OutcomeUnknown])
    if isinstance(error, PermanentFault | SchemaError):
        return Alert(AlertKind.DATABASE_REFUSED, error.code, error.sqlstate, _remedy(error))
    if isinstance(error, DatabaseFault):
        return Alert(AlertKind.SYNC_FAILED, error.code, error.sqlstate, _REMEDIES[DatabaseFault])
    return None


_REMEDIES: Final[dict[type[MpesaSyncError], str]] = {
    CredentialsUnusable: (
        "Run 'mpesa-sync explain BAR': the stored secrets open under none of the keys given. Set MPESA_KMS_KEY "
        "(or MPESA_SYNC_OLD_KMS_KEYS) to the key they were sealed with, or have the venue save them again."
    ),
    OutcomeUnknown: (
        "Verify: the change may or may not have been saved. Run 'mpesa-sync alerts show ID', which says what became "
        "of the operation. Have it done again where it failed, or where after a minute nothing is stored of it yet."
    ),
    ConstraintRefused: (
        "A rule of the platform's database refuses this status, for example because a bar must keep one payment "
        "method. Enable another method for the bar or change the rule, then switch again."
    ),
    TriggerRefused: (
        "A trigger or function of the platform on bars or mpesa_credentials refuses this change. Find out which rule "
        "it enforces, meet it or change it, then switch again."
    ),
    AccessDenied: "Grant the database role its rights (see 'mpesa-sync db status'), then switch again.",
    IntegrityFault: (
        "A trigger or rule of the platform changes the status after it was written. Find it on bars and "
        "mpesa_credentials, then switch again."
    ),
    SchemaError: "Run 'mpesa-sync db status', which names what is missing, then 'mpesa-sync db init'.",
    PermanentFault: "The database refuses the change. Look at its own log, mend the cause, switch again.",
    DatabaseFault: (
        "The database could not take the change, and nothing was saved. Check that it runs, has space and free "
        "connections, and is not blocked by a long transaction, then switch again."
    ),
}


def _remedy(error: MpesaSyncError) -> str:
    return next(_REMEDIES[cls] for cls in type(error).__mro__ if cls in _REMEDIES)


async def raise_alert(
    database: Database, error: MpesaSyncError, *, bar_id: UUID, operation_id: UUID, wait_s: float | None = None
) -> None:
    """Raise the alert that `error` calls for, if it calls for one (R5.2), after the failed transaction has ended.

    Logged and counted first, so that a dead database cannot hide it; then stored in a transaction of its own; where
    the database cannot, spooled until it can. Never raises because of the database.

    Arguments:
        wait_s: as for `raise_occurrence`.
    """
    alert = alert_for(error)
    if alert is None:
        return
    now = database.clock.now()
    await raise_occurrence(
        database,
        Occurrence(
            id=uuid4(),
            bar_id=bar_id,
            kind=alert.kind,
            cause=alert.cause,
            sqlstate=alert.sqlstate,
            what_to_do=for_bar(alert.what_to_do, str(bar_id)),
            operation_id=operation_id,
            first_seen=now,
            last_seen=now,
        ),
        can_store=not isinstance(error, PoolExhausted),  # there is no connection, and waiting again helps nobody
        wait_s=wait_s,
    )


async def raise_occurrence(
    database: Database, occurrence: Occurrence, *, can_store: bool = True, wait_s: float | None = None
) -> None:
    """Log, count and store an occurrence, or spool it.

    Arguments:
        can_store: False spools it at once.
        wait_s: seconds after which the caller goes on, while it is being stored; None waits until it is.
    """
    metrics.alerts.labels(occurrence.kind).inc()
    _log.error(Event.ALERT_RAISED, what_to_do=occurrence.what_to_do, **_facts(occurrence))
    storing = database.background(_store(database, occurrence) if can_store else _spool(database, occurrence))
    await asyncio.wait([storing], timeout=wait_s)
    if storing.done():
        storing.result()


async def _store(database: Database, occurrence: Occurrence) -> None:
    work = partial(spool.store, database, occurrence)
    try:
        await transaction.once(database, session.WRITE, work, budget_s=session.END_TIMEOUT_S)
    except MpesaSyncError as exc:
        _log.error(Event.ALERT_NOT_STORED, error=exc.code, **_facts(occurrence))
        await spool.keep(database, occurrence, may_be_stored=isinstance(exc, OutcomeUnknown))


async def _spool(database: Database, occurrence: Occurrence) -> None:
    await spool.keep(database, occurrence)


def _facts(occurrence: Occurrence) -> dict[str, str | None]:
    return {
        "kind": occurrence.kind,
        "bar_id": None if occurrence.bar_id is None else str(occurrence.bar_id),
        "operation_id": None if occurrence.operation_id is None else str(occurrence.operation_id),
        "cause": occurrence.cause,
        "sqlstate": occurrence.sqlstate,
    }


async def outcome_is_known(database: Database, *, bar_id: UUID, operation_id: UUID) -> None:
    """Resolve the alert that it is not known whether an operation was saved: it was. Logged where that fails."""
    kind = AlertKind.OUTCOME_UNKNOWN
    try:
        await transaction.once(
            database,
            session.WRITE,
            lambda connection: alerts.resolve_of_operation(connection, bar_id, operation_id, kind),
        )
    except MpesaSyncError as exc:
        _log.warning(
            Event.ALERT_NOT_STORED,
            kind=kind,
            bar_id=str(bar_id),
            operation_id=str(operation_id),
            error=exc.code,
            sqlstate=exc.sqlstate,
        )
