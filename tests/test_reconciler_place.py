"""The place of the sweep: one at a time over all processes, lost or foreign, overdue, and clocks that jump."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync.db import reconciler as rows
from mpesa_sync.db import session, transaction
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.sync.reconciler import Policy, Reconciler, Rhythm
from mpesa_sync.sync.reconciler_repair import LeaseLost, repair
from tests.support.clocks import HurriedClock
from tests.support.venues import KEY, add_bar

ONE: Final = Rhythm(page=1)
_RESET: Final = """
delete from public.bars; delete from mpesa_sync.reconciler_cycles; delete from mpesa_sync.reconciler;
"""


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose second look takes no time."""
    async with connect(database_url, kms_keys=[KEY], clock=HurriedClock()) as database:
        yield database


_ids: Final = st.integers(1, 12).map(lambda number: UUID(int=number << 100))
_changes: Final = st.lists(st.tuples(st.sampled_from(["insert", "delete", "drift", "heal"]), _ids), max_size=4)


@given(
    first=st.dictionaries(_ids, st.booleans(), max_size=8),
    between=st.lists(_changes, max_size=14),
    page=st.sampled_from([1, 2, 3, 7, 1000]),
)
async def test_every_bar_that_stays_drifted_is_seen_in_one_cycle(
    hurried: Database, sql: Any, first: dict[UUID, bool], between: list[list[tuple[str, UUID]]], page: int
) -> None:
    """C: a sweep by key; whatever is inserted, deleted, drifts and is healed between its slices."""
    await sql.execute(_RESET)
    for bar, is_drifted in first.items():
        await add_bar(sql, bar_id=bar, mpesa_enabled=is_drifted)
    lasting = {bar for bar, is_drifted in first.items() if is_drifted}
    sweeper, seen, steps = Reconciler(hurried, Rhythm(page=page)), list[UUID](), iter(between)
    while True:
        done = await sweeper.slice(as_policy=Policy.OBSERVE, is_forced=True)
        assert done is not None
        seen += [bar for bar, _ in done.drifted]
        if done.cycle is not None:
            break
        for what, bar in next(steps, []):
            lasting -= {bar} if what in ("delete", "heal") else set()
            await _change(sql, what, bar)
    assert lasting <= set(seen)
    assert len(seen) == len(set(seen)), "no bar is looked at twice in a cycle"


async def _change(sql: Any, what: str, bar: UUID) -> None:
    if what == "insert" and not await sql.fetchval("select 1 from public.bars where id = $1", bar):
        await add_bar(sql, bar_id=bar, mpesa_enabled=True)
    elif what == "delete":
        await sql.execute("delete from public.bars where id = $1", bar)
    elif what in ("drift", "heal"):
        await sql.execute("update public.bars set mpesa_enabled = $2 where id = $1", bar, what == "drift")


async def test_several_processes_do_each_slice_once(database_url: str, sql: Any) -> None:
    """C: one at a time over any number of processes: three at once look at every bar once, repair each once."""
    bars = [await add_bar(sql, production=True) for _ in range(12)]
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(connect(database_url, clock=HurriedClock(), kms_keys=[KEY]))
            for _ in range(3)
        ]
        ended = asyncio.Event()
        looked: list[int] = []

        async def work(database: Database) -> None:
            sweeper = Reconciler(database, Rhythm(page=2))
            while not ended.is_set():
                done = await sweeper.slice()
                looked.append(0 if done is None else done.bars)
                if done is not None and done.cycle is not None:
                    ended.set()

        async with asyncio.timeout(30):
            await asyncio.gather(*(work(database) for database in opened))
    cycle = await sql.fetchrow("select bars, hidden, repaired from mpesa_sync.reconciler_cycles")
    assert (sum(looked), tuple(cycle)) == (12, (12, 12, 12))
    done = await sql.fetch("select bar_id from mpesa_sync.operations")
    assert sorted(record["bar_id"] for record in done) == sorted(bars)


async def test_a_zombie_with_an_old_lease_can_commit_nothing(hurried: Database, sql: Any) -> None:
    """races.md: the token is asked for in the commit's own transaction; its twin without a token writes."""
    bar, old, new = await add_bar(sql, production=True), uuid4(), uuid4()

    async def leased(token: UUID) -> rows.Lease | None:
        return await transaction.once(
            hurried, session.WRITE, lambda c: rows.lease(c, token, lease_s=10.0, cycle_s=900.0, is_forced=True)
        )

    assert await leased(old) is not None
    assert await leased(new) is None, "held"
    await sql.execute("update mpesa_sync.reconciler set lease_until = clock_timestamp() - interval '1 s'")
    assert await leased(new) is not None
    with pytest.raises(LeaseLost):
        await repair(hurried, bar, token=old, budget=9)
    written = await transaction.once(
        hurried, session.WRITE, lambda c: rows.advance(c, old, bar, {"bars": 9}, next_in_s=0.0)
    )
    assert written is False
    state = await sql.fetchrow("select last_bar, bars, hour_repairs from mpesa_sync.reconciler")
    assert tuple(state) == (None, 0, 0)
    assert await sql.fetchval("select mpesa_enabled from public.bars where id = $1", bar) is False
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0
    assert await repair(hurried, bar, token=None, budget=9) == "repaired"


async def test_a_cycle_goes_on_where_a_killed_process_left_it(hurried: Database, sql: Any) -> None:
    """C: the place is in the database: between slices at once; within one, when the lease has run out."""
    bars = sorted([await add_bar(sql, mpesa_enabled=True) for _ in range(4)])
    first = await Reconciler(hurried, ONE).slice(as_policy=Policy.OBSERVE)
    assert first is not None
    second = await Reconciler(hurried, ONE).slice(as_policy=Policy.OBSERVE, is_forced=True)
    assert second is not None
    assert [*first.drifted, *second.drifted] == [(bars[0], False), (bars[1], False)]
    await sql.execute(
        "update mpesa_sync.reconciler set lease_token = gen_random_uuid(), lease_until = now() + interval '9 s'"
    )
    assert await Reconciler(hurried, ONE).slice(as_policy=Policy.OBSERVE, is_forced=True) is None
    await sql.execute("update mpesa_sync.reconciler set lease_until = now() - interval '1 s'")
    third = await Reconciler(hurried, ONE).slice(as_policy=Policy.OBSERVE, is_forced=True)
    assert third is not None
    assert third.drifted == ((bars[2], False),)


@pytest.mark.parametrize(
    "loss",
    [
        "update mpesa_sync.reconciler set last_bar = null",
        "update mpesa_sync.reconciler set epoch = 'of another history'",
        "delete from mpesa_sync.reconciler",
        "update mpesa_sync.reconciler set cycle_started = now() + interval '1 day'",
    ],
    ids=["lost", "foreign", "row-lost", "clock-set-back"],
)
async def test_a_place_that_is_lost_or_foreign_begins_anew(hurried: Database, sql: Any, loss: str) -> None:
    """C: a cursor that survives its loss: every bar is looked at, and none is left out for a place of elsewhere."""
    bars = {await add_bar(sql, mpesa_enabled=True) for _ in range(4)}
    sweeper = Reconciler(hurried, ONE)
    for _ in range(2):
        assert await sweeper.slice(as_policy=Policy.OBSERVE, is_forced=True) is not None
    await sql.execute(loss)
    seen: set[UUID] = set()
    while True:
        done = await sweeper.slice(as_policy=Policy.OBSERVE, is_forced=True)
        assert done is not None
        seen |= {bar for bar, _ in done.drifted}
        if done.cycle is not None:
            break
    assert seen == bars
    assert done.cycle.bars == 4


async def test_what_is_overdue_is_done_at_once_and_what_is_not_is_left(hurried: Database, sql: Any) -> None:
    """races.md: next run and last success stand in the database, so a restart neither repeats nor forgets a cycle."""
    await add_bar(sql)
    assert await Reconciler(hurried).slice() is not None, "never done: due"
    assert await Reconciler(hurried).slice() is None, "a new process: not due"
    due = await sql.fetchval("select next_run - last_success from mpesa_sync.reconciler")
    assert timedelta(minutes=14) < due <= timedelta(minutes=15)
    await sql.execute("update mpesa_sync.reconciler set next_run = now() - interval '3 h'")
    assert await Reconciler(hurried).slice() is not None, "overdue"
    await sql.execute("update mpesa_sync.reconciler set next_run = now() + interval '3 h'")
    assert await Reconciler(hurried).slice() is not None, "the server's clock was set back"
    await sql.execute(
        "update mpesa_sync.reconciler set next_run = now(), lease_token = gen_random_uuid(), "
        "lease_until = now() + interval '3 h'"
    )
    assert await Reconciler(hurried).slice() is not None, "a lease of that time holds nobody up"


async def test_a_sweep_that_is_asked_for_follows_the_one_under_way(hurried: Database, sql: Any) -> None:
    """C: TRUNCATE means every bar: those behind the place of the cycle are looked at, too."""
    for _ in range(2):
        await add_bar(sql)
    sweeper = Reconciler(hurried, ONE)
    assert await sweeper.slice(is_forced=True) is not None
    await transaction.once(hurried, session.WRITE, rows.ask)
    while (done := await sweeper.slice(is_forced=True)) is not None and done.cycle is None:
        pass
    assert await sweeper.slice() is not None, "at once"
