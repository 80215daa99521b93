"""What people do with alerts: acknowledge, so that nobody is reminded any more, and resolve (R5.2)."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import alerts, session, transaction
from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.refusals import AlertClosed, AlertNotFound
from mpesa_sync.sync import alert_words

_log: Final = logs.get("alerts")
LONGEST_NOTE: Final = 500


async def acknowledge(database: Database, alert_id: UUID, *, actor: str) -> StoredAlert:
    """Say that somebody looks after an alert: it stays open, and nobody is reminded of it any more.

    Acknowledged before, by whomever, it stays as it is.

    Arguments:
        actor: who says so: 1 to 200 characters.
    Raises:
        AlertNotFound, AlertClosed, InvalidInput: nothing was changed.
        DatabaseFault: it could not be stored.
    """
    actor = line_of_text("actor", actor)

    async def work(connection: Any) -> StoredAlert:
        await _open(connection, alert_id)
        await alerts.acknowledge(connection, alert_id, actor=actor)
        return await _found(connection, alert_id)

    return _logged(await transaction.once(database, session.WRITE, work), actor)


async def resolve(database: Database, alert_id: UUID, *, actor: str, note: str = "") -> StoredAlert:
    """Close an alert by hand. What happens after that is a new episode.

    Arguments:
        actor: who says so: 1 to 200 characters.
        note: what was found or done, up to 500 characters.
    Raises:
        AlertNotFound, AlertClosed, InvalidInput: nothing was changed.
        DatabaseFault: it could not be stored.
    """
    actor, note = line_of_text("actor", actor), line_of_text("note", note, shortest=0, longest=LONGEST_NOTE)

    async def work(connection: Any) -> StoredAlert:
        await _open(connection, alert_id)
        await alerts.resolve_one(connection, alert_id, actor=actor, note=note)
        return await _found(connection, alert_id)

    return _logged(await transaction.once(database, session.WRITE, work), actor)


async def _open(connection: Any, alert_id: UUID) -> None:
    """Lock an alert that is open.

    Raises:
        AlertNotFound, AlertClosed
    """
    alert = await alerts.lock(connection, alert_id)
    if alert is None:
        raise AlertNotFound("There is no alert with this id.")
    if alert.state == "resolved":
        assert alert.resolved_at is not None
        by = alert_words.who(alert.resolved_by)
        raise AlertClosed(f"This alert was resolved by {by} at {alert.resolved_at:%Y-%m-%d %H:%M} UTC.")


async def _found(connection: Any, alert_id: UUID) -> StoredAlert:
    alert = await alerts.find(connection, alert_id)
    assert alert is not None  # it is locked
    return alert


def _logged(alert: StoredAlert, actor: str) -> StoredAlert:
    bar_id = alert.bar_id and str(alert.bar_id)
    _log.info(Event.ALERT_CHANGED, alert_id=str(alert.id), kind=alert.kind, bar_id=bar_id, state=alert.state, by=actor)
    return alert
