"""Runs that live in the database (R2): one at a time, paused, left behind, taken over, cancelled, taken back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.migration import control
from mpesa_sync.migration.candidates import Candidates
from mpesa_sync.migration.ledger import Ledger
from mpesa_sync.migration.report import RunReport, RunState
from mpesa_sync.refusals import RunNotFound, RunRefused, RunUnderWay
from tests.support import databases
from tests.support.clocks import HurriedClock
from tests.support.faults import until
from tests.support.fleets import Venue, drifted_venues, plant, stored_rows
from tests.support.migrating import adds_up, drift, drifted, once
from tests.support.observer import database_hash, see, see_all
from tests.support.venues import add_bar

_JOURNAL: Final = "select bar_id from mpesa_sync.migration_journal where run_id = $1"
_LEFT: Final = """
update mpesa_sync.migration_runs
   set state = 'running', token = gen_random_uuid(), heartbeat_at = now() - interval '11 s', holder = 'elsewhere'
 where id = $1
"""
_STATE: Final = "select state from mpesa_sync.migration_runs where id = $1"
_REFUSING: Final = """
create function public.test_refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
create trigger test_refuse before update of mpesa_enabled on public.bars
  for each row when (old.name <> 'free') execute function public.test_refuse();
"""
_SLOW: Final = """
create function public.test_slow() returns trigger language plpgsql as $$
begin perform pg_sleep(0.3); return new; end $$;
create trigger test_slow before update on public.bars for each row execute function public.test_slow();
"""


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose waits take no time."""
    async with connect(database_url, clock=HurriedClock(), reconcile="observe") as database:
        yield database


async def begun(database: Database) -> Ledger:
    """Return a run that is under way in this process and does nothing."""
    ledger = Ledger(database, RunReport(run=uuid4(), state=RunState.RUNNING, dry_run=False))
    await ledger.open(RunOptions(), Candidates())
    return ledger


async def ended(database: Database) -> UUID:
    """Return a run that is over."""
    ledger = await begun(database)
    await ledger.end(RunState.DONE, limit=None, fault=None)
    return ledger.run_id


async def left_behind(database: Database, sql: Any, *, settled: int, batch_size: int = 2) -> UUID:
    """Correct some bars of a run whose process then vanishes without a word; return the run."""
    stop = asyncio.Event()
    run = await MpesaMigrationService(database).run(
        RunOptions(batch_size=batch_size), progress=once("correcting", stop.set, settled=settled), stop=stop
    )
    await sql.execute(_LEFT, run.report.run)
    return run.report.run


async def test_a_run_is_refused_while_another_is_under_way(hurried: Database, sql: Any) -> None:
    """Section 6, exit code 4: named, and nothing is written; looking is allowed."""
    await drift(sql, 3)
    held = await begun(hurried)
    before = await database_hash(sql)
    service = MpesaMigrationService(hurried)
    with pytest.raises(RunUnderWay) as refused:
        await service.run()
    assert refused.value.run_id == held.run_id
    assert (await service.run(RunOptions(dry_run=True))).report.deferred == 3
    assert await database_hash(sql) == before
    await held.end(RunState.DONE, limit=None, fault=None)
    assert (await service.run()).report.fixed == 3


async def test_of_two_that_begin_in_the_same_moment_one_does(database_url: str, sql: Any) -> None:
    """Section 6, exit code 4: the database itself refuses the second."""
    async with connect(database_url) as database:
        ends = await asyncio.gather(*(begun(database) for _ in range(4)), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["Ledger", *["RunUnderWay"] * 3], ends
    assert await sql.fetchval("select count(*) from mpesa_sync.migration_runs") == 1


async def test_a_run_that_has_nothing_to_write_down_is_nobodys_else(hurried: Database, sql: Any) -> None:
    """R2: while it looks at a fleet for long it has no row, and is not taken for one that was taken over."""
    ledger = Ledger(hurried, RunReport(run=uuid4(), state=RunState.RUNNING, dry_run=False))
    await ledger.beat()
    ledger.require_held()
    await ledger.open(RunOptions(), Candidates())
    await ledger.beat()
    ledger.require_held()
    await sql.execute("update mpesa_sync.migration_runs set token = gen_random_uuid()")
    await ledger.beat()
    with pytest.raises(RunUnderWay):
        ledger.require_held()


async def test_a_run_left_behind_makes_way_and_is_resumed(hurried: Database, sql: Any) -> None:
    """R2: after ten seconds without a sign of life another begins; what was left is said to be interrupted."""
    bars = await drift(sql, 6)
    run_id = await left_behind(hurried, sql, settled=2)
    assert control.state_of((await control.latest(hurried))[0]) is RunState.INTERRUPTED
    service = MpesaMigrationService(hurried)
    run = await service.resume(run_id)
    assert (run.report.run, run.report.state, run.report.verified) == (run_id, RunState.DONE, True)
    assert (run.report.fixed, run.report.drifted, run.report.deferred, adds_up(run)) == (6, 6, 0, True)
    assert sorted(record["bar_id"] for record in await sql.fetch(_JOURNAL, run_id)) == sorted(bars)
    assert await sql.fetchval("select count(*) from mpesa_sync.migration_candidates") == 0
    with pytest.raises(RunRefused):
        await service.resume(run_id)


async def test_a_run_whose_process_lives_is_not_taken_over(hurried: Database, sql: Any) -> None:
    """R2: also where it has not moved for long, as long as it gives signs of life."""
    held = await begun(hurried)
    await sql.execute("update mpesa_sync.migration_runs set heartbeat_at = now() - interval '11 s'")
    async with held.beating():
        await until(lambda: sql.fetchval("select heartbeat_at > now() - interval '5 s' from mpesa_sync.migration_runs"))
        with pytest.raises(RunUnderWay):
            await MpesaMigrationService(hurried).resume(held.run_id)


async def test_a_process_that_was_taken_for_dead_commits_nothing_more(hurried: Database, sql: Any) -> None:
    """R2, races.md: the token is checked in the commit's own transaction. Red where `claim` does not ask for it."""
    await drift(sql, 100)  # many: the taking over is a task beside them
    others: list[asyncio.Task[Any]] = []

    def take_over() -> None:
        async def take() -> None:
            await sql.execute("update mpesa_sync.migration_runs set token = gen_random_uuid()")

        others.append(asyncio.create_task(take()))

    service = MpesaMigrationService(hurried)
    with pytest.raises(RunUnderWay):
        await service.run(RunOptions(batch_size=1), progress=once("correcting", take_over, settled=2))
    await asyncio.gather(*others)
    run = (await control.latest(hurried))[0]
    fixed = await sql.fetchval("select count(*) from mpesa_sync.migration_journal")
    assert json.loads(run.report)["fixed"] == fixed
    assert 2 <= fixed < 100
    await sql.execute(_LEFT, run.id)
    resumed = await service.resume(run.id, batch_size=4)
    assert (resumed.report.fixed, resumed.report.state, adds_up(resumed)) == (100, RunState.DONE, True)


@pytest.mark.parametrize("wanted", ["pause", "cancel"])
async def test_a_run_is_paused_or_cancelled_from_elsewhere(
    hurried: Database, database_url: str, sql: Any, wanted: str
) -> None:
    """R2: after the batch in hand; a paused run goes on, a cancelled one is over, and what is corrected stays."""
    await drift(sql, 5)
    asked: list[asyncio.Task[Any]] = []

    async with connect(database_url) as elsewhere:

        def ask() -> None:
            async def act() -> None:
                run = (await control.latest(elsewhere))[0]
                await (control.pause if wanted == "pause" else control.cancel)(elsewhere, run.id)

            asked.append(asyncio.create_task(act()))

        await sql.execute(_SLOW)
        service = MpesaMigrationService(hurried)
        run = await service.run(RunOptions(batch_size=1), progress=once("correcting", ask, settled=1))
    state = {"pause": RunState.PAUSED, "cancel": RunState.CANCELLED}[wanted]
    assert (run.report.state, adds_up(run), run.report.verified) == (state, True, None)
    assert 1 <= run.report.fixed < 5
    assert await sql.fetchval(_STATE, run.report.run) == state
    await sql.execute("drop trigger test_slow on public.bars")
    if wanted == "pause":
        assert (await service.resume(run.report.run)).report.fixed == 5
        return
    with pytest.raises(RunRefused):
        await service.resume(run.report.run)
    with pytest.raises(RunRefused):
        await control.cancel(hurried, run.report.run)
    assert len(await drifted(sql)) == run.report.deferred


async def test_a_run_is_told_that_does_not_exist(hurried: Database) -> None:
    """Bad input: a clear error, and nothing is changed."""
    with pytest.raises(RunNotFound):
        await MpesaMigrationService(hurried).resume(uuid4())
    with pytest.raises(RunNotFound):
        await control.pause(hurried, uuid4())
    with pytest.raises(RunNotFound):
        await MpesaMigrationService(hurried).undo(uuid4())


@given(
    fleet=st.lists(drifted_venues, min_size=1, max_size=9),
    first=st.sampled_from([1, 2, 3, 7, 1000]),
    then=st.sampled_from([1, 2, 3, 7, 1000]),
    after=st.integers(0, 9),
)
async def test_a_run_that_was_left_anywhere_ends_as_one_that_was_not(
    hurried: Database, sql: Any, fleet: list[Venue], first: int, then: int, after: int
) -> None:
    """R2, P3: whatever the batch sizes before and after; each bar once, counters as of one that was never stopped.

    Red where the cursor is not moved with the batch, where the counters are not, and where the cursor is a number of
    batches.
    """
    planted = await plant(sql, fleet)
    run_id = await left_behind(hurried, sql, settled=after, batch_size=first)
    run = await MpesaMigrationService(hurried).resume(run_id, batch_size=then)
    assert (run.report.state, run.report.fixed, run.report.drifted) == (RunState.DONE, len(fleet), len(fleet))
    assert sorted(record["bar_id"] for record in await sql.fetch(_JOURNAL, run_id)) == sorted(planted)
    assert adds_up(run)
    assert await drifted(sql) == set()


async def test_undo_is_refused_where_it_would_be_fought(guarded_url: str, database_url: str) -> None:
    """R2: by guards that heal, or by a reconciler that repairs; nothing is written."""
    async with databases.plain(guarded_url) as sql, connect(guarded_url, reconcile="observe") as database:
        service, run = MpesaMigrationService(database), await ended(database)
        with pytest.raises(RunRefused, match="Guards would heal"):
            await service.undo(run)
        assert await sql.fetchval("select count(*) from mpesa_sync.migration_runs") == 1
    async with connect(database_url, reconcile="repair") as database:
        run = await ended(database)
        with pytest.raises(RunRefused, match="The reconciler would repair"):
            await MpesaMigrationService(database).undo(run)


async def test_undo_gives_back_what_is_the_runs_still_and_nothing_else(hurried: Database, sql: Any) -> None:
    """R2: NULL too; a bar that somebody has changed since stays, a deleted one is counted."""
    bars = [await add_bar(sql, mpesa_enabled=shown, production=True) for shown in (False, None, False, False)]
    before = await stored_rows(sql, "mpesa_credentials")
    service = MpesaMigrationService(hurried)
    run = await service.run()
    await sql.execute("update public.bars set mpesa_enabled = null where id = $1", bars[2])
    await sql.execute("delete from public.bars where id = $1", bars[3])
    assert (await service.undo(run.report.run, RunOptions(dry_run=True))).report.deferred == 4
    phases = []
    undone = await service.undo(run.report.run, progress=lambda moment: phases.append(moment.phase))
    assert "undoing" in phases
    assert "correcting" not in phases
    assert (undone.report.state, undone.report.verified, adds_up(undone)) == (RunState.DONE, None, True)
    assert (undone.report.fixed, undone.report.stale, undone.report.vanished) == (2, 1, 1)
    seen = await see_all(sql)
    assert [seen[bar].mpesa_enabled for bar in bars[:3]] == [False, None, None]
    assert {bar: row for bar, row in before.items() if bar in await stored_rows(sql, "mpesa_credentials")} == (
        await stored_rows(sql, "mpesa_credentials")
    )
    again = await service.undo(run.report.run)
    assert (again.report.fixed, again.report.already_consistent) == (0, 2)
    with pytest.raises(RunRefused):
        await service.undo(undone.report.run)


async def test_the_quarantine_keeps_a_record_until_it_is_settled(hurried: Database, sql: Any) -> None:
    """R2.4: attempts add up over runs; a retry corrects what can be by now, and closes what is right already."""
    refused, healed, stays = await drift(sql, 3)
    await sql.execute(_REFUSING)
    service = MpesaMigrationService(hurried)
    run = await service.run()
    assert (run.report.state, run.report.quarantined, adds_up(run)) == (RunState.DONE, 3, True)
    await sql.execute("update public.bars set name = 'free' where id = $1", refused)
    await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", healed)
    again = await service.retry_quarantined()
    assert (again.report.scanned, again.report.consistent, again.report.fixed) == (3, 1, 1)
    assert (again.report.quarantined, [one.bar_id for one in again.records]) == (1, [stays])
    rows = await sql.fetch("select bar_id, attempts, resolved_by from mpesa_sync.migration_quarantine order by id")
    closed = {row["bar_id"]: row["resolved_by"] for row in rows}
    assert closed == {refused: again.report.run, healed: again.report.run, stays: None}
    assert {row["bar_id"]: row["attempts"] for row in rows}[stays] == 2
    seen = await see(sql, refused)
    assert seen is not None
    assert seen.mpesa_enabled is True
