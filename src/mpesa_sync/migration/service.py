"""`MpesaMigrationService` (T4.1): find what has drifted, correct it, prove that nothing is left.

Needs a database URL and nothing else: no key, no server, no worker. Reading needs nothing of ours installed;
writing makes the schema `mpesa_sync` where it is absent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from uuid import UUID, uuid4

import msgspec

from mpesa_sync.db import quarantine
from mpesa_sync.db.candidates import Candidate
from mpesa_sync.db.detection import DriftedBar
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.db.runs import StoredRun
from mpesa_sync.migration import control, fleet
from mpesa_sync.migration.batches import Batches
from mpesa_sync.migration.candidates import Candidates
from mpesa_sync.migration.ledger import Ledger
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.report import (
    InconsistentRecord,
    MigrationResult,
    Outcome,
    Progress,
    Quarantined,
    Run,
    RunReport,
    RunState,
    ValidationSummary,
)
from mpesa_sync.migration.run import MigrationRun
from mpesa_sync.migration.scope import (
    AllBars,
    ChangedBars,
    ChosenBars,
    PlannedBars,
    Scope,
    StoredBars,
    quarantined_bars,
)


class MpesaMigrationService:
    """Corrects `bars.mpesa_enabled` to `mpesa_credentials.is_active` over all bars (R2), never the other way.

    Arguments:
        database: what `mpesa_sync.connect` gives; no keys are needed.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    async def find_inconsistent_records(self) -> AsyncIterator[InconsistentRecord]:
        """Yield every drifted bar, both directions, and nothing else (R2.1): why, and from which rows in which version.

        One READ ONLY statement, drained before the first record is given out, so that nothing stays open in the
        database while the caller works; memory grows with the number of drifted bars.

        Raises:
            SchemaError: tables or columns are missing; names them.
            DatabaseFault: the database cannot be asked.
        """
        drifted, _ = await fleet.detect(self._db, with_versions=True)
        for bar in drifted:
            yield InconsistentRecord.of(bar)

    async def migrate_record(
        self,
        record: InconsistentRecord,
        *,
        actor: str = "migration",
        accept_stale_authority: bool = False,
        mirror_legacy: bool = False,
    ) -> MigrationResult:
        """Correct one bar, decided anew under its locks (R2.2).

        A record that cannot be corrected is returned as quarantined, with its reason, and not raised (R2.4).

        Arguments:
            record: one of `find_inconsistent_records`.
            actor: who asks, for the journal: 1 to 200 characters.
            accept_stale_authority: correct it also where `bars` holds secrets that no credentials row holds.
            mirror_legacy: set its `payment_mpesa_enabled`, too.
        Raises:
            DatabaseFault, SchemaError: a fault of the whole: database gone, no rights, disk full.
        """
        options = RunOptions(
            actor=actor,
            reason="one record",
            accept_stale_authority=accept_stale_authority,
            mirror_legacy=mirror_legacy,
        ).checked()
        if mirror_legacy:
            await fleet.require_legacy_flag(self._db)
        await fleet.prepare(self._db)
        report = RunReport(run=uuid4(), state=RunState.RUNNING, dry_run=False, scanned=1, drifted=1)
        ledger = Ledger(self._db, report, kind="record")
        await ledger.open(options, Candidates())
        batches = Batches(self._db, ledger, accept_stale_authority=accept_stale_authority, mirror_legacy=mirror_legacy)
        batch = [Candidate(record.bar_id, record.credentials_active, record.credentials_active)]
        async for counts in batches.settle(batch):
            outcome = next(outcome for outcome in Outcome if counts[outcome])
        await ledger.end(RunState.DONE, limit=None, fault=None)
        error = await self._error_of(record.bar_id) if outcome is Outcome.QUARANTINED else None
        return MigrationResult(bar_id=record.bar_id, outcome=outcome, error=error)

    async def run(
        self,
        options: RunOptions | None = None,
        *,
        plan: Iterable[tuple[UUID, bool]] | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> Run:
        """Correct every drifted bar in batches and verify the result (R2.2–R2.4).

        A record that fails is isolated, logged and listed; the others go on. "Done" means that one full pass over
        all bars found nothing to repair, but for what is quarantined; at most 3 rounds.

        Arguments:
            options: dry run, batch size, limits, who and why; None for the defaults.
            plan: bars with the authority that was seen for each: only these are corrected, each decided anew. None:
                all that have drifted.
            progress: called after each batch and at each phase.
            stop: once set, the current batch is finished and the run ends as interrupted.
        Returns:
            The run with its counters, also where it was stopped, refused by a limit, or paused by a fault of the
            whole: what was corrected until then stays, and `resume` goes on from there.
        Raises:
            InvalidInput: an option has a wrong value.
            RunUnderWay: another run is.
            SchemaError, DatabaseFault: before anything was written.
        """
        options = (options or RunOptions()).checked()
        mirrors = options.mirror_legacy
        scope = (
            AllBars(self._db, mirrors=mirrors)
            if plan is None
            else PlannedBars(self._db, plan, dry_run=options.dry_run, mirrors=mirrors)
        )
        return await self._new(scope, options, progress, stop)

    async def plan(
        self,
        options: RunOptions | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> tuple[Run, list[InconsistentRecord]]:
        """Look as a dry run does; return it with the bars that a run would correct, in the order of ids (R2).

        Arguments:
            options, progress, stop: as `run`.
        """
        kept: list[DriftedBar] = []
        options = msgspec.structs.replace(options or RunOptions(), dry_run=True).checked()
        run = await self._new(AllBars(self._db, kept, mirrors=options.mirror_legacy), options, progress, stop)
        return run, sorted(map(InconsistentRecord.of, kept), key=lambda one: one.bar_id)

    async def resume(
        self,
        run_id: UUID,
        *,
        batch_size: int | None = None,
        max_errors: int | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> Run:
        """Go on with a run that was paused, interrupted, killed or stopped by a limit, from its last committed batch.

        Arguments:
            batch_size, max_errors: given anew; None keeps what the run was begun with.
            progress, stop: as `run`.
        Raises:
            RunNotFound, RunRefused: there is no such run, nothing is left of it, or it is an undo that would be fought.
            RunUnderWay: its process works, or that of another run.
        """
        given = {"batch_size": batch_size, "max_errors": max_errors}
        changes = {name: value for name, value in given.items() if value is not None}
        stored, options, token = await control.taken_over(self._db, run_id, changes)
        report = msgspec.json.decode(stored.report, type=RunReport)
        report.state, report.verified = RunState.RUNNING, None
        ledger = Ledger(self._db, report, kind=stored.kind, of_run=stored.of_run)
        ledger.taken_over(stored, token)
        scope = self._scope_of(stored, mirrors=options.mirror_legacy)
        return await MigrationRun(self._db, options, scope, ledger, progress, stop).run()

    async def undo(
        self,
        run_id: UUID,
        options: RunOptions | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> Run:
        """Give back to `bars.mpesa_enabled` what it was before a run, where the value is the run's still (R2).

        To `payment_mpesa_enabled` likewise, where the run has mirrored it. Bars drift again by it. A dry run says how
        many bars it would be.

        Arguments:
            run_id: the run that is undone.
            options, progress, stop: as `run`.
        Raises:
            RunNotFound, RunRefused: there is no such run, or it is under way.
            RunUnderWay: another one is.
        """
        mirrored = await control.require_undoable(self._db, run_id) and await fleet.has_legacy_flag(self._db)
        options = msgspec.structs.replace(options or RunOptions(), mirror_legacy=mirrored).checked()
        scope = ChangedBars(self._db, run_id)
        return await self._new(scope, options, progress, stop, kind="undo", of_run=run_id)

    async def retry_quarantined(
        self,
        options: RunOptions | None = None,
        *,
        run_id: UUID | None = None,
        progress: Callable[[Progress], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> Run:
        """Try the bars in the quarantine once more (R2.4); those that are in sync by now leave it.

        Arguments:
            run_id: only those that this run met last; None for all.
            options, progress, stop: as `run`.
        """
        options = (options or RunOptions()).checked()
        bars = await quarantined_bars(self._db, run_id)
        scope = ChosenBars(self._db, bars, of_run=run_id, mirrors=options.mirror_legacy)
        return await self._new(scope, options, progress, stop, kind="retry")

    def _scope_of(self, stored: StoredRun, *, mirrors: bool) -> Scope:
        """Return the bars of a run that goes on: only its verification looks for more."""
        if stored.kind == "undo" and stored.of_run is not None:
            return ChangedBars(self._db, stored.of_run)
        if stored.is_bound:
            return StoredBars(self._db, stored.id, mirrors=mirrors)
        return AllBars(self._db, mirrors=mirrors)

    async def _new(
        self,
        scope: Scope,
        options: RunOptions,
        progress: Callable[[Progress], None] | None,
        stop: asyncio.Event | None,
        *,
        kind: str = "migrate",
        of_run: UUID | None = None,
    ) -> Run:
        report = RunReport(run=uuid4(), state=RunState.RUNNING, dry_run=options.dry_run)
        ledger = Ledger(self._db, report, kind=kind, of_run=of_run, is_bound=scope.is_bound)
        return await MigrationRun(self._db, options, scope, ledger, progress, stop).run()

    async def _error_of(self, bar_id: UUID) -> Quarantined | None:
        async def ask() -> Quarantined | None:
            async with self._db.reading() as connection:
                found = await quarantine.of_bar(connection, bar_id)
            return (
                None
                if found is None
                else Quarantined(
                    bar_id=bar_id,
                    code=found.code,
                    message=found.message,
                    sqlstate=found.sqlstate,
                    attempts=found.attempts,
                )
            )

        return await patiently(self._db, ask)

    async def validate_migration(self) -> ValidationSummary:
        """Compare both fields of all bars, both directions, and write nothing (R2.3).

        A mismatch counts only when it survives a second look half a second later.
        """
        drifted, summary = await fleet.detect(self._db)
        still = await fleet.second_look(self._db, [bar.bar_id for bar in drifted]) if drifted else []
        hidden = sum(authority for _, authority in still)
        return ValidationSummary(
            bars=summary.bars,
            hidden=hidden,
            exposed=len(still) - hidden,
            warnings={warning.value: count for warning, count in summary.warnings.items() if count},
        )
