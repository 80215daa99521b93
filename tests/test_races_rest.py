"""races.md, what test_races_corrections.py leaves: conditions under which a form is right, one round trip, leases,
cursors, counts. Each wrong form is played as a demonstration, and the right one beside it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db import candidates, runs
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.refusals import RunUnderWay
from tests.support import corrections
from tests.support.clocks import HurriedClock
from tests.support.guarding import BARS, drifted, hits, set_mode
from tests.support.migrating import drift, once
from tests.support.observer import see_all
from tests.support.stepping import sessions
from tests.support.venues import add_bar
from tests.test_races_corrections import BARS_OFF, CREDENTIALS_OFF, HIDDEN, OFF_IN_PAIR, play

_PAGE: Final = "select id from public.bars order by id offset $1 limit $2"
_BY_TIME: Final = "select id, updated_at from public.bars where updated_at > $1 order by updated_at limit $2"
_BY_KEY: Final = "select id from public.bars where id > $1 order by id limit $2"
_COUNTS: Final = """
select (select count(*) from public.bars where mpesa_enabled),
       (select count(distinct tenant_id) from public.mpesa_credentials where is_active)
"""

_RUN: Final = """
insert into mpesa_sync.migration_runs (id, kind, state, actor, options, report, candidates)
values ($1, 'migrate', 'paused', 'test', '{}', '{}', 9)
"""


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


@pytest.mark.parametrize(
    ("writes", "drifts"),
    [(OFF_IN_PAIR, False), ((BARS_OFF, CREDENTIALS_OFF), False), ((CREDENTIALS_OFF,), True)],
    ids=["credentials-first", "bars-first", "twin-credentials-only"],
)
async def test_locking_the_bar_alone_is_right_only_beside_writers_that_touch_bars(
    database_url: str, sql: Any, writes: tuple[str, ...], drifts: bool
) -> None:
    """races.md, row 6: before each of its statements; a writer of credentials alone is not kept out."""
    seen, waited = [], 0
    async with sessions(database_url, 2) as (us, they):
        for position in range(5):
            bar = await add_bar(sql, **HIDDEN)
            played = await play((us, they), sql, bar, corrections.bars_only(us, [bar]), writes, position)
            assert played.failures == [], position
            seen.append(played.drifted_at_the_end)
            waited += played.they_waited + played.we_waited
    assert any(seen) is drifts, seen
    assert waited or drifts, "nobody ever waited: nothing was interleaved"


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "twin-unguarded"])
async def test_locking_the_bar_alone_is_right_where_a_guard_stands(
    guarded_url: str, guarded_sql: Any, guarded: bool
) -> None:
    """races.md, row 6: the guard of a writer of credentials alone waits for the bar, and decides after us."""
    await set_mode(guarded_sql, "log")
    if not guarded:
        await guarded_sql.execute("alter table public.mpesa_credentials disable trigger mpesa_sync_guard_update")
    seen, waited = [], 0
    async with sessions(guarded_url, 2) as (us, they):
        for position in range(5):
            bar = await add_bar(guarded_sql, mpesa_enabled=False, sandbox=True)
            await guarded_sql.execute(BARS, bar, False)
            assert bar in await drifted(guarded_sql)
            work = corrections.bars_only(us, [bar])
            played = await play((us, they), guarded_sql, bar, work, (CREDENTIALS_OFF,), position)
            assert played.failures == [], position
            seen.append(played.drifted_at_the_end)
            waited += played.they_waited
    assert any(seen) is not guarded, seen
    assert waited or not guarded


ROUND_TRIPS: Final = [
    pytest.param(corrections.locking_cte, True, id="cte"),
    pytest.param(corrections.one_round_trip, False, id="function"),
]


@pytest.mark.parametrize(("correction", "drifts"), ROUND_TRIPS)
async def test_one_round_trip_is_a_function_and_never_a_cte(
    database_url: str, sql: Any, correction: Any, drifts: bool
) -> None:
    """races.md: the same locks in the same order; one statement has one snapshot, from before it waited."""
    await sql.execute(corrections.ONE_ROUND_TRIP)
    bar = await add_bar(sql, **HIDDEN)
    async with sessions(database_url, 2) as (us, they):
        await us.begin(correction(us, [bar]))
        await us.step()
        await they.begin(_paired_off(they, bar))
        await they.until("commit")
        await us.step()
        assert they.pid in await us.blockers()
        await they.finish()
        await us.released()
        await us.finish()
    seen = (await see_all(sql))[bar]
    assert (seen.active, seen.drifted) == ([], drifts)


async def _paired_off(connection: Any, bar: UUID) -> None:
    await connection.execute("begin")
    for write in OFF_IN_PAIR:
        await connection.execute(write, bar)
    await connection.execute("commit")


@pytest.mark.parametrize("asked", [True, False], ids=["ours", "twin-that-looked-before"])
async def test_a_lease_is_asked_for_in_the_transaction_that_commits(
    database_url: str, sql: Any, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    """races.md, the last row: a process that only looked when it began goes on writing after it was taken for dead."""
    bars = await drift(sql, 16)
    taken: list[asyncio.Task[Any]] = []
    if not asked:
        monkeypatch.setattr(runs, "CLAIM", runs.CLAIM.replace("r.token = $2", "$2::uuid is not null"))

    def take_over() -> None:
        statement = "update mpesa_sync.migration_runs set token = gen_random_uuid()"
        taken.append(asyncio.create_task(sql.execute(statement)))

    async with connect(database_url, clock=HurriedClock()) as database:
        with pytest.raises(RunUnderWay):
            progress = once("correcting", take_over, settled=2)
            await MpesaMigrationService(database).run(RunOptions(batch_size=1), progress=progress)
    await asyncio.gather(*taken)
    written = await sql.fetchval("select count(*) from mpesa_sync.migration_journal")
    counted = json.loads(await sql.fetchval("select report from mpesa_sync.migration_runs"))["fixed"]
    assert (written == counted) is asked, "the demonstration shows nothing"
    assert (written == len(bars)) is not asked


@pytest.mark.parametrize("immediate", [True, False], ids=["twin-immediate", "ours"])
async def test_a_guard_that_speaks_at_once_heals_a_correct_writer_falsely(guarded_sql: Any, immediate: bool) -> None:
    """races.md, second table, row 1: the same guards, made immediate AFTER triggers by the writer's own transaction."""
    async with guarded_sql.transaction():
        bar = await add_bar(guarded_sql, mpesa_enabled=True, production=True)
    async with guarded_sql.transaction():
        await guarded_sql.execute("set constraints all " + ("immediate" if immediate else "deferred"))
        await guarded_sql.execute(BARS_OFF, bar)
        await guarded_sql.execute(CREDENTIALS_OFF, bar)
    assert await drifted(guarded_sql) == []
    assert ("healed" in [kind for kind, *_ in await hits(guarded_sql, bar)]) is immediate


async def test_equal_counts_hide_drift_and_both_directions_do_not(db: Database, sql: Any) -> None:
    """races.md: as many shown as active, and every one of them is wrong."""
    for number in range(3):
        await add_bar(sql, mpesa_enabled=bool(number % 2), sandbox=not number % 2)
        await add_bar(sql, mpesa_enabled=not number % 2, sandbox=bool(number % 2))
    shown, active = await sql.fetchrow(_COUNTS)
    assert shown == active, "the demonstration shows nothing"
    db.clock = HurriedClock()
    summary = await MpesaMigrationService(db).validate_migration()
    assert (summary.bars, summary.hidden, summary.exposed, summary.is_consistent) == (6, 3, 3, False)


async def test_a_place_by_number_or_by_time_skips_bars_and_one_by_key_does_not(db: Database, sql: Any) -> None:
    """races.md: the number of a batch means nothing once its size changes, and a flip need not move `updated_at`."""
    bars = sorted(await drift(sql, 9))
    await sql.execute("alter table public.bars disable trigger user")
    await sql.execute("update public.bars set updated_at = to_timestamp(case when id = $1 then 1 else 2 end)", bars[-1])
    by_number = set[UUID]()
    for batch, size in enumerate((4, 1, 1, 1, 1, 1)):
        by_number |= {record["id"] for record in await sql.fetch(_PAGE, batch * size, size)}
    by_time, last = set[UUID](), await sql.fetchval("select 'epoch'::timestamptz")
    while page := await sql.fetch(_BY_TIME, last, 4):
        by_time |= {record["id"] for record in page}
        last = page[-1]["updated_at"]
    by_key, place = list[UUID](), UUID(int=0)
    for size in (4, 1, 3, 2, 7):
        found = [record["id"] for record in await sql.fetch(_BY_KEY, place, size)]
        by_key, place = by_key + found, found[-1] if found else place
    assert len(by_number) < 9 > len(by_time), "the demonstration shows nothing"
    assert by_key == bars
    for sizes in ((4, 1, 3, 2, 7), (1,) * 9, (1000,)):
        assert await _batches_of_a_run(db, sql, bars, sizes) == bars


async def _batches_of_a_run(db: Database, sql: Any, bars: list[UUID], sizes: tuple[int, ...]) -> list[UUID]:
    """Return what a run's own batches hold when their size changes, in their order."""
    run_id, found, cursor = uuid4(), list[UUID](), None
    await sql.execute(_RUN, run_id)
    await candidates.add(sql, run_id, 0, ((bar, True, True) for bar in reversed(bars)))
    async with db.reading() as connection:
        for size in sizes:
            batch = await candidates.after(connection, run_id, 0, cursor, size)
            found += [one.bar_id for one in batch]
            cursor = found[-1]
    return found
