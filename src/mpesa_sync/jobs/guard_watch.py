"""Watches over the guards: one that is disabled, gone or outdated is an alert, until all stand again (G4)."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from mpesa_sync.db import alerts, guards, session, transaction
from mpesa_sync.db.alerts import Occurrence
from mpesa_sync.db.guards import GuardStatus
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alert_words import GUARDS_WELL
from mpesa_sync.sync.alerts import raise_occurrence

_log: Final = logs.get("jobs")
_OPEN: Final = ("firing", "acknowledged")
_REMEDY: Final = (
    "Run 'mpesa-sync guard status', which names each trigger. Find out who changed it and why; then 'mpesa-sync guard "
    "install' puts all of them back and looks for bars that drifted meanwhile, or 'mpesa-sync guard remove' takes them "
    "away on purpose."
)


async def watch(database: Database) -> GuardStatus:
    """Raise the alert about guards that do not stand, once for each way in which they do not, or resolve it.

    Raises:
        DatabaseFault: the database cannot be asked; nothing was changed.
    """
    async with database.reading() as connection:
        found = await guards.status(connection)
        told = await alerts.page(connection, states=_OPEN, kind=AlertKind.GUARD_BROKEN, limit=1)
    if found.is_broken:
        cause = f"guard_{found.state}"
        if not told or told[0].cause != cause:
            now = database.clock.now()
            await raise_occurrence(
                database,
                Occurrence(
                    id=uuid4(),
                    bar_id=None,
                    kind=AlertKind.GUARD_BROKEN,
                    cause=cause,
                    sqlstate=None,
                    what_to_do=_REMEDY,
                    operation_id=None,
                    first_seen=now,
                    last_seen=now,
                ),
            )
    elif told:
        await transaction.once(
            database,
            session.WRITE,
            lambda connection: alerts.resolve(connection, None, [AlertKind.GUARD_BROKEN], by=GUARDS_WELL),
        )
    return found


async def watch_when_it_can(database: Database) -> None:
    """Do what `watch` does; a database that cannot be asked is logged, and keeps nothing else from being done."""
    try:
        await watch(database)
    except MpesaSyncError as exc:
        _log.warning(Event.JOB_FAILED, job="guards", error=exc.code)
