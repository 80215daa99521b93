"""Runs that are bound to a plan (R2): nothing outside of it is written, also not by a verification."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.migration.report import RunState
from tests.support.clocks import HurriedClock
from tests.support.migrating import adds_up, drift, drifted, once


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose waits take no time."""
    async with connect(database_url, clock=HurriedClock(), reconcile="observe") as database:
        yield database


async def test_a_plan_is_applied_and_nothing_outside_of_it(hurried: Database, sql: Any) -> None:
    """R2: each of its bars is decided anew; what drifts outside is counted and left as it is."""
    planned, outside = await drift(sql, 3), await drift(sql, 2)
    await sql.execute("update public.bars set mpesa_enabled = true where id = $1", planned[0])
    run = await MpesaMigrationService(hurried).run(plan=[(bar, True) for bar in sorted(planned)])
    assert (run.report.fixed, run.report.already_consistent, run.report.scanned) == (2, 1, 3)
    assert (run.report.state, run.report.verified, run.outside, adds_up(run)) == (RunState.DONE, True, 2, True)
    assert await drifted(sql) == set(outside)


async def test_a_dry_run_of_a_plan_says_what_is_left_of_it(hurried: Database, sql: Any) -> None:
    """Spec 6: what somebody has put right since is in sync; what is drifted the other way by now is drifted still."""
    right, other_way, left = await drift(sql, 3)
    await sql.execute("update public.bars set mpesa_enabled = true where id = any($1::uuid[])", [right, other_way])
    await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", other_way)
    plan = [(bar, True) for bar in sorted((right, other_way, left))]
    run = await MpesaMigrationService(hurried).run(RunOptions(dry_run=True), plan=plan)
    assert (run.report.scanned, run.report.consistent, run.report.deferred, adds_up(run)) == (3, 1, 2, True)
    assert await drifted(sql) == {other_way, left}


async def test_a_planned_run_that_is_resumed_stays_within_its_plan(hurried: Database, sql: Any) -> None:
    """R2: its verification, too, writes nothing outside."""
    planned, outside = await drift(sql, 4), await drift(sql, 2)
    stop = asyncio.Event()
    service = MpesaMigrationService(hurried)
    run = await service.run(
        RunOptions(batch_size=1),
        plan=[(bar, True) for bar in sorted(planned)],
        progress=once("correcting", stop.set, settled=1),
        stop=stop,
    )
    assert (run.report.state, run.report.fixed) == (RunState.INTERRUPTED, 1)
    resumed = await service.resume(run.report.run)
    assert (resumed.report.fixed, resumed.outside, resumed.report.verified) == (4, 2, True)
    assert await drifted(sql) == set(outside)
