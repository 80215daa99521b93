"""One run of the migration: look, refuse or go on, correct in batches, verify; counters that add up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from mpesa_sync.db import quarantine
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.migration import fleet
from mpesa_sync.migration.batches import tell_quarantined
from mpesa_sync.migration.candidates import Candidates
from mpesa_sync.migration.correcting import Correcting
from mpesa_sync.migration.ledger import Ledger
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.report import Outcome, Progress, Quarantined, Run, RunState
from mpesa_sync.migration.scope import Look, Scope
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.refusals import RunUnderWay

VERIFY_ROUNDS: Final = 3
_log: Final = logs.get("migration")
_ASKED: Final = {"pause": RunState.PAUSED, "cancel": RunState.CANCELLED}


class _Stopped(Exception):
    """The run is to end here, in this state."""

    def __init__(self, state: RunState, limit: str | None = None) -> None:
        super().__init__(state)
        self.state = state
        self.limit = limit


class MigrationRun:
    """The course of one run in this process. Used once.

    Arguments:
        scope: which bars it is about.
        ledger: its row, which is written once there is something to write down, or was taken over.
        progress, stop: as `MpesaMigrationService.run`.
    """

    def __init__(
        self,
        database: Database,
        options: RunOptions,
        scope: Scope,
        ledger: Ledger,
        progress: Callable[[Progress], None] | None,
        stop: asyncio.Event | None,
    ) -> None:
        self._db = database
        self._options = options
        self._scope = scope
        self._ledger = ledger
        self._tell = progress or (lambda _: None)
        self._stop = stop or asyncio.Event()
        self._run = Run(report=ledger.report, kind=ledger.kind, of_run=scope.of_run, is_bound=scope.is_bound)

    async def run(self) -> Run:
        """Go through all phases, or those that are left of a run taken over, and return how it ended.

        Raises:
            RunUnderWay: another run is, or the run is another process's.
            MpesaSyncError: before anything was written.
        """
        clock, report = self._db.clock, self._run.report
        started, before_s = clock.monotonic(), report.duration_s
        look = None if self._ledger.is_open else await self._first_look()
        try:
            if look is not None:
                await self._begin(look)
            elif self._options.mirror_legacy:
                await fleet.require_legacy_flag(self._db)
            async with self._ledger.beating():
                report.state = await self._go()
        except _Stopped as stopped:
            report.state, self._run.limit = stopped.state, stopped.limit
        except RunUnderWay:
            raise
        except MpesaSyncError as fault:
            report.state = RunState.PAUSED if self._ledger.is_open else RunState.FAILED
            self._run.fault = fault.message
        report.duration_s = round(before_s + clock.monotonic() - started, 3)
        await self._finish()
        _log.info(Event.MIGRATION_FINISHED, **msgspec.to_builtins(report))
        return self._run

    async def _first_look(self) -> Look:
        if self._options.mirror_legacy:
            await fleet.require_legacy_flag(self._db)
        self._say("detecting")
        look = await self._scope.look(accept_stale_authority=self._options.accept_stale_authority)
        report, run = self._run.report, self._run
        report.scanned, report.consistent, report.drifted = look.scanned, look.consistent, look.drifted
        report.count(Outcome.QUARANTINED, len(look.set_aside))
        run.hidden, run.exposed, run.warnings = look.hidden, look.exposed, look.warnings
        run.legacy_only, run.legacy_left = look.legacy_only, look.legacy_left
        run.records = list(look.set_aside)
        return look

    async def _begin(self, look: Look) -> None:
        """Refuse, or write down what is to be done."""
        report, options = self._run.report, self._options
        if options.max_changes is not None and len(look.candidates) > options.max_changes:
            raise _Stopped(RunState.CANCELLED, "max_changes")
        if options.dry_run:
            raise _Stopped(RunState.PLANNED)
        self._check_errors()
        if not look.candidates and not look.set_aside and not look.at_rest:
            return
        _log.info(Event.MIGRATION_STARTED, run=str(report.run), actor=options.actor, drifted=report.drifted)
        self._run.installed = await fleet.prepare(self._db)
        await self._ledger.open(options, look.candidates, look.set_aside, look.at_rest)
        for record in look.set_aside:
            tell_quarantined(report.run, record)
            metrics.migration_records.labels(Outcome.QUARANTINED).inc()

    async def _go(self) -> RunState:
        report = self._run.report
        if self._ledger.is_open:
            await self._correct()
        report.verified = await self._verify()
        return RunState.FAILED if report.verified is False else RunState.DONE

    async def _correct(self) -> None:
        correcting = Correcting(self._db, self._ledger, self._options, self._tell, self._check)
        if (reason := await correcting.run()) is not None:
            self._run.fault = reason
            raise _Stopped(RunState.PAUSED, "throttle")

    def _check(self) -> None:
        self._check_stop()
        self._check_errors()

    def _check_stop(self) -> None:
        """End between batches where somebody asks for it."""
        self._ledger.require_held()
        if self._stop.is_set():
            raise _Stopped(RunState.INTERRUPTED)
        if self._ledger.wanted is not None:
            raise _Stopped(_ASKED[self._ledger.wanted])

    def _check_errors(self) -> None:
        limit = self._options.max_errors
        if limit is not None and self._run.report.quarantined > limit:
            raise _Stopped(RunState.FAILED, "max_errors")

    async def _verify(self) -> bool | None:
        """Pass over all bars until one pass has nothing to repair, at most 3 times (R2.3).

        What is quarantined stays drifted and is no news. What others made drift meanwhile is repaired and counted.
        """
        if not self._scope.is_verified:
            return None
        still: Candidates = Candidates()
        while True:
            self._check_stop()
            self._say("verifying")
            if self._ledger.is_open:
                await self._ledger.verifying()
                self._check_stop()
            known = {record.bar_id for record in await self._aside()}
            still, self._run.outside = await self._scope.verify(known)
            if not still or self._ledger.round + 1 >= VERIFY_ROUNDS:
                return not still
            await self._repair(still)

    async def _repair(self, still: Candidates) -> None:
        if not self._ledger.is_open:
            self._run.installed = await fleet.prepare(self._db)
            report = self._run.report
            report.scanned, report.drifted = report.scanned + len(still), report.drifted + len(still)
            await self._ledger.open(self._options, still)
        else:
            await self._ledger.next_round(still, found=len(still))
        await self._correct()

    async def _aside(self) -> list[Quarantined]:
        """Return what the run has set aside."""
        if not self._ledger.is_open:
            return self._run.records

        async def ask() -> list[Quarantined]:
            async with self._db.reading() as connection:
                found = await quarantine.of_run(connection, self._ledger.run_id)
            return [
                Quarantined(bar_id=bar_id, code=code, sqlstate=sqlstate, message=message, attempts=attempts)
                for bar_id, code, sqlstate, message, attempts in found
            ]

        self._run.records = await patiently(self._db, ask)
        return self._run.records

    async def _finish(self) -> None:
        """Count what was not reached, and write down how the run ended."""
        run, report = self._run, self._run.report
        if self._ledger.is_open:
            run.is_kept = True
            try:
                await self._aside()
            except MpesaSyncError as fault:
                run.fault = run.fault or fault.message
            await self._ledger.end(report.state, limit=run.limit, fault=run.fault)
        report.count(Outcome.DEFERRED, report.drifted - report.settled)

    def _say(self, phase: str) -> None:
        self._tell(Progress(phase=phase, settled=0, total=0, report=self._run.report))
