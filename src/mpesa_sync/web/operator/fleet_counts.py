"""The counts over all venues, read at most every few seconds, for however many operators look at them."""

from __future__ import annotations

import asyncio
from typing import Final

from mpesa_sync.db import installation, overview
from mpesa_sync.db.overview import FleetCounts
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import DatabaseFault

_KEEP_S: Final = 10.0


class StoredCounts:
    """Counts in one statement of at most 2 s; what was counted last stays, where the next count does not succeed.

    That it did not is kept as long, so that a slow database is not asked again at once.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._one_at_a_time = asyncio.Lock()
        self._asked_at: float | None = None
        self._last: FleetCounts | None = None
        self._failed = False

    async def read(self) -> tuple[FleetCounts | None, bool]:
        """Return the counts, None where there are none yet, and whether they are of now.

        Raises:
            SchemaError: the tables are not as they should be.
        """
        async with self._one_at_a_time:
            now = self._db.clock.monotonic()
            if self._asked_at is None or now - self._asked_at >= _KEEP_S:
                try:
                    self._last, self._failed = await self._counted(), False
                except DatabaseFault:
                    self._failed = True
                self._asked_at = self._db.clock.monotonic()
            return self._last, not self._failed

    async def _counted(self) -> FleetCounts:
        async with self._db.reading(overview.READ) as connection:
            allow_sandbox = await installation.allows_sandbox(connection, self._db)
            return await overview.counts(connection, allow_sandbox=allow_sandbox)
