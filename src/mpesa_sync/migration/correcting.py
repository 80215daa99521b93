"""Correcting the candidates of a round, batch by batch: sized by time, held back while others suffer, shown (R2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

from mpesa_sync.db import pressure
from mpesa_sync.db.candidates import Candidate
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.db.pressure import Pressure
from mpesa_sync.migration.batches import Batches
from mpesa_sync.migration.ledger import Ledger
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.pace import Pace
from mpesa_sync.migration.report import Progress
from mpesa_sync.migration.sizing import MOST, BatchSize
from mpesa_sync.migration.throttle import Throttle
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("migration")
_LOOK_EVERY_S: Final = 1.0
"""How often it is asked how others fare; a batch takes 150 ms."""

_READ: Final = 2 * MOST
"""How many candidates are read at once: they do not change in a round, and reading them costs each batch less so."""


class _Upcoming:
    """The candidates of a round behind what is settled. More are read while the batch before is in hand."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._last = ledger.cursor
        self._read: list[Candidate] = []
        self._reading: asyncio.Task[list[Candidate]] | None = None
        self._is_last_page = False

    async def take(self, size: int) -> list[Candidate]:
        """Return the next ones, at most `size`; none where the round is done."""
        if len(self._read) < size:
            await self._more()
        taken, self._read = self._read[:size], self._read[size:]
        if len(self._read) < MOST and not self._is_last_page and self._reading is None:
            self._reading = asyncio.create_task(self._ledger.candidates(self._last, _READ))
        return taken

    async def _more(self) -> None:
        if self._is_last_page:
            return
        reading, self._reading = self._reading, None
        page = await (reading or self._ledger.candidates(self._last, _READ))
        self._is_last_page = len(page) < _READ
        self._read += page
        self._last = self._read[-1].bar_id if self._read else self._last

    async def aclose(self) -> None:
        """Read no further."""
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)


class Correcting:
    """Corrects what a run's ledger holds.

    Arguments:
        tell: called with the progress after each batch, and while the run holds back.
        check: called between batches and their parts; raises where the run is to end there.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        options: RunOptions,
        tell: Callable[[Progress], None],
        check: Callable[[], None],
    ) -> None:
        self._db = database
        self._ledger = ledger
        self._tell = tell
        self._check = check
        self._size = BatchSize(fixed=options.batch_size)
        self._throttle = Throttle(database.clock)
        self._batches = Batches(
            database,
            ledger,
            accept_stale_authority=options.accept_stale_authority,
            mirror_legacy=options.mirror_legacy,
        )
        self._pace = Pace(database.clock.monotonic, settled=self._settled)
        self._looked_at: float | None = None
        self._committed_at: float | None = None
        self._batch_ms = 0.0
        self._unseen_told = False
        self._reason: str | None = None

    async def run(self) -> str | None:
        """Correct batch after batch until the round is done; return why it stopped where others suffered for too long.

        Raises:
            RunUnderWay: the run is another process's.
            MpesaSyncError: a fault of the whole.
        """
        async with aclosing(_Upcoming(self._ledger)) as upcoming:
            self._say()
            while batch := await upcoming.take(self._size.size):
                self._check()
                if not await self._others_are_well():
                    return self._reason
                await self._settle(batch)
        self._check()
        return None

    async def _settle(self, batch: Sequence[Candidate]) -> None:
        clock = self._db.clock
        began, parts = clock.monotonic(), 0
        async with aclosing(self._batches.settle(batch)) as settling:
            async for _ in settling:
                parts += 1
                self._committed_at = clock.monotonic()
                self._batch_ms = (self._committed_at - began) * 1000
                self._say()
                self._check()  # each part is committed with its cursor: there may be thousands
        if parts > 1:
            self._size.failed()
        else:
            self._size.next(self._batch_ms, len(batch))

    async def _others_are_well(self) -> bool:
        """Hold back while others suffer; return False once that has lasted too long."""
        now = self._db.clock.monotonic()
        if self._looked_at is not None and now - self._looked_at < _LOOK_EVERY_S:
            return True
        calm = await self._throttle.wait_until_calm(self._look, self._wait, self._hold_back)
        self._looked_at = self._db.clock.monotonic()
        return calm

    async def _look(self) -> Pressure:
        async def ask() -> Pressure:
            async with self._db.reading() as connection:
                return await pressure.sample(connection)

        sample = await patiently(self._db, ask)
        unseen = self._throttle.unseen(sample)
        if unseen and not self._unseen_told:
            self._unseen_told = True
            _log.info(Event.MIGRATION_HOLDS_BACK, run=str(self._ledger.run_id), reason=unseen)
        return sample

    def _hold_back(self, reason: str | None) -> None:
        self._reason = reason
        self._say(reason)

    async def _wait(self, seconds: float) -> None:
        await self._db.clock.sleep(seconds)
        self._check()

    @property
    def _settled(self) -> int:
        report = self._ledger.report
        return self._ledger.total - (report.drifted - report.settled)

    def _say(self, throttle: str | None = None) -> None:
        ledger, settled = self._ledger, self._settled
        self._pace.tick(settled)
        now = self._db.clock.monotonic()
        self._tell(
            Progress(
                phase="undoing" if ledger.kind == "undo" else "correcting",
                settled=settled,
                total=ledger.total,
                report=ledger.report,
                batch_size=self._size.size,
                batch_ms=self._batch_ms,
                target_ms=self._size.target_ms,
                rate=self._pace.rate,
                eta_s=self._pace.eta_s(ledger.total - settled),
                throttle=throttle,
                cursor=ledger.cursor,
                checkpoint_s=None if self._committed_at is None else now - self._committed_at,
            )
        )
