"""The job queue: PgQueuer on tables of ours, under names that nothing in the environment can change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.adapters.persistence.qb import QueryBuilderEnvironment, QueryQueueBuilder, QuerySchedulerBuilder
from pgqueuer.adapters.persistence.queries import Queries
from pgqueuer.domain.settings import DBSettings, Durability
from pgqueuer.domain.types import Channel
from pgqueuer.ports.driver import NotifyCallback

CHANNEL: Final = Channel("mpesa_sync_jobs")
"""Where the queue says that it has changed."""
TELL: Final = {"operators": "alert.deliver", "owner": "alert.tell_owner"}
"""The job that sends what is due over one channel, by audience: a worker without such channels leaves it to others."""
SWEEP: Final = "reconcile.sweep"
"""The job that does the slices of the reconciler's sweep which are due."""
_FIRST: Final = 20
_PRIORITY: Final = {"operators": 10, "owner": 0}


def settings() -> DBSettings:
    """Return the names of the queue's tables, as migration 0007 makes them.

    Each is given: the library takes what is not from variables such as PGQUEUER_PREFIX, CHANNEL or TRIGGER.
    """
    return DBSettings(
        prefix="",
        db_schema="mpesa_sync",
        channel=CHANNEL,
        function="queue_changed",
        statistics_table="queue_statistics",
        queue_status_type="queue_status",
        queue_table="queue",
        queue_table_log="queue_log",
        trigger="queue_changed",
        schedules_table="queue_schedules",
        durability=Durability.durable,
        widen_id=True,
    )


def queries_on(connection: Any, *, limit_s: float | None = None) -> Queries:
    """Return the queue's statements on a connection, inside whatever transaction it is in.

    Arguments:
        limit_s: how long a statement may take before the connection is closed under it; None: as the connection says.
    """
    named = settings()
    return Queries(
        AsyncpgDriver(connection) if limit_s is None else _Limited(connection, limit_s),
        qbe=QueryBuilderEnvironment(settings=named),
        qbq=QueryQueueBuilder(settings=named),
        qbs=QuerySchedulerBuilder(settings=named),
    )


class _Limited(AsyncpgDriver):
    """A connection that is closed under a statement that takes too long.

    To cancel it instead, the driver would have to reach the server that does not answer.
    """

    def __init__(self, connection: Any, limit_s: float) -> None:
        super().__init__(connection)
        self._limit_s = limit_s

    async def fetch(self, query: str, *args: object) -> list[dict[str, object]]:
        with self._watched():
            return await super().fetch(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        with self._watched():
            return await super().execute(query, *args)

    async def notify(self, channel: str, payload: str) -> None:
        with self._watched():
            await super().notify(channel, payload)

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        with self._watched():
            await super().add_listener(channel, callback)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        watchdog = asyncio.get_running_loop().call_later(self._limit_s, self._connection.terminate)
        try:
            yield
        finally:
            watchdog.cancel()


async def enqueue(connection: Any, audience: str, channel: str) -> None:
    """Make the job that sends what is due over a channel, unless there is one: of each channel there is one at most."""
    await queries_on(connection).enqueue(
        TELL[audience],
        channel.encode(),
        priority=_PRIORITY[audience],
        dedupe_key=f"{TELL[audience]}|{channel}",
        on_conflict="skip",
    )


async def enqueue_sweep(connection: Any) -> None:
    """Make the job that does the slices which are due, unless there is one: there is one at most."""
    await queries_on(connection).enqueue(SWEEP, b"", priority=_FIRST, dedupe_key=SWEEP, on_conflict="skip")
