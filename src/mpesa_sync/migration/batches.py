"""Correcting candidates in batches, and isolating the ones that fail (R2.2, R2.4).

A batch that fails for reasons of its rows is halved until the one record is found, which is quarantined; only a
fault of the whole (database gone, rights, disk) is raised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import identity, journal, migrations, session, shape, transaction
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import (
    AccessDenied,
    DatabaseFault,
    MpesaSyncError,
    OutcomeUnknown,
    ResourcesExhausted,
    SchemaError,
)
from mpesa_sync.migration.report import MigrationResult, Outcome, Quarantined
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import writer
from mpesa_sync.sync.writer import Settled

Pair = tuple[UUID, bool]
_log: Final = logs.get("migration")
_LOCK_NOT_AVAILABLE: Final = "55P03"

_OUTCOMES: Final = {
    Settled.FIXED: Outcome.FIXED,
    Settled.ALREADY_CONSISTENT: Outcome.ALREADY_CONSISTENT,
    Settled.STALE: Outcome.STALE,
    Settled.VANISHED: Outcome.VANISHED,
}


def stale_authority(bar_id: UUID) -> Quarantined:
    """Return the quarantine entry of a bar whose `is_active` may not be the truth (R2)."""
    return Quarantined(
        bar_id=bar_id,
        code="stale_authority",
        message="M-Pesa secrets stand in bars and no credentials row exists; give --authority credentials if "
        "is_active is the truth all the same.",
        attempts=0,
    )


def quarantine(run_id: UUID, error: Quarantined) -> MigrationResult:
    """Log and count a record that is set aside, and return it as its result (R2.4)."""
    metrics.migration_records.labels(Outcome.QUARANTINED).inc()
    _log.warning(
        Event.MIGRATION_QUARANTINED,
        run=str(run_id),
        bar_id=str(error.bar_id),
        cause=error.code,
        sqlstate=error.sqlstate,
        attempts=error.attempts,
    )
    return MigrationResult(bar_id=error.bar_id, outcome=Outcome.QUARANTINED, error=error)


class Batches:
    """Corrects batches of candidates for one run.

    Arguments:
        run_id: written beside every value in the journal.
        accept_stale_authority: correct also bars whose secrets stand in `bars` only.
    """

    def __init__(self, database: Database, run_id: UUID, *, accept_stale_authority: bool = False) -> None:
        self._db = database
        self._run_id = run_id
        self._accept = accept_stale_authority
        self._answers_lost = False

    async def settle(self, batch: Sequence[Pair]) -> AsyncIterator[MigrationResult]:
        """Correct a batch and yield what became of every record of it, exactly once each.

        Raises:
            MpesaSyncError: a fault of the whole; the records not yielded were not settled.
        """
        self._answers_lost = False  # of this batch: the journal also knows what earlier ones changed
        async for result in self._settled(batch):
            yield result

    async def _settled(self, batch: Sequence[Pair]) -> AsyncIterator[MigrationResult]:
        try:
            settled = await self._tried(batch)
        except (DatabaseFault, SchemaError) as fault:
            if await self._is_of_the_whole(fault):
                raise
            if len(batch) == 1:
                yield await self._given_up(batch[0][0], fault)
                return
            middle = len(batch) // 2
            for half in (batch[:middle], batch[middle:]):
                async for isolated in self._settled(half):
                    yield isolated
            return
        for bar_id, result in settled.items():
            yield self._result(bar_id, result)

    async def _tried(self, batch: Sequence[Pair]) -> dict[UUID, Settled]:
        """Correct a batch in one transaction, transient faults and lost answers again (faults.md)."""
        settled = await patiently(
            self._db,
            lambda: transaction.once(
                self._db,
                session.BATCH,
                lambda connection: self._correct(connection, batch),
                committed=Failpoint.BATCH_COMMITTED,
            ),
            seen=self._remember,
        )
        return await self._with_lost_answers(settled) if self._answers_lost else settled

    def _remember(self, fault: DatabaseFault) -> None:
        self._answers_lost = self._answers_lost or isinstance(fault, OutcomeUnknown)

    async def _correct(self, connection: Any, batch: Sequence[Pair]) -> dict[UUID, Settled]:
        return await writer.correct_bars(connection, self._run_id, batch, accept_stale_authority=self._accept)

    async def _with_lost_answers(self, settled: dict[UUID, Settled]) -> dict[UUID, Settled]:
        """Count what an attempt did whose COMMIT was answered into the void: the journal knows it."""

        async def ask() -> set[UUID]:
            async with self._db.reading() as connection:
                return await journal.changed_in_run(connection, self._run_id, list(settled))

        changed = await patiently(self._db, ask)
        return {bar_id: Settled.FIXED if bar_id in changed else result for bar_id, result in settled.items()}

    async def _is_of_the_whole(self, fault: MpesaSyncError) -> bool:
        """Return whether not the rows are at fault but the database, its disk, our rights or its tables."""
        if isinstance(fault, ResourcesExhausted):
            return True

        async def ask() -> bool:
            async with self._db.reading() as connection:
                if fault.sqlstate == _LOCK_NOT_AVAILABLE and await identity.table_is_locked(connection):
                    return True
                if isinstance(fault, SchemaError):
                    await shape.require(connection)
                    return bool((await migrations.state(connection)).missing)
                return isinstance(fault, AccessDenied) and bool(await identity.missing_rights(connection))

        try:
            return await patiently(self._db, ask)
        except MpesaSyncError:
            return True

    async def _given_up(self, bar_id: UUID, fault: DatabaseFault | SchemaError) -> MigrationResult:
        """Quarantine a record, unless an attempt whose answer was lost has corrected it all the same."""
        if self._answers_lost:
            known = await self._with_lost_answers({bar_id: Settled.STALE})
            if known[bar_id] is Settled.FIXED:
                return self._result(bar_id, Settled.FIXED)
        error = Quarantined(
            bar_id=bar_id,
            code=fault.code,
            message=fault.message,
            sqlstate=fault.sqlstate,
            attempts=max(fault.attempts, 1),
        )
        return quarantine(self._run_id, error)

    def _result(self, bar_id: UUID, settled: Settled) -> MigrationResult:
        if settled is Settled.STALE_AUTHORITY:
            return quarantine(self._run_id, stale_authority(bar_id))
        outcome = _OUTCOMES[settled]
        metrics.migration_records.labels(outcome).inc()
        return MigrationResult(bar_id=bar_id, outcome=outcome)
