"""`MpesaMigrationService` while others write and connections break (R2.4, races.md, faults.md): it counts the truth."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.migration.report import Progress, Run, RunReport, RunState
from tests.support import databases
from tests.support.clocks import HurriedClock
from tests.support.migrating import adds_up, drift, drifted
from tests.support.observer import see
from tests.support.venues import add_bar
from tests.support.waiting import open_transactions, waiter_for

SECOND_LOOK_S: Final = 0.5
_JOURNAL: Final = "select bar_id, previous, current from mpesa_sync.migration_journal where run_id = $1"
DRIFT_BY_OTHERS: Final = """
create sequence public.test_drifts minvalue 0 start 1 maxvalue {times};
create function public.test_drift() returns trigger language plpgsql as $$
begin
  perform nextval('public.test_drifts');
  update public.bars set mpesa_enabled = false where id <> new.bar_id;
  return null;
exception when sequence_generator_limit_exceeded then
  return null;
end $$;
create trigger test_drift after insert on mpesa_sync.migration_journal
  for each row execute function public.test_drift();
"""
"""Another program that makes the other bar drift each time one was corrected, so many times."""


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose second look and back-off take no time."""
    async with connect(database_url, clock=HurriedClock()) as database:
        yield database


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    """Another program."""
    async with databases.plain(database_url) as connection:
        yield connection


async def journal(sql: Any, report: RunReport) -> list[tuple[UUID, bool | None, bool]]:
    return [tuple(record) for record in await sql.fetch(_JOURNAL, report.run)]


async def run_while_other_commits(hurried: Database, sql: Any, other: Any, writes: list[str], bar: UUID) -> Run:
    """Start a run that has to wait for what another program has written to `bar`; let that commit; return the run."""
    await other.execute("begin")
    for write in writes:
        await other.execute(write, bar)
    run = asyncio.create_task(MpesaMigrationService(hurried).run())
    await waiter_for(sql, other.get_server_pid())
    await other.execute("commit")
    return await run


async def test_a_bar_deleted_meanwhile_is_vanished_and_the_others_are_corrected(
    hurried: Database, sql: Any, other: Any
) -> None:
    """Fault matrix: bar deleted during migration. 0 rows is neither success nor an error of the run."""
    bars = await drift(sql, 3)
    run = await run_while_other_commits(hurried, sql, other, ["delete from public.bars where id = $1"], bars[1])
    assert (run.report.vanished, run.report.fixed, run.report.drifted) == (1, 2, 3)
    assert (run.report.state, adds_up(run)) == (RunState.DONE, True)
    assert {bar for bar, _, _ in await journal(sql, run.report)} == {bars[0], bars[2]}


async def test_a_bar_that_drifted_the_other_way_meanwhile_is_stale_and_decided_anew(
    hurried: Database, sql: Any, other: Any
) -> None:
    """races.md: it is never written as the old look said; the verification finds it, and writes the new truth."""
    bar = (await drift(sql, 1))[0]
    flip = [
        "update public.mpesa_credentials set is_active = false where tenant_id = $1",
        "update public.bars set mpesa_enabled = true where id = $1",
    ]
    run = await run_while_other_commits(hurried, sql, other, flip, bar)
    assert (run.report.stale, run.report.fixed, run.report.drifted, run.report.scanned) == (1, 1, 2, 2)
    assert (run.report.verified, adds_up(run)) == (True, True)
    assert await journal(sql, run.report) == [(bar, True, False)]
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])


@pytest.mark.parametrize(
    "write",
    [
        "update public.bars set mpesa_enabled = true where id = $1",
        "update public.mpesa_credentials set is_active = null where tenant_id = $1",
    ],
    ids=["shown", "switched-off"],
)
async def test_a_bar_that_others_corrected_meanwhile_is_already_consistent(
    hurried: Database, sql: Any, other: Any, write: str
) -> None:
    """R2.2: nothing is written to it and nothing stands in the journal."""
    bar = (await drift(sql, 1))[0]
    run = await run_while_other_commits(hurried, sql, other, [write], bar)
    assert (run.report.already_consistent, run.report.fixed, run.report.verified) == (1, 0, True)
    assert adds_up(run)
    assert await journal(sql, run.report) == []


@asynccontextmanager
async def through_proxy(url: str) -> AsyncIterator[tuple[Database, TcpProxy]]:
    async with TcpProxy.before(url) as proxy, connect(proxy.url_for(url), clock=HurriedClock()) as database:
        yield database, proxy


def at_the_first(phase: str, act: Callable[[], object], *, settled: int = 0) -> Callable[[Progress], None]:
    """Return a progress callback that does something once, before the first statement that comes after it."""
    done: list[object] = []

    def callback(progress: Progress) -> None:
        if progress.phase == phase and progress.settled >= settled and not done:
            done.append(act())

    return callback


@pytest.mark.parametrize("after", [True, False], ids=["committed", "not-committed"])
@pytest.mark.parametrize("batch_size", [2, 1000])
async def test_a_batch_whose_commit_was_not_answered_is_counted_as_the_journal_has_it(
    database_url: str, sql: Any, after: bool, batch_size: int
) -> None:
    """faults.md 1: an error at COMMIT is not a failure; each bar is fixed once, and counted as fixed."""
    bars = await drift(sql, 5)
    async with through_proxy(database_url) as (database, proxy):
        cut = at_the_first("correcting", proxy.cut_after_commit if after else proxy.cut_before_commit)
        run = await MpesaMigrationService(database).run(RunOptions(batch_size=batch_size), progress=cut)
        assert proxy.fired == {Fault.CUT_AFTER_COMMIT if after else Fault.CUT_BEFORE_COMMIT: 1}
    assert (run.report.fixed, run.report.already_consistent, run.report.verified) == (5, 0, True)
    assert adds_up(run)
    assert sorted(bar for bar, _, _ in await journal(sql, run.report)) == sorted(bars)


async def test_a_bar_whose_every_commit_went_unanswered_is_fixed_and_not_quarantined(
    database_url: str, sql: Any
) -> None:
    """faults.md 1: four answers lost in a row, and the journal still knows."""
    await drift(sql, 2)
    async with through_proxy(database_url) as (database, proxy):
        cut = at_the_first("correcting", lambda: proxy.cut_after_commit(times=4))
        run = await MpesaMigrationService(database).run(RunOptions(batch_size=1), progress=cut)
        assert proxy.fired[Fault.CUT_AFTER_COMMIT] == 4
    assert (run.report.fixed, run.report.quarantined, run.records) == (2, 0, [])
    assert len(await journal(sql, run.report)) == 2


async def test_a_lost_answer_does_not_colour_what_is_found_later(database_url: str, sql: Any, other: Any) -> None:
    """Counts and journal agree: what the run fixed, and others made drift and corrected again, is not fixed twice."""
    first, _ = sorted(await drift(sql, 2))
    await sql.execute(DRIFT_BY_OTHERS.format(times=2))  # correcting the second makes the first drift again
    corrections: list[asyncio.Task[None]] = []

    async def corrected_by_others() -> None:
        await waiter_for(sql, other.get_server_pid())
        await other.execute("commit")

    async def meanwhile(seconds: float) -> None:
        if seconds == SECOND_LOOK_S:
            await other.execute("begin")
            await other.execute("update public.bars set mpesa_enabled = true where id = $1", first)
            corrections.append(asyncio.create_task(corrected_by_others()))

    async with through_proxy(database_url) as (database, proxy):
        database.clock = HurriedClock(meanwhile)
        cut = at_the_first("correcting", proxy.cut_after_commit)
        run = await MpesaMigrationService(database).run(RunOptions(batch_size=1), progress=cut)
        await asyncio.gather(*corrections)
        assert proxy.fired[Fault.CUT_AFTER_COMMIT] == 1
        assert len(corrections) == 1
    assert (run.report.fixed, run.report.already_consistent, run.report.drifted) == (2, 1, 3)
    assert len(await journal(sql, run.report)) == 2
    assert adds_up(run)


async def test_a_database_that_goes_away_ends_the_run_and_another_finishes_it(database_url: str, sql: Any) -> None:
    """R2.4: a fault of the whole; what was corrected stays, what was not is counted deferred, not quarantined."""
    await drift(sql, 5)
    async with through_proxy(database_url) as (database, proxy):

        def vanish() -> None:
            proxy.refuse_connections(times=1_000)
            assert proxy.reset_all() > 0

        gone = at_the_first("correcting", vanish, settled=2)
        run = await MpesaMigrationService(database).run(RunOptions(batch_size=2), progress=gone)
        assert proxy.fired[Fault.REFUSE] > 0
        assert (run.report.state, run.report.fixed, run.report.deferred) == (RunState.PAUSED, 2, 3)
        assert (run.report.quarantined, run.report.verified, adds_up(run)) == (0, None, True)
        assert run.fault
        proxy.disarm()
        again = await MpesaMigrationService(database).run()
    assert (again.report.state, again.report.fixed) == (RunState.DONE, 3)
    assert await drifted(sql) == set()


async def test_drift_made_by_others_during_the_run_is_found_and_repaired(database_url: str, sql: Any) -> None:
    """R2.3: a repair is not a verification; "done" is a pass that found nothing."""
    clock = HurriedClock()
    await drift(sql, 1)
    await add_bar(sql, mpesa_enabled=True, sandbox=True)
    await sql.execute(DRIFT_BY_OTHERS.format(times=1))
    async with connect(database_url, clock=clock) as database:
        run = await MpesaMigrationService(database).run()
    assert (run.report.fixed, run.report.drifted, run.report.scanned, run.report.consistent) == (2, 2, 3, 1)
    assert (run.report.state, run.report.verified, adds_up(run)) == (RunState.DONE, True, True)
    assert clock.waits_s == [SECOND_LOOK_S]
    assert len(await journal(sql, run.report)) == 2


async def test_drift_that_never_ends_is_said_after_three_rounds(database_url: str, sql: Any) -> None:
    """races.md: under live drift a pass that repairs nothing may never come: at most 3 rounds, then say so."""
    clock = HurriedClock()
    await drift(sql, 1)
    await add_bar(sql, mpesa_enabled=True, sandbox=True)
    await sql.execute(DRIFT_BY_OTHERS.format(times=100))
    async with connect(database_url, clock=clock) as database:
        run = await MpesaMigrationService(database).run()
    assert clock.waits_s == [SECOND_LOOK_S] * 3
    assert (run.report.state, run.report.verified) == (RunState.FAILED, False)
    assert (run.report.fixed, run.report.drifted, adds_up(run)) == (3, 3, True)
    assert len(await drifted(sql)) == 1
    assert await sql.fetchval("select last_value from public.test_drifts") == 3


@pytest.mark.parametrize(("heals", "counted"), [(True, 0), (False, 1)], ids=["heals", "twin-that-stays"])
async def test_a_mismatch_that_heals_within_half_a_second_does_not_count(
    database_url: str, sql: Any, heals: bool, counted: int
) -> None:
    """races.md: in-flight writes are not drift; what lasts is counted, in its direction."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=False)

    async def meanwhile(_seconds: float) -> None:
        if heals:
            await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)

    clock = HurriedClock(meanwhile)
    async with connect(database_url, clock=clock) as database:
        summary = await MpesaMigrationService(database).validate_migration()
    assert clock.waits_s == [SECOND_LOOK_S]
    assert (summary.exposed, summary.hidden, summary.is_consistent) == (counted, 0, not counted)


async def test_nothing_is_open_in_the_database_while_the_caller_works(hurried: Database, sql: Any) -> None:
    """races.md: the detection is drained before its first record is given out."""
    await drift(sql, 3)
    given = 0
    async for record in MpesaMigrationService(hurried).find_inconsistent_records():
        assert await open_transactions(sql) == 0
        await sql.execute("delete from public.bars where id = $1", record.bar_id)
        given += 1
    assert given == 3
