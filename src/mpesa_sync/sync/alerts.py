"""When a failure needs a person (R5.2): which alert it is, what to do, and storing it in a transaction of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import alerts, session, transaction
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
        "Verify: the change may or may not have been saved. Run 'mpesa-sync explain BAR' and compare the last "
        "change with what was asked; switch again if it is missing."
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
        "The database could not take the change after several tries; nothing was saved. Check that it runs, has "
        "space and is not blocked by a long transaction, then switch again."
    ),
}


def _remedy(error: MpesaSyncError) -> str:
    return next(_REMEDIES[cls] for cls in type(error).__mro__ if cls in _REMEDIES)


async def raise_alert(database: Database, error: MpesaSyncError, *, bar_id: UUID, operation_id: UUID) -> None:
    """Log, count and, where the database can be reached, store the alert for `error`, if it calls for one.

    Logged and counted first, so that a dead database cannot hide it. Never raises because of the database.
    """
    alert = alert_for(error)
    if alert is None:
        return
    what_to_do = for_bar(alert.what_to_do, str(bar_id))
    metrics.alerts.labels(alert.kind).inc()
    facts = {
        "kind": alert.kind,
        "bar_id": str(bar_id),
        "operation_id": str(operation_id),
        "cause": alert.cause,
        "sqlstate": alert.sqlstate,
    }
    _log.error(Event.ALERT_RAISED, what_to_do=what_to_do, **facts)

    async def store(connection: Any) -> None:
        await alerts.raise_or_count(
            connection,
            bar_id=bar_id,
            kind=alert.kind,
            cause=alert.cause,
            sqlstate=alert.sqlstate,
            what_to_do=what_to_do,
            operation_id=operation_id,
        )

    try:
        if isinstance(error, PoolExhausted):
            raise error  # there is no connection to store it on, and waiting for one again helps nobody
        await transaction.once(database, session.WRITE, store, budget_s=session.END_TIMEOUT_S)
    except MpesaSyncError as exc:
        _log.error(Event.ALERT_NOT_STORED, error=exc.code, **facts)
