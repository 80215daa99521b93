"""`Bumps`: moves the versions that another writer left behind, a few at a time: requests share the pool with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final
from uuid import UUID

from mpesa_sync.db import offers
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.tasks import Tasks
from mpesa_sync.live.watched import Entry
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("live")


class Bumps:
    """One bump a bar at a time.

    Arguments:
        database: written to through its pool.
        tasks: the bumps run among them.
        moved: told of each bar whose version has moved: it has to be read again.
        failed: told of each bar whose version could not be moved; the next sweep finds the difference again.
        limits: at most so many transactions at a time.
    """

    def __init__(
        self,
        database: Database,
        tasks: Tasks,
        *,
        moved: Callable[[UUID], None],
        failed: Callable[[Entry], None],
        limits: Limits,
    ) -> None:
        self._db = database
        self._tasks = tasks
        self._moved = moved
        self._failed = failed
        self._turn = asyncio.Semaphore(limits.bumps)

    def start(self, entry: Entry) -> None:
        """Move the version of a bar past the one that is held; harmless where that is being done already."""
        if entry.bump is None and entry.known is not None:
            entry.bump = self._tasks.start("bump", self._bump(entry, entry.known.version))

    async def _bump(self, entry: Entry, above: int) -> None:
        try:
            async with self._turn:
                await offers.bump(self._db, entry.bar_id, above=above)
            self._moved(entry.bar_id)
            metrics.feed_bumps.labels("done").inc()
        except MpesaSyncError as error:
            self._failed(entry)
            metrics.feed_bumps.labels("failed").inc()
            _log.warning(Event.FEED_BUMP_FAILED, error=error.code, sqlstate=error.sqlstate)
        finally:
            entry.bump = None
