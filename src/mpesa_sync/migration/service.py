"""`MpesaMigrationService` (T4.1): find what has drifted, correct it, prove that nothing is left.

Needs a database URL and nothing else: no key, no server, no worker. Reading needs nothing of ours installed;
writing makes the schema `mpesa_sync` where it is absent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from uuid import uuid4

from mpesa_sync.db.pool import Database
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.migration import fleet
from mpesa_sync.migration.batches import Batches
from mpesa_sync.migration.report import InconsistentRecord, MigrationResult, Progress, Run, ValidationSummary
from mpesa_sync.migration.run import MigrationRun, RunOptions, record_run


class MpesaMigrationService:
    """Corrects `bars.mpesa_enabled` to `mpesa_credentials.is_active` over all bars (R2), never the other way.

    Arguments:
        database: what `mpesa_sync.connect` gives; no keys are needed.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    async def find_inconsistent_records(self) -> AsyncIterator[InconsistentRecord]:
        """Yield every drifted bar, both directions, and nothing else (R2.1).

        One READ ONLY statement, drained before the first record is given out, so that nothing stays open in the
        database while the caller works; memory grows with the number of drifted bars.

        Raises:
            SchemaError: tables or columns are missing; names them.
            DatabaseFault: the database cannot be asked.
        """
        drifted, _ = await fleet.detect(self._db)
        for bar in drifted:
            yield InconsistentRecord(
                bar_id=bar.bar_id,
                credentials_active=bar.authority,
                bar_mpesa_enabled=bar.mpesa_enabled,
                last_updated=bar.updated_at,
                direction=bar.direction,
                slug=bar.slug,
                warnings=bar.warnings,
            )

    async def migrate_record(
        self, record: InconsistentRecord, *, actor: str = "migration", accept_stale_authority: bool = False
    ) -> MigrationResult:
        """Correct one bar, decided anew under its locks (R2.2).

        A record that cannot be corrected is returned as quarantined, with its reason, and not raised (R2.4).

        Arguments:
            record: one of `find_inconsistent_records`.
            actor: who asks, for the journal: 1 to 200 characters.
            accept_stale_authority: correct it also where `bars` holds secrets and no credentials row exists.
        Raises:
            DatabaseFault, SchemaError: a fault of the whole: database gone, no rights, disk full.
        """
        run_id, actor = uuid4(), line_of_text("actor", actor)
        await fleet.prepare(self._db)
        await record_run(self._db, run_id, actor=actor, reason="one record")
        batches = Batches(self._db, run_id, accept_stale_authority=accept_stale_authority)
        results = [result async for result in batches.settle([(record.bar_id, record.credentials_active)])]
        return results[0]

    async def run(
        self,
        options: RunOptions | None = None,
        *,
        progress: Callable[[Progress], None] | None = None,
        stop: asyncio.Event | None = None,
    ) -> Run:
        """Correct every drifted bar in batches and verify the result (R2.2–R2.4).

        A record that fails is isolated, logged and listed; the others go on. "Done" means that one full pass over
        all bars found nothing to repair, but for what is quarantined; at most 3 rounds.

        Arguments:
            options: dry run, batch size, limits, who and why; None for the defaults.
            progress: called after each batch and at each phase.
            stop: once set, the current batch is finished and the run ends as interrupted.
        Returns:
            The run with its counters, also where it was stopped, refused by a limit, or ended by a fault of the
            whole: what was corrected until then stays, and another run goes on from there.
        Raises:
            InvalidInput: an option has a wrong value.
            SchemaError, DatabaseFault: before anything was written.
        """
        return await MigrationRun(self._db, options or RunOptions(), progress, stop).run()

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
