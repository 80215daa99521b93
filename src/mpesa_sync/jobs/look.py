"""`look`: finds what has to be told, makes its rows and the jobs that send it, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, Final

from mpesa_sync.db import (
    alerts,
    deliveries,
    guards,
    idempotency,
    notices_due,
    old_rows,
    session,
    transaction,
    venue_channels,
)
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.jobs import failing, guard_watch, queue
from mpesa_sync.jobs.channels import CHANNEL_GONE
from mpesa_sync.jobs.owner_words import OWNER_KINDS
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import spool
from mpesa_sync.sync.alert_kinds import RESOLVED_BY_SUCCESS
from mpesa_sync.sync.alert_words import NONE_FAILING

_log: Final = logs.get("jobs")
_ROUNDS: Final = 20
"""How often a step of `tidy` is done again at once where it has removed as much as it may."""
_FULL: Final = 10_000
"""How much a step removes at most, in one transaction."""


async def look(database: Database, *, channels: Collection[str], owners: bool, repeat_minutes: int, pace: Pace) -> int:
    """Take in what was spooled, make a row for all that has to be told, and a job for each channel with something due.

    Row and job are one transaction, so neither is there without the other; a job that was lost is made anew at the
    next look, as is one for what has to be tried again. Several programs may look at the same time.

    Arguments:
        channels: the names of the operators' channels that this program can send over.
        owners: whether this program can open the URLs of venues' channels.
        repeat_minutes: after how many minutes an alert that is firing is told again; 0: never.
        pace: after what time messages are given up whose channel is used no more.
    Returns:
        How many channels have something due.
    Raises:
        DatabaseFault, SchemaError: nothing was done, or it may have been: doing it again does no harm.
    """
    await guard_watch.watch_when_it_can(database)
    await spool.take_in_when_it_can(database)  # a file that cannot be taken in must not keep the rest from being told

    async def work(connection: Any) -> int:
        await notices_due.make(
            connection, channels=sorted(channels), repeat_minutes=repeat_minutes, owner_kinds=OWNER_KINDS
        )
        due = await deliveries.due(connection, channels=sorted(channels), owners=owners)
        for audience, channel in due:
            await queue.enqueue(connection, audience, channel)
        return len(due)

    async def give_up(connection: Any) -> None:
        await deliveries.give_up(
            connection,
            CHANNEL_GONE,
            channels=sorted(channels),
            tried=timedelta(seconds=pace.give_up_after_s),
            untried=timedelta(seconds=pace.give_up_untried_after_s),
        )

    async def resolve(connection: Any) -> None:
        await alerts.resolve_left_open(connection, RESOLVED_BY_SUCCESS)
        await _settle_channels(connection)

    await transaction.once(database, session.WRITE, resolve)
    due = await transaction.once(database, session.WRITE, work)
    await transaction.once(database, session.WRITE, give_up)  # apart: it may wait for messages that are written down
    return due


async def tidy(database: Database) -> None:
    """Remove what is old, and resolve the alert about channels where none of those that are used fails any more.

    Each step is a transaction of its own, and one that fails is logged and tried again the next time. Alerts
    themselves are kept: they are few, and the history of a venue.
    """
    for name, step in _STEPS.items():
        try:
            for _round in range(_ROUNDS):
                removed = await transaction.once(database, session.WRITE, step)
                if removed is None or removed < _FULL:
                    break
        except MpesaSyncError as exc:
            _log.warning(Event.JOB_FAILED, job="tidy", step=name, error=exc.code)


async def _settle_channels(connection: Any) -> None:
    """Bring the alert about channels up to date: a success that met its row locked, by a look's, has left it open."""
    await failing.settle(connection, by=NONE_FAILING)


_STEPS: Final[Mapping[str, Callable[[Any], Awaitable[int | None]]]] = {
    "channels": old_rows.forget_channels,
    "owners": venue_channels.forget_gone,
    "failing": _settle_channels,
    "deliveries": old_rows.prune_deliveries,
    "occurrences": alerts.prune_occurrences,
    "keys": idempotency.prune,
    "cycles": old_rows.prune_cycles,
    "guard_hits": guards.prune_hits,
    "queue_log": old_rows.prune_queue_log,
    "queue_statistics": old_rows.prune_queue_statistics,
}
