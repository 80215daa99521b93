"""What stands around a migration: odd values, locks on whole tables, parts of ours that are gone, alerts it answers."""

from __future__ import annotations

from typing import Any

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager, RunOptions, connect
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import ConstraintRefused, InvalidInput
from mpesa_sync.migration.report import RunState
from tests.support.databases import plain
from tests.support.migrating import adds_up, drift, drifted
from tests.support.venues import add_bar


@pytest.mark.parametrize("moment", ["20000-01-01", "0044-03-15 BC", "infinity", "-infinity"])
async def test_a_date_that_no_program_can_hold_stops_nothing(db: Database, sql: Any, moment: str) -> None:
    """R2.4, R2.1: one odd `updated_at` hides no bar and ends no run."""
    bars = await drift(sql, 2)
    await sql.execute("alter table public.bars disable trigger bars_updated_at")
    await sql.execute("update public.bars set updated_at = $2::text::timestamptz where id = $1", bars[0], moment)
    service = MpesaMigrationService(db)
    assert {record.bar_id async for record in service.find_inconsistent_records()} == set(bars)
    assert (await service.run()).report.fixed == 2


async def test_a_lock_on_the_whole_table_ends_the_run_and_quarantines_nobody(
    db: Database, sql: Any, database_url: str
) -> None:
    """R2.4: CREATE INDEX holds the table against every writer; that is no fault of any record."""
    bars = await drift(sql, 5)
    async with plain(database_url) as builder, builder.transaction():
        await builder.execute("lock table public.bars in share mode")
        run = await MpesaMigrationService(db).run()
    assert (run.report.state, run.report.quarantined, run.report.deferred) == (RunState.PAUSED, 0, len(bars))
    assert run.fault
    assert adds_up(run)
    assert (await MpesaMigrationService(db).run()).report.fixed == len(bars)


async def test_a_missing_table_of_ours_quarantines_nobody(db: Database, sql: Any) -> None:
    """R2.4: a damaged installation is a fault of the whole, and named."""
    await drift(sql, 3)
    await sql.execute("drop table mpesa_sync.migration_journal")
    run = await MpesaMigrationService(db).run()
    assert (run.report.state, run.report.quarantined, run.report.deferred) == (RunState.FAILED, 0, 3)
    assert "mpesa_sync.migration_journal" in str(run.fault)
    assert len(await drifted(sql)) == 3


async def test_a_correction_answers_the_alert_of_a_refused_repair(db: Database, sql: Any) -> None:
    """R5.2: resolved by the next success, whoever brought it."""
    bar = await add_bar(sql, mpesa_enabled=True, production=False)
    await sql.execute("alter table public.bars add constraint one check (mpesa_enabled) not valid")
    with pytest.raises(ConstraintRefused):
        await MpesaSyncManager(db).repair_inconsistency(bar, actor="Asha")
    assert await sql.fetchval("select state from mpesa_sync.alerts where bar_id = $1", bar) == "firing"
    await sql.execute("alter table public.bars drop constraint one")
    assert (await MpesaMigrationService(db).run()).report.fixed == 1
    assert await sql.fetchval("select state from mpesa_sync.alerts where bar_id = $1", bar) == "resolved"


async def test_max_errors_counts_what_detection_has_set_aside(db: Database, sql: Any) -> None:
    """Spec 6: where the limit is passed before the first batch, nothing is written."""
    await sql.execute("alter table public.bars add column mpesa_consumer_key_encrypted text")
    stale = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("update public.bars set mpesa_consumer_key_encrypted = 'x' where id = $1", stale)
    await drift(sql, 1)
    run = await MpesaMigrationService(db).run(RunOptions(max_errors=0))
    assert (run.limit, run.report.fixed, run.report.deferred) == ("max_errors", 0, 1)


async def test_a_wrong_actor_installs_nothing(platform_url: str) -> None:
    """Bad input changes nothing."""
    async with plain(platform_url) as sql, connect(platform_url) as database:
        await drift(sql, 1)
        service = MpesaMigrationService(database)
        [record] = [found async for found in service.find_inconsistent_records()]
        with pytest.raises(InvalidInput):
            await service.migrate_record(record, actor="")
        assert await sql.fetchval("select to_regnamespace('mpesa_sync')") is None
