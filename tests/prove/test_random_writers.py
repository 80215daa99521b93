"""Random writers against a running migration, against the reconciler and against guards (issue 5, proof): staff saves,
old programs of one field, rows and bars that come and go. 0 residual drift, every deadlock retried, counts add up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.migration.report import Run, RunState
from mpesa_sync.sync.reconciler import Reconciler, Rhythm
from tests.prove.figures import SEED
from tests.support.crowds import Crowd
from tests.support.guarding import drifted
from tests.support.migrating import adds_up
from tests.support.venues import KEY, add_bar

pytestmark = [pytest.mark.prove, pytest.mark.timeout(400)]
BARS: Final = 80
TIMES: Final = 60
"""How often every kind of writer commits beside each of those that are proved."""
_CHANGED: Final = (
    "select count(*), count(*) filter (where previous is true = current) from mpesa_sync.migration_journal"
)
_REPAIRED: Final = "select count(*) from mpesa_sync.operations where actor = 'reconciler' and outcome = 'applied'"


@pytest.fixture
async def patient(database_url: str) -> AsyncIterator[Database]:
    """The database, as a program uses it."""
    async with connect(database_url, kms_keys=[KEY], reconcile="repair") as database:
        yield database


async def some_bars(sql: Any) -> list[UUID]:
    """Insert bars that are right."""
    print(f"MPESA_SYNC_PROVE_SEED={SEED}")
    async with sql.transaction():
        return [await add_bar(sql, mpesa_enabled=bool(n % 2), production=bool(n % 2)) for n in range(BARS)]


def sound(run: Run) -> None:
    """A run under live traffic ends verified, or says that it is not; no fault, and nobody aside but for a lock."""
    assert adds_up(run)
    assert run.fault is None
    assert (run.report.state, run.report.verified) in {(RunState.DONE, True), (RunState.FAILED, False)}
    assert {record.code for record in run.records} <= {"database_busy"}


@pytest.mark.parametrize("size", [1, 3, None])
async def test_random_writers_against_runs(patient: Database, database_url: str, sql: Any, size: int | None) -> None:
    """R2.2, races.md: as often as it runs among them; once they are quiet one more run leaves no drift."""
    crowd, service, runs = Crowd(database_url, await some_bars(sql), SEED), MpesaMigrationService(patient), list[Run]()
    async with crowd.writing(patient):
        written = asyncio.create_task(crowd.has_written(TIMES))
        while not written.done() or len(runs) < 5:
            runs.append(await service.run(RunOptions(batch_size=size)))
        await written
    last = await service.run()
    print(len(runs), sum(run.report.fixed for run in runs), crowd.ended)
    for run in runs:
        sound(run)
    assert (last.report.state, last.report.verified, last.records) == (RunState.DONE, True, [])
    assert await drifted(sql) == []
    changed, wrong = await sql.fetchrow(_CHANGED)
    assert (changed, wrong) == (sum(run.report.fixed for run in [*runs, last]), 0)
    assert sum(run.report.fixed for run in runs) > 0, "there was nothing to correct"
    assert crowd.ended["40P01"] > 0, "nobody met anybody"


async def test_random_writers_against_the_reconciler(patient: Database, database_url: str, sql: Any) -> None:
    """C: sweeps without a rest and looks at single bars beside them; once they are quiet one sweep leaves no drift."""
    bars = await some_bars(sql)
    crowd, rhythm = Crowd(database_url, bars, SEED), Rhythm(page=5, budget=1_000_000, second_look_s=0.02)
    sweeper, looker = Reconciler(patient, rhythm), Reconciler(patient, rhythm)
    async with crowd.writing(patient):
        written = asyncio.create_task(crowd.has_written(TIMES))

        async def look() -> None:
            while not written.done():
                await looker.noticed(list(bars))

        looking = asyncio.create_task(look())
        cycles = []
        while not written.done():
            cycles.append(await sweeper.sweep())
        await asyncio.gather(written, looking)
    last = await sweeper.sweep()
    print(len(cycles), crowd.ended)
    assert last is not None
    assert (last.failed, last.postponed, last.left_alone) == (0, 0, 0)
    assert last.repaired == last.hidden + last.exposed
    assert await drifted(sql) == []
    assert await sql.fetchval(_REPAIRED) > 0, "there was nothing to repair"
    done = [cycle for cycle in [*cycles, last] if cycle is not None]
    assert all(cycle.repaired + cycle.failed <= cycle.hidden + cycle.exposed for cycle in done)
    causes = await sql.fetch("select distinct cause from mpesa_sync.alerts where bar_id is not null")
    assert {record["cause"] for record in causes} <= {"database_busy"}


async def test_random_writers_against_guards(guarded_url: str, guarded_sql: Any) -> None:
    """G1, G2, G5: no read ever sees drift, staff and runs among them meet no guard's error, and correct nothing."""
    async with connect(guarded_url, kms_keys=[KEY]) as database:
        crowd, runs, reads = Crowd(guarded_url, await some_bars(guarded_sql), SEED), list[Run](), 0
        async with crowd.writing(database):
            written = asyncio.create_task(crowd.has_written(TIMES))

            async def watch() -> None:
                nonlocal reads
                while not written.done():
                    reads += 1
                    assert await drifted(guarded_sql) == []

            watching = asyncio.create_task(watch())
            while not written.done():
                runs.append(await MpesaMigrationService(database).run())
            await asyncio.gather(written, watching)
        print(reads, len(runs), crowd.ended)
        for run in runs:
            assert (run.report.drifted, run.report.state, run.report.verified) == (0, RunState.DONE, True)
    assert reads > 100
    assert await drifted(guarded_sql) == []
