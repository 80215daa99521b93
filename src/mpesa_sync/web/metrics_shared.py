"""What several serving processes count together: one scrape, whichever of them answers it, speaks for all.

The Prometheus client keeps the counters of each process in a folder then (`serve` names it). What a process otherwise
works out for a scrape, its connections and how long ago it heard, each of them notes there every second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector

from mpesa_sync.db.pool import Database
from mpesa_sync.live.hub import Hub
from mpesa_sync.monitoring.names import Metric

IS_SHARED: Final[bool] = values.ValueClass._multiprocess
"""Whether this process counts beside others."""
LAG_TEXT: Final = "Seconds since the live feed was last proven to hear; absent where it never was."
POOL_TEXT: Final = "Connections of this process: in use, idle, and how many there may be."
_NOTE_EVERY_S: Final = 1.0


def counted() -> bytes:
    """Return what is counted: by this process, or by all of them together."""
    if not IS_SHARED:
        return generate_latest(REGISTRY)
    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # of the library
    return generate_latest(together)


@asynccontextmanager
async def noting(database: Database, hub: Hub) -> AsyncIterator[None]:
    """Note every second what a scrape of another process cannot know, until the block ends; alone, do nothing."""
    if not IS_SHARED:
        yield
        return
    task = asyncio.create_task(_note_for_ever(database, hub), name="metrics")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _note_for_ever(database: Database, hub: Hub) -> None:
    lag = Gauge(Metric.FEED_LAG, LAG_TEXT, multiprocess_mode="livemax", registry=None)
    pool = Gauge(Metric.POOL_CONNECTIONS, POOL_TEXT, ("state",), multiprocess_mode="livesum", registry=None)
    while True:
        heard_s = hub.state.heard_ago_s
        lag.set(float("inf") if heard_s is None else heard_s)
        for state, number in zip(("in_use", "idle", "max"), database.connections, strict=True):
            pool.labels(state).set(number)
        await asyncio.sleep(_NOTE_EVERY_S)
