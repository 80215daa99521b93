"""P2, P3 and P4 over whole fleets: each of the 48 states of a bar a hundred times, in batches of every size, with
records that fail anywhere, and a process that is killed in the middle (faults.md, how the proofs stay honest)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.migration.report import RunState
from mpesa_sync.sync.reconciler import Policy, Reconciler, Rhythm
from tests.prove.figures import SEED, limit_s
from tests.support.clocks import HurriedClock
from tests.support.databases import plain
from tests.support.fleets import Venue, plant, stored_rows
from tests.support.harness import Cycle, Harness
from tests.support.observer import database_hash
from tests.support.states import FLAGS, STATES
from tests.support.venues import KEY
from tests.test_migration_runs import left_behind
from tests.test_property_2_migration_consistency_detection import found
from tests.test_property_3_migration_correction_authority import adds_up, only_the_flag_changed
from tests.test_property_4_migration_error_resilience import (
    CAUSES,
    EVERY_CAUSE,
    FAILING,
    RETRIED,
    Case,
    cases,
    exactly_the_failing_stay,
    planted_with_causes,
)

pytestmark = pytest.mark.prove
TIMES: Final = 100
SIZES: Final = (1, 2, 3, 7, 1000)
_JOURNAL: Final = "select bar_id, previous, current from mpesa_sync.migration_journal where run_id = $1"
_RUN: Final = "select id from mpesa_sync.migration_runs where state <> 'done' and kind = 'migrate'"
_FAILING: Final = 60
"""Drifted bars of a fleet that cannot be corrected; each has one of the causes."""


def fleet(times: int = TIMES) -> list[Venue]:
    """Return every state of a bar so many times; ids are drawn when they are planted, so they stand in any order."""
    cells = [(number, cell) for number in range(times) for cell in STATES]
    return [Venue(cell.mpesa_enabled, cell.sandbox, cell.production, FLAGS[number % 3]) for number, cell in cells]


def covered(venues: list[Venue]) -> None:
    """Demand that every cell of the matrix is there a hundred times."""
    cells = Counter((venue.mpesa_enabled, venue.sandbox, venue.production) for venue in venues)
    assert len(cells) == 48
    assert min(cells.values()) >= TIMES


def poisoned(venues: list[Venue], causes: tuple[str, ...]) -> list[Case]:
    """Return the fleet with causes at random places, each of them several times."""
    print(f"MPESA_SYNC_PROVE_SEED={SEED}")
    draw = random.Random(SEED)
    drifted = [number for number, venue in enumerate(venues) if venue.drifted]
    chosen = dict(zip(draw.sample(drifted, _FAILING), causes * _FAILING, strict=False))
    fleet_of = [Case(venue, chosen.get(number)) for number, venue in enumerate(venues)]
    assert {case.cause for case in fleet_of if case.fails} == set(causes)
    return fleet_of


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose waits take no time."""
    async with connect(database_url, clock=HurriedClock()) as database:
        yield database


async def test_property_2_a_fleet_of_every_state_a_hundred_times_is_told_apart(hurried: Database, sql: Any) -> None:
    """Feature: mpesa-sync-fix, Property 2: Migration Consistency Detection. 4,800 bars; nothing is written."""
    venues = fleet()
    covered(venues)
    planted = await plant(sql, venues)
    before = await database_hash(sql)
    records = await found(hurried)
    assert records.keys() == {bar for bar, venue in planted.items() if venue.drifted}
    for bar, record in records.items():
        venue = planted[bar]
        assert record.direction == venue.direction
        assert (record.credentials_active, record.bar_mpesa_enabled) == (venue.authority, venue.mpesa_enabled)
    expected = Counter(venue.direction for venue in planted.values() if venue.drifted)
    service = MpesaMigrationService(hurried)
    summary, run = await service.validate_migration(), await service.run(RunOptions(dry_run=True))
    assert (summary.bars, summary.hidden, summary.exposed) == (48 * TIMES, expected["hidden"], expected["exposed"])
    assert (run.hidden, run.exposed, run.report.scanned) == (expected["hidden"], expected["exposed"], 48 * TIMES)
    assert await database_hash(sql) == before


@pytest.mark.parametrize("page", SIZES)
async def test_property_2_the_reconciler_finds_the_same_on_pages_of_any_size(
    hurried: Database, sql: Any, page: int
) -> None:
    """Feature: mpesa-sync-fix, Property 2: Migration Consistency Detection. 480 bars; every bar once in a cycle."""
    planted = await plant(sql, fleet(10))
    sweeper, seen, bars = Reconciler(hurried, Rhythm(page=page)), list[tuple[UUID, bool]](), 0
    while True:
        done = await sweeper.slice(as_policy=Policy.OBSERVE, is_forced=True)
        assert done is not None
        seen, bars = [*seen, *done.drifted], bars + done.bars
        if done.cycle is not None:
            break
    assert bars == 480
    expected = {bar: venue.authority for bar, venue in planted.items() if venue.drifted}
    assert (dict(seen), len(seen)) == (expected, len(expected))


@pytest.mark.timeout(limit_s(900))
@pytest.mark.parametrize("size", SIZES)
async def test_property_3_every_state_a_hundred_times_in_batches_of_any_size(
    hurried: Database, sql: Any, size: int
) -> None:
    """Feature: mpesa-sync-fix, Property 3: Migration Correction Authority. 4,800 bars, of which 2,300 have drifted.

    Every byte and every xmin of the credentials is as it was; so is every bar that was right.
    """
    venues = fleet()
    covered(venues)
    planted = await plant(sql, venues)
    bars, credentials = await stored_rows(sql, "bars"), await stored_rows(sql, "mpesa_credentials")
    drifted = {bar: venue for bar, venue in planted.items() if venue.drifted}
    run = await MpesaMigrationService(hurried).run(RunOptions(batch_size=size))
    assert await stored_rows(sql, "mpesa_credentials") == credentials
    await only_the_flag_changed(sql, planted, bars)
    adds_up(run)
    report = run.report
    assert (report.state, report.verified, report.scanned) == (RunState.DONE, True, 48 * TIMES)
    assert (report.fixed, report.drifted) == (len(drifted), len(drifted))
    journal = [tuple(record) for record in await sql.fetch(_JOURNAL, report.run)]
    assert len(journal) == len(drifted)
    assert set(journal) == {(bar, venue.mpesa_enabled, venue.authority) for bar, venue in drifted.items()}


@pytest.mark.timeout(limit_s(900))
@pytest.mark.parametrize("size", SIZES)
async def test_property_4_records_that_fail_anywhere_in_a_fleet_of_every_state(
    hurried: Database, sql: Any, size: int
) -> None:
    """Feature: mpesa-sync-fix, Property 4: Migration Error Resilience. Every real cause, at places drawn anew."""
    venues = fleet()
    covered(venues)
    await sql.execute(CAUSES)
    marked = await planted_with_causes(sql, poisoned(venues, FAILING))
    bars, credentials = await stored_rows(sql, "bars"), await stored_rows(sql, "mpesa_credentials")
    run = await MpesaMigrationService(hurried).run(RunOptions(batch_size=size))
    await exactly_the_failing_stay(sql, marked, bars, run)
    assert await stored_rows(sql, "mpesa_credentials") == credentials


@pytest.mark.timeout(limit_s(900))
@pytest.mark.parametrize(
    ("size", "nth", "then"), [(1, 700, 1000), (7, 150, 3), (1000, 2, 7)], ids=["1-to-1000", "7-to-3", "1000-to-7"]
)
@pytest.mark.parametrize("point", [Failpoint.BATCH_WRITTEN, Failpoint.BATCH_COMMITTED])
async def test_properties_3_and_4_killed_and_resumed_is_uninterrupted(
    hurried: Database, database_url: str, sql: Any, point: Failpoint, size: int, nth: int, then: int
) -> None:
    """P3, P4: SIGKILL of a real process in the middle of a fleet with failing records; another one goes on.

    What is left is what an uninterrupted run leaves: each bar once in the journal, and the counters of one run.
    """
    await sql.execute(CAUSES)
    causes = tuple(cause for cause in FAILING if cause not in RETRIED)  # with real waits they take long
    marked = await planted_with_causes(sql, poisoned(fleet(), causes))
    bars, credentials = await stored_rows(sql, "bars"), await stored_rows(sql, "mpesa_credentials")
    async with plain(database_url) as watcher, Harness.started(database_url, KEY) as harness:
        assert await harness.run(Cycle("migrate", point, str(uuid4()), str(uuid4()), nth, batch_size=size))
        run_id = await watcher.fetchval(_RUN)
        written = await watcher.fetchval("select count(*) from mpesa_sync.migration_journal")
    assert 0 < written < sum(case.venue.drifted for case in marked.values()) - _FAILING, "killed at no middle"
    run = await MpesaMigrationService(hurried).resume(run_id, batch_size=then)
    await exactly_the_failing_stay(sql, marked, bars, run)
    assert await stored_rows(sql, "mpesa_credentials") == credentials
    journal = await sql.fetch(_JOURNAL, run.report.run)
    assert len(journal) == len({record["bar_id"] for record in journal})


@pytest.fixture
async def with_causes(hurried: Database, sql: Any) -> Database:
    """The same, with the causes of property 4 in it."""
    await sql.execute(CAUSES)
    return hurried


@given(
    drawn=st.lists(cases, max_size=9),
    first=st.sampled_from([1, 2, 3, 7, 1000]),
    then=st.sampled_from([1, 2, 3, 7, 1000]),
    after=st.integers(0, 9),
)
@example(drawn=EVERY_CAUSE, first=3, then=7, after=11)
async def test_property_4_a_run_that_was_left_among_failing_records_ends_as_one_that_was_not(
    with_causes: Database, sql: Any, drawn: list[Case], first: int, then: int, after: int
) -> None:
    """Feature: mpesa-sync-fix, Property 4: Migration Error Resilience (P3, too: each bar once in the journal).

    Its process vanishes after any of its batches; another goes on with batches of another size. Red where a resumed
    run forgets what was quarantined before, or counts it twice.
    """
    marked = await planted_with_causes(sql, drawn)
    before = await stored_rows(sql, "bars")
    if not any(case.venue.drifted for case in drawn):
        return
    run_id = await left_behind(with_causes, sql, settled=after, batch_size=first)
    run = await MpesaMigrationService(with_causes).resume(run_id, batch_size=then)
    await exactly_the_failing_stay(sql, marked, before, run)
    journal = await sql.fetch(_JOURNAL, run_id)
    assert len(journal) == len({record["bar_id"] for record in journal})
