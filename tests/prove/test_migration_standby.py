"""A standby: reading works, writing is refused in plain words and quarantines nobody; promoted, a run goes on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db import embedded, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.migration.report import RunState
from tests.support.cli import cli
from tests.support.clocks import HurriedClock
from tests.support.databases import plain
from tests.support.faults import until
from tests.support.migrating import adds_up, drift, drifted, once
from tests.support.observer import database_hash
from tests.support.standbys import caught_up, standby_of

pytestmark = pytest.mark.prove


async def test_a_standby_is_looked_at_and_never_written(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Issue 5, trouble: check and a dry run say what has drifted; a run ends with what to do, and changed nothing."""
    distribution = request.config.getoption("--postgres")
    with embedded.start(tmp_path / "primary", distribution=distribution) as primary:
        async with connect(primary.url) as database:
            await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)
        async with plain(primary.url) as sql, standby_of(primary, tmp_path, distribution) as standby:
            bars = await drift(sql, 6)
            await caught_up(primary, standby)
            before = await database_hash(sql)
            assert cli("check", url=standby.url).code == 2
            assert cli("migrate", "--dry-run", url=standby.url).code == 2
            ended = cli("migrate", "--yes", url=standby.url)
            assert ended.code == 1
            assert "standby" in ended.out
            assert await database_hash(sql) == before
            async with connect(standby.url, clock=HurriedClock()) as database:
                run = await MpesaMigrationService(database).run()
                assert (run.report.state, run.report.quarantined, adds_up(run)) == (RunState.FAILED, 0, True)
                assert "standby" in str(run.fault)
                record = [one async for one in MpesaMigrationService(database).find_inconsistent_records()]
            assert {one.bar_id for one in record} == set(bars)


async def test_a_run_goes_on_where_its_server_was_replaced_by_its_standby(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """R2: the run's row is in the database that moved; what the new primary has of it is what it goes on from."""
    distribution, stop = request.config.getoption("--postgres"), asyncio.Event()
    with embedded.start(tmp_path / "primary", distribution=distribution) as primary:
        async with connect(primary.url, clock=HurriedClock()) as database, plain(primary.url) as sql:
            await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)
            async with standby_of(primary, tmp_path, distribution) as standby:
                await drift(sql, 7)
                progress = once("correcting", stop.set, settled=3)
                run = await MpesaMigrationService(database).run(RunOptions(batch_size=3), progress=progress, stop=stop)
                await caught_up(primary, standby)
                async with plain(standby.url) as new, connect(standby.url, clock=HurriedClock()) as moved:
                    await new.fetchval("select pg_promote()")
                    await until(lambda: new.fetchval("select not pg_is_in_recovery()"))
                    resumed = await MpesaMigrationService(moved).resume(run.report.run)
                    assert (resumed.report.state, resumed.report.fixed) == (RunState.DONE, 7)
                    assert await drifted(new) == set()
