"""A run while others suffer for minutes, clocks jump, and records come and go under it (R2, issue 5, trouble)."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.migration_report import exit_code
from mpesa_sync.db import pressure
from mpesa_sync.db.pool import connect
from mpesa_sync.migration import control
from mpesa_sync.migration.report import Progress, RunState
from mpesa_sync.migration.throttle import BOUND_S
from mpesa_sync.refusals import RunRefused, RunUnderWay
from mpesa_sync.sync import guards
from tests.support.clocks import HurriedClock
from tests.support.faults import until
from tests.support.migrating import adds_up, drift, drifted, once
from tests.test_migration_runs import begun, left_behind
from tests.test_throttle import crowd

_FUTURE: Final = "update mpesa_sync.migration_runs set heartbeat_at = clock_timestamp() + $2::interval where id = $1"


class JumpingClock(HurriedClock):
    """A machine whose clock says another day each time that it is asked; seconds that pass are counted right."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def now(self) -> datetime:
        self.asked += 1
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=400 * (-1) ** self.asked * self.asked)


async def test_a_lock_that_is_held_for_minutes_stops_the_run_with_its_reason(database_url: str, sql: Any) -> None:
    """R2, exit code 6: held back, said at every look, given up after the bound; later it goes on from there."""
    bars, told = await drift(sql, 4), list[str | None]()
    clock = HurriedClock()

    def progress(said: Progress) -> None:
        if said.throttle:
            told.append(said.throttle)

    async with connect(database_url, clock=clock) as database:
        service = MpesaMigrationService(database)
        async with crowd(database_url, 4) as other:

            async def all_wait() -> bool:
                return (await pressure.sample(other)).waiting == 4

            await until(all_wait)
            began = clock.monotonic()
            run = await service.run(RunOptions(batch_size=1), progress=progress)
            assert (run.report.state, run.limit, run.report.fixed) == (RunState.PAUSED, "throttle", 0)
            assert "4 sessions wait for locks" in str(run.fault)
            assert exit_code(run) is ExitCode.LIMIT
            assert (adds_up(run), run.report.deferred) == (True, len(bars) + 1), "that of the crowd, too"
            assert clock.monotonic() - began >= BOUND_S >= sum(clock.waits_s)
            assert set(told) == {"4 sessions wait for locks"}
            assert len(told) >= len(clock.waits_s) > 10, "at every look"
        resumed = await service.resume(run.report.run)
    assert (resumed.report.state, resumed.report.fixed, resumed.report.verified) == (RunState.DONE, 5, True)
    assert await drifted(sql) == set()


async def test_a_machine_whose_clock_jumps_keeps_its_run(database_url: str, sql: Any) -> None:
    """races.md: a lease is counted by the database's clock alone; another process is refused as ever."""
    await drift(sql, 6)
    clock = JumpingClock()
    async with connect(database_url, clock=clock) as database, connect(database_url, clock=JumpingClock()) as other:
        held = await begun(database)
        with pytest.raises(RunUnderWay):
            await MpesaMigrationService(other).resume(held.run_id)
        with pytest.raises(RunUnderWay):
            await MpesaMigrationService(other).run()
        await held.end(RunState.DONE, limit=None, fault=None)
        run = await MpesaMigrationService(database).run(RunOptions(batch_size=1))
    assert (run.report.state, run.report.fixed, adds_up(run)) == (RunState.DONE, 6, True)


@pytest.mark.parametrize(("ahead_s", "is_left"), [(3 * 3600, True), (4, False)])
async def test_a_sign_of_life_from_the_future_is_none(database_url: str, sql: Any, ahead_s: int, is_left: bool) -> None:
    """Clock jump: the server's was set back by hours, and who died before would be under way until then.

    A process that lives has given a new sign of life by then; one that did not commits nothing more, as ever.
    """
    await drift(sql, 3)
    async with connect(database_url, clock=HurriedClock()) as database:
        run_id = await left_behind(database, sql, settled=1, batch_size=1)
        await sql.execute(_FUTURE, run_id, timedelta(seconds=ahead_s))
        state = control.state_of((await control.latest(database))[0])
        assert (state is RunState.INTERRUPTED) is is_left
        if is_left:
            assert (await MpesaMigrationService(database).resume(run_id)).report.fixed == 3
        else:
            with pytest.raises(RunUnderWay):
                await MpesaMigrationService(database).resume(run_id)


@pytest.mark.parametrize("size", [1, 2, 1000])
async def test_bars_deleted_between_batches_are_vanished_and_a_new_size_skips_none(
    database_url: str, sql: Any, size: int
) -> None:
    """R2: half of the fleet is deleted after the first batch, and the rest goes on in batches of another size."""
    bars, stop = sorted(await drift(sql, 12)), asyncio.Event()
    async with connect(database_url, clock=HurriedClock()) as database:
        service = MpesaMigrationService(database)
        run = await service.run(RunOptions(batch_size=5), progress=once("correcting", stop.set, settled=5), stop=stop)
        assert (run.report.state, run.report.fixed) == (RunState.INTERRUPTED, 5)
        await sql.execute("delete from public.bars where id = any($1::uuid[])", bars[3:9])
        resumed = await service.resume(run.report.run, batch_size=size)
    report = resumed.report
    assert (report.state, report.fixed, report.vanished, adds_up(resumed)) == (RunState.DONE, 8, 4, True)
    assert await drifted(sql) == set()


async def test_an_undo_that_would_be_fought_by_now_does_not_go_on(database_url: str, sql: Any) -> None:
    """R2: guards came, or the reconciler repairs, after it was interrupted: refused as at its beginning."""
    stop = asyncio.Event()
    await drift(sql, 4)
    async with connect(database_url, clock=HurriedClock(), reconcile="observe") as database:
        service = MpesaMigrationService(database)
        run = await service.run()
        progress = once("undoing", stop.set, settled=2)
        undo = await service.undo(run.report.run, RunOptions(batch_size=2), progress=progress, stop=stop)
        assert (undo.report.state, undo.report.fixed) == (RunState.INTERRUPTED, 2)
        async with connect(database_url, reconcile="repair") as other:
            with pytest.raises(RunRefused, match="The reconciler would repair"):
                await MpesaMigrationService(other).resume(undo.report.run)
        await guards.install(database)
        with pytest.raises(RunRefused, match="Guards would heal"):
            await service.resume(undo.report.run)
        assert len(await drifted(sql)) == 2, "nothing was written"
        await guards.remove(database)
        resumed = await service.resume(undo.report.run)
    assert (resumed.report.state, resumed.report.fixed, resumed.report.quarantined) == (RunState.DONE, 4, 0)
    assert len(await drifted(sql)) == 4
