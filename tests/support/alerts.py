"""Alerts for tests: stored as a failure stores them, and messages about them as the jobs write them down."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import alerts, session, transaction
from mpesa_sync.db.pool import Database
from mpesa_sync.sync.alert_kinds import AlertKind
from tests.support.occurrences import NOON, occurrence

_DELIVERY: Final = """
insert into mpesa_sync.alert_deliveries
  (alert_id, notice, number, audience, channel, state, attempts, fault, created_at, attempted_at, delivered_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, case when $6 = 'delivered' then $9::timestamptz end)
"""


async def raised(
    database: Database,
    bar: UUID | None,
    kind: str = AlertKind.SYNC_FAILED,
    *,
    cause: str = "database_busy",
    sqlstate: str | None = "55P03",
    minute: int = 0,
    count: int = 1,
) -> UUID:
    """Store an alert that was seen `minute` minutes after noon; return its id."""
    at = NOON + timedelta(minutes=minute)
    what = "Look at the database, then switch again."
    seen = occurrence(
        bar, kind, cause=cause, sqlstate=sqlstate, what_to_do=what, first_seen=at, last_seen=at, count=count
    )

    async def work(connection: Any) -> UUID:
        found = await alerts.count_occurrence(connection, seen)
        assert found is not None
        return found

    return await transaction.once(database, session.WRITE, work)


async def told(
    sql: Any,
    alert: UUID,
    channel: str,
    *,
    notice: str = "raised",
    number: int = 0,
    audience: str = "operators",
    state: str = "delivered",
    attempts: int = 1,
    fault: str = "",
    minute: int = 1,
) -> None:
    """Write down what became of a message about an alert."""
    at = NOON + timedelta(minutes=minute)
    await sql.execute(_DELIVERY, alert, notice, number, audience, channel, state, attempts, fault, at)
