"""The counts over all venues, read at most every few seconds, for however many operators look at them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

from mpesa_sync.db import installation, overview
from mpesa_sync.db.overview import Asked, FleetCounts, State
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import DatabaseFault
from mpesa_sync.live import offers
from mpesa_sync.live.offers import Judge

SAMPLE: Final = 100
"""Of how many venues that are on the secrets are opened."""
_KEEP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Counted:
    """The counts; and of `sampled` venues that are on by their flags, how many are hidden all the same."""

    counts: FleetCounts
    sampled: int
    hidden: int


class StoredCounts:
    """Counts in one statement of at most 2 s; what was counted last stays, where the next count does not succeed.

    Whether secrets open is looked at for a few venues after a random id: enough to see a wrong key.

    That it did not is kept as long, so that a slow database is not asked again at once.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        self._one_at_a_time = asyncio.Lock()
        self._asked_at: float | None = None
        self._last: Counted | None = None
        self._failed = False

    async def read(self) -> tuple[Counted | None, bool]:
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

    async def _counted(self) -> Counted:
        some: list[UUID] = []
        async with self._db.reading(overview.READ) as connection:
            allow_sandbox = await installation.allows_sandbox(connection, self._db)
            counts = await overview.counts(connection, allow_sandbox=allow_sandbox)
            for after in (uuid4(), None):  # where few come after it, from the first on
                if len(some) < min(SAMPLE, counts.states[State.ON]):
                    asked = Asked(State.ON, after=after)
                    some = await overview.page(connection, asked, allow_sandbox=allow_sandbox, limit=SAMPLE)
        known = await offers.read(self._db, Judge(self._db.keys, self._db.allow_sandbox), some)
        return Counted(counts, len(known), sum(one.reason is not None for one in known.values()))
