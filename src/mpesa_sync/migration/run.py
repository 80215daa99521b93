"""One run of the migration: detect, refuse or go on, correct in batches, verify; counters that add up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from mpesa_sync.db import journal, session, transaction
from mpesa_sync.db.detection import DriftedBar
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.availability import BarWarning
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.errors import InvalidInput, MpesaSyncError
from mpesa_sync.migration import fleet
from mpesa_sync.migration.batches import Batches, Pair, quarantine, stale_authority
from mpesa_sync.migration.candidates import Candidates
from mpesa_sync.migration.report import MigrationResult, Outcome, Progress, Run, RunReport, RunState
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event

DEFAULT_BATCH_SIZE: Final = 1_000
MAX_BATCH_SIZE: Final = 5_000
VERIFY_ROUNDS: Final = 3
_log: Final = logs.get("migration")


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is to go.

    Arguments:
        dry_run: find and report, in READ ONLY transactions; nothing is written.
        batch_size: bars in one transaction, 1 to 5000.
        max_changes: refuse, before anything is written, where more bars are to be corrected. None: no limit.
        max_errors: stop once more records than this are quarantined. None: never stop for them (R2.4).
        actor: who runs it, for the journal: 1 to 200 characters.
        reason: why, for the journal: up to 500 characters.
        accept_stale_authority: correct also bars whose secrets stand in `bars` only (`--authority credentials`).
    """

    dry_run: bool = False
    batch_size: int = DEFAULT_BATCH_SIZE
    max_changes: int | None = None
    max_errors: int | None = None
    actor: str = "migration"
    reason: str = ""
    accept_stale_authority: bool = False

    def checked(self) -> RunOptions:
        """Return the options with their texts cleaned.

        Raises:
            InvalidInput: names the option and its limits.
        """
        if not 1 <= self.batch_size <= MAX_BATCH_SIZE:
            raise InvalidInput("batch_size", f"must be 1 to {MAX_BATCH_SIZE}")
        for name in ("max_changes", "max_errors"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidInput(name, "must be 0 or more")
        return msgspec.structs.replace(
            self,
            actor=line_of_text("actor", self.actor),
            reason=line_of_text("reason", self.reason, shortest=0, longest=500),
        )


async def record_run(database: Database, run_id: UUID, *, actor: str, reason: str) -> None:
    """Write down who starts a run and why, before it changes anything."""

    async def work(connection: Any) -> None:
        await journal.record_run(connection, run_id, actor=actor, reason=reason)

    await patiently(database, lambda: transaction.once(database, session.WRITE, work))


class _Stopped(Exception):
    """The run is to end here, in this state."""

    def __init__(self, state: RunState, limit: str | None = None) -> None:
        super().__init__(state)
        self.state = state
        self.limit = limit


class MigrationRun:
    """The state of one run. Used once.

    Arguments:
        progress, stop: as `MpesaMigrationService.run`.
    """

    def __init__(
        self,
        database: Database,
        options: RunOptions,
        progress: Callable[[Progress], None] | None,
        stop: asyncio.Event | None,
    ) -> None:
        self._db = database
        self._options = options.checked()
        self._tell = progress or (lambda _: None)
        self._stop = stop or asyncio.Event()
        report = RunReport(run=uuid4(), state=RunState.RUNNING, dry_run=options.dry_run)
        self._run = Run(report=report)
        self._recorded = False
        self._batches = Batches(database, report.run, accept_stale_authority=options.accept_stale_authority)

    async def run(self) -> Run:
        """Go through all phases and return how it ended."""
        clock, report = self._db.clock, self._run.report
        started = clock.monotonic()
        drifted = await self._first_look()
        try:
            report.state = await self._go(drifted)
        except _Stopped as stopped:
            report.state, self._run.limit = stopped.state, stopped.limit
        except MpesaSyncError as fault:
            report.state, self._run.fault = RunState.FAILED, fault.message
        report.count(Outcome.DEFERRED, report.drifted - report.settled)
        report.duration_s = round(clock.monotonic() - started, 3)
        _log.info(Event.MIGRATION_FINISHED, **msgspec.to_builtins(report))
        return self._run

    async def _first_look(self) -> list[DriftedBar]:
        self._say("detecting", 0, 0)
        drifted, summary = await fleet.detect(self._db)
        report, run = self._run.report, self._run
        report.scanned, report.consistent, report.drifted = summary.bars, summary.consistent, summary.drifted
        run.hidden, run.exposed = summary.hidden, summary.exposed
        run.warnings = {warning.value: count for warning, count in summary.warnings.items() if count}
        return drifted

    async def _go(self, drifted: Sequence[DriftedBar]) -> RunState:
        report, options = self._run.report, self._options
        candidates = Candidates(self._without_stale_authority(drifted))
        if options.max_changes is not None and len(candidates) > options.max_changes:
            raise _Stopped(RunState.CANCELLED, "max_changes")
        if options.dry_run:
            return RunState.PLANNED
        self._check_errors()
        _log.info(Event.MIGRATION_STARTED, run=str(report.run), actor=options.actor, drifted=report.drifted)
        await self._correct(candidates)
        report.verified = await self._verify()
        return RunState.DONE if report.verified else RunState.FAILED

    def _without_stale_authority(self, drifted: Sequence[DriftedBar]) -> list[Pair]:
        """Return what is to be corrected; bars whose `is_active` may not be the truth are quarantined."""
        pairs = []
        for bar in drifted:
            if BarWarning.STALE_AUTHORITY in bar.warnings and not self._options.accept_stale_authority:
                self._count(quarantine(self._run.report.run, stale_authority(bar.bar_id)))
            else:
                pairs.append((bar.bar_id, bar.authority))
        return pairs

    async def _correct(self, candidates: Candidates) -> None:
        if candidates and not self._recorded:
            self._run.installed = await fleet.prepare(self._db)
            run_id, options = self._run.report.run, self._options
            await record_run(self._db, run_id, actor=options.actor, reason=options.reason)
            self._recorded = True
        clock = self._db.clock
        size, done = self._options.batch_size, 0
        self._say("correcting", done, len(candidates))
        for batch in candidates.batches(size):
            if self._stop.is_set():
                raise _Stopped(RunState.INTERRUPTED)
            began = clock.monotonic()
            async for result in self._batches.settle(batch):
                self._count(result)
                done += 1
            self._say("correcting", done, len(candidates), (clock.monotonic() - began) * 1000)
            self._check_errors()

    def _count(self, result: MigrationResult) -> None:
        self._run.report.count(result.outcome)
        if result.error is not None:
            self._run.records.append(result.error)

    def _check_errors(self) -> None:
        limit = self._options.max_errors
        if limit is not None and self._run.report.quarantined > limit:
            raise _Stopped(RunState.FAILED, "max_errors")

    async def _verify(self) -> bool:
        """Pass over all bars until one pass has nothing to repair, at most 3 times (R2.3).

        What is quarantined stays drifted and is no news. What others made drift meanwhile is repaired and counted.
        """
        report = self._run.report
        for last_round in (*(VERIFY_ROUNDS - 1) * (False,), True):
            if self._stop.is_set():
                raise _Stopped(RunState.INTERRUPTED)
            self._say("verifying", 0, 0)
            known = {record.bar_id for record in self._run.records}
            drifted, _ = await fleet.detect(self._db)
            fresh = [bar.bar_id for bar in drifted if bar.bar_id not in known]
            still = await fleet.second_look(self._db, fresh) if fresh else []
            if not still or last_round:
                break
            report.scanned += len(still)
            report.drifted += len(still)
            await self._correct(Candidates(still))
        return not still

    def _say(self, phase: str, settled: int, total: int, batch_ms: float = 0.0) -> None:
        self._tell(
            Progress(
                phase=phase,
                settled=settled,
                total=total,
                report=self._run.report,
                batch_size=self._options.batch_size,
                batch_ms=batch_ms,
            )
        )
