"""SQL of what a scrape of the metrics reads: counts over our own tables, without an id among them. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mpesa_sync.db import alerts

DELIVERIES: Final = "select state, count(*) as deliveries from mpesa_sync.alert_deliveries group by state"
OLDEST_PENDING: Final = """
select coalesce(extract(epoch from clock_timestamp() - min(created_at)), 0)::float8 as seconds
  from mpesa_sync.alert_deliveries where state = 'pending'
"""
JOBS: Final = """
select entrypoint, status::text as state, count(*) as jobs from mpesa_sync.queue group by entrypoint, status
"""


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is stored now: alerts by kind and state, messages by state, jobs by entry point and state.

    `oldest_pending_s`: how long the oldest message has been waiting, in seconds; 0 where none waits.
    """

    alerts: Mapping[tuple[str, str], int]
    deliveries: Mapping[str, int]
    oldest_pending_s: float
    jobs: Mapping[tuple[str, str], int]


async def read(connection: Any) -> Gauges:
    """Return what is stored now."""
    deliveries = await connection.fetch(DELIVERIES)
    jobs = await connection.fetch(JOBS)
    return Gauges(
        alerts=await alerts.counts(connection),
        deliveries={record["state"]: record["deliveries"] for record in deliveries},
        oldest_pending_s=await connection.fetchval(OLDEST_PENDING),
        jobs={(record["entrypoint"], record["state"]): record["jobs"] for record in jobs},
    )
