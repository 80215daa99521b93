"""Correcting candidates in batches, and isolating the ones that fail (R2.2, R2.4).

A batch that fails for reasons of its rows is halved until the one record is found, which is quarantined; only a
fault of the whole (database gone, rights, disk) is raised.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import failpoints, identity, migrations, session, shape, transaction
from mpesa_sync.db.candidates import Candidate
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import (
    AccessDenied,
    DatabaseFault,
    MpesaSyncError,
    ResourcesExhausted,
    SchemaError,
    TransientFault,
)
from mpesa_sync.migration.ledger import Ledger
from mpesa_sync.migration.report import Outcome, Quarantined
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import writer
from mpesa_sync.sync.writer import Settled

_log: Final = logs.get("migration")
_LOCK_NOT_AVAILABLE: Final = "55P03"
_CANCELLED: Final = "57014"

_OUTCOMES: Final = {
    Settled.FIXED: Outcome.FIXED,
    Settled.ALREADY_CONSISTENT: Outcome.ALREADY_CONSISTENT,
    Settled.STALE: Outcome.STALE,
    Settled.VANISHED: Outcome.VANISHED,
    Settled.STALE_AUTHORITY: Outcome.QUARANTINED,
    Settled.SECRETS_DIFFER: Outcome.QUARANTINED,
}
_NEEDS_NOTHING: Final = frozenset({Settled.FIXED, Settled.ALREADY_CONSISTENT, Settled.VANISHED})


class _TookTooLong(Exception):
    """A batch came to the limit of its statements: half of it is tried, and not the same again (spec 8, locks)."""


def stale_authority(bar_id: UUID, *, secrets_differ: bool) -> Quarantined:
    """Return the quarantine entry of a bar whose `is_active` may not be the truth (R2).

    Arguments:
        secrets_differ: its credentials rows hold other secrets than `bars`; otherwise it has none.
    """
    why = "the credentials row holds others" if secrets_differ else "no credentials row exists"
    return Quarantined(
        bar_id=bar_id,
        code="stale_authority",
        message=f"M-Pesa secrets stand in bars and {why}; give --authority credentials if is_active is the truth "
        "all the same.",
        attempts=0,
    )


def tell_quarantined(run_id: UUID, error: Quarantined) -> None:
    """Log a record that is set aside (R2.4)."""
    _log.warning(
        Event.MIGRATION_QUARANTINED,
        run=str(run_id),
        bar_id=str(error.bar_id),
        cause=error.code,
        sqlstate=error.sqlstate,
        attempts=error.attempts,
    )


class Batches:
    """Corrects batches of candidates for one run.

    Arguments:
        ledger: of the run; moved with each batch, in the batch's transaction.
        accept_stale_authority: correct also bars whose `is_active` may not be the truth.
        mirror_legacy: keep `payment_mpesa_enabled` equal, too; of an undo: the run undone has done so.
    """

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        *,
        accept_stale_authority: bool = False,
        mirror_legacy: bool = False,
    ) -> None:
        self._db = database
        self._ledger = ledger
        self._accept = accept_stale_authority
        self._mirrors = mirror_legacy

    async def settle(self, batch: Sequence[Candidate]) -> AsyncGenerator[Counter[Outcome]]:
        """Correct a batch and yield what became of its records: once each, a part of the batch at a time.

        Arguments:
            batch: in the order of ids.
        Raises:
            RunUnderWay: the run is another process's.
            MpesaSyncError: a fault of the whole; the records not yielded were not settled.
        """
        try:
            yield await self._tried(batch)
            return
        except _TookTooLong:
            pass  # halved below, as what fails for its rows is
        except (DatabaseFault, SchemaError) as fault:
            if await self._is_of_the_whole(fault):
                raise
            if len(batch) == 1:
                yield await self._given_up(batch[0].bar_id, fault)
                return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            async for isolated in self.settle(half):
                yield isolated

    async def _tried(self, batch: Sequence[Candidate]) -> Counter[Outcome]:
        """Correct a batch in one transaction, transient faults and lost answers again (faults.md)."""

        async def work(connection: Any) -> tuple[Counter[Outcome], list[Quarantined]]:
            done = await self._ledger.is_done(connection, batch[-1].bar_id)
            if done is not None:
                return done, []
            failpoints.hit(Failpoint.BATCH_CLAIMED)
            settled = await self._correct(connection, batch)
            counts = Counter(_OUTCOMES[result] for result in settled.values())
            aside = [
                stale_authority(bar, secrets_differ=result is Settled.SECRETS_DIFFER)
                for bar, result in settled.items()
                if _OUTCOMES[result] is Outcome.QUARANTINED
            ]
            at_rest = [bar for bar, result in settled.items() if result in _NEEDS_NOTHING]
            await self._ledger.advance(connection, batch[-1].bar_id, counts, at_rest, aside)
            failpoints.hit(Failpoint.BATCH_COUNTED)
            return counts, aside

        return await self._committed(batch[-1].bar_id, work, of=len(batch))

    async def _correct(self, connection: Any, batch: Sequence[Candidate]) -> Mapping[UUID, Settled]:
        run_id = self._ledger.run_id
        if self._ledger.kind == "undo":
            changed = [(one.bar_id, one.expected, one.target) for one in batch]
            mirrored_by = self._ledger.of_run if self._mirrors else None
            return await writer.take_back(connection, run_id, changed, mirrored_by=mirrored_by)
        pairs = [(one.bar_id, one.expected) for one in batch]
        return await writer.correct_bars(
            connection,
            run_id,
            pairs,
            keys=self._db.keys,
            accept_stale_authority=self._accept,
            mirror_legacy=self._mirrors,
        )

    async def _given_up(self, bar_id: UUID, fault: DatabaseFault | SchemaError) -> Counter[Outcome]:
        """Quarantine a record, unless an attempt whose answer was lost has settled it all the same."""
        error = Quarantined(
            bar_id=bar_id,
            code=fault.code,
            message=fault.message,
            sqlstate=fault.sqlstate,
            attempts=max(fault.attempts, 1),
        )

        async def work(connection: Any) -> tuple[Counter[Outcome], list[Quarantined]]:
            done = await self._ledger.is_done(connection, bar_id)
            if done is not None:
                return done, []
            counts = Counter({Outcome.QUARANTINED: 1})
            await self._ledger.advance(connection, bar_id, counts, (), [error])
            return counts, [error]

        return await self._committed(bar_id, work, of=1)

    async def _committed(self, last: UUID, work: Any, *, of: int) -> Counter[Outcome]:
        begin = session.BATCH if of > 1 else session.RECORD

        async def attempt() -> tuple[Counter[Outcome], list[Quarantined]]:
            try:
                return await transaction.once(self._db, begin, work, committed=Failpoint.BATCH_COMMITTED)
            except TransientFault as fault:
                if of > 1 and fault.sqlstate == _CANCELLED:
                    raise _TookTooLong from fault
                raise

        counts, aside = await patiently(self._db, attempt)
        self._ledger.committed(last, counts)
        for error in aside:
            tell_quarantined(self._ledger.run_id, error)
        for outcome, number in counts.items():
            metrics.migration_records.labels(outcome).inc(number)
        found: Counter[Outcome] = counts
        return found

    async def _is_of_the_whole(self, fault: MpesaSyncError) -> bool:
        """Return whether not the rows are at fault but the database, its disk, our rights or its tables."""
        if isinstance(fault, ResourcesExhausted):
            return True

        async def ask() -> bool:
            async with self._db.reading() as connection:
                if fault.sqlstate == _LOCK_NOT_AVAILABLE and await identity.table_is_locked(connection):
                    return True
                if isinstance(fault, SchemaError):
                    found = await shape.require(connection)
                    lacks_flag = self._mirrors and not found.has_legacy_flag
                    return lacks_flag or bool((await migrations.state(connection)).missing)
                return isinstance(fault, AccessDenied) and bool(
                    await identity.missing_rights(connection, with_legacy=self._mirrors)
                )

        try:
            return await patiently(self._db, ask)
        except MpesaSyncError:
            return True
