"""SQL of what a scrape of the metrics reads: counts over our own tables, without an id among them. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from mpesa_sync.db import alerts, guards, reconciler
from mpesa_sync.db.reconciler import State

DELIVERIES: Final = "select state, count(*) as deliveries from mpesa_sync.alert_deliveries group by state"
OLDEST_PENDING: Final = """
select coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 as seconds
  from mpesa_sync.alert_deliveries d
 where d.state = 'pending'
   and case d.audience when 'operators' then $1::text[] is null or d.channel = any($1::text[])
       else exists (select 1 from mpesa_sync.alerts a join mpesa_sync.venue_channels v on v.bar_id = a.bar_id
                     where a.id = d.alert_id and v.channel = d.channel) end
"""
"""Without what waits for a channel that is set no more: nobody can send it, and `GIVE_UP` takes days to say so."""
JOBS: Final = """
select entrypoint, status::text as state, count(*) as jobs from mpesa_sync.queue group by entrypoint, status
"""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is stored now: alerts by kind and state, messages by state, jobs by entry point and state.

    `oldest_pending_s`: how long the oldest message that can be sent has been waiting, in seconds; 0 where none waits.
    `reconciler`: None where its row is lost.
    `guard_hits` by kind; `guards`: their state, None where none are meant to be installed.
    """

    alerts: Mapping[tuple[str, str], int]
    deliveries: Mapping[str, int]
    oldest_pending_s: float
    jobs: Mapping[tuple[str, str], int]
    reconciler: State | None
    guard_hits: Mapping[str, int] = field(default_factory=dict)
    guards: str | None = None


async def read(connection: Any, *, channels: Sequence[str] = ()) -> Gauges:
    """Return what is stored now.

    Arguments:
        channels: of the operators, by name, that are set; none: this program does not know them, so all count.
    """
    deliveries = await connection.fetch(DELIVERIES)
    jobs = await connection.fetch(JOBS)
    found = await guards.status(connection)
    return Gauges(
        alerts=await alerts.counts(connection),
        deliveries={record["state"]: record["deliveries"] for record in deliveries},
        oldest_pending_s=await connection.fetchval(OLDEST_PENDING, list(channels) or None),
        reconciler=await reconciler.state(connection),
        jobs={(record["entrypoint"], record["state"]): record["jobs"] for record in jobs},
        guard_hits=await guards.counts(connection),
        guards=None if found.mode is None else found.state.value,
    )
