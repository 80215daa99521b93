"""Feature: mpesa-sync-fix, Property 3: Migration Correction Authority.

After a run `bars.mpesa_enabled` equals the authority everywhere, and nothing else in the platform was touched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.migration.report import InconsistentRecord, Outcome, Run, RunState
from tests.support.clocks import HurriedClock
from tests.support.fleets import Venue, few, fleets, plant, stored_rows, venues
from tests.support.observer import see_all

BATCH_SIZES: Final = (1, 2, 3, 7, 1000)
_JOURNAL: Final = "select bar_id, previous, current from mpesa_sync.migration_journal where run_id = $1"
_RUN: Final = "select actor, reason from mpesa_sync.migration_runs where id = $1"
_JOURNAL_SINCE: Final = "select bar_id, previous, current from mpesa_sync.migration_journal where id > $1"


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose second look takes no time."""
    async with connect(database_url, clock=HurriedClock()) as database:
        yield database


def adds_up(run: Run) -> None:
    """Demand of the counters what `RunReport` promises."""
    report = run.report
    assert report.scanned == report.consistent + report.drifted
    assert report.drifted == sum(getattr(report, outcome.value) for outcome in Outcome)
    assert report.drifted == run.hidden + run.exposed


async def only_the_flag_changed(sql: Any, planted: dict[UUID, Venue], before: dict[UUID, str]) -> None:
    """Every bar shows its authority; what was consistent has its old row version, NULL included."""
    after = await stored_rows(sql, "bars")
    assert {bar_id for bar_id in planted if before[bar_id] != after[bar_id]} == {
        bar_id for bar_id, venue in planted.items() if venue.drifted
    }
    for bar_id, seen in (await see_all(sql)).items():
        venue = planted[bar_id]
        assert seen.mpesa_enabled is (venue.authority if venue.drifted else venue.mpesa_enabled)


@given(fleet=fleets, batch_size=st.sampled_from(BATCH_SIZES))
@example(fleet=[], batch_size=1)
async def test_property_3_afterwards_every_bar_shows_its_authority_and_nothing_else_changed(
    hurried: Database, sql: Any, fleet: list[Venue], batch_size: int
) -> None:
    """Feature: mpesa-sync-fix, Property 3: Migration Correction Authority.

    Red with: `set mpesa_enabled = t.authority` negated; an `update` of `mpesa_credentials` added; the condition
    `coalesce(t.previous, false) <> t.authority` left out (consistent bars get a new xmin); the journal's insert
    left out; `Candidates.batches` dropping its last batch; an outcome not counted.
    """
    planted = await plant(sql, fleet)
    bars, credentials = await stored_rows(sql, "bars"), await stored_rows(sql, "mpesa_credentials")
    drifted = {bar_id: venue for bar_id, venue in planted.items() if venue.drifted}

    run = await MpesaMigrationService(hurried).run(RunOptions(batch_size=batch_size, actor="P3", reason="property"))

    assert await stored_rows(sql, "mpesa_credentials") == credentials, "the authority was written"
    await only_the_flag_changed(sql, planted, bars)
    report = run.report
    adds_up(run)
    assert (report.scanned, report.drifted, report.fixed) == (len(fleet), len(drifted), len(drifted))
    assert (report.state, report.verified, run.records) == (RunState.DONE, True, [])
    journal = [tuple(record) for record in await sql.fetch(_JOURNAL, report.run)]
    expected = [(bar_id, venue.mpesa_enabled, venue.authority) for bar_id, venue in drifted.items()]
    assert sorted(journal, key=str) == sorted(expected, key=str)
    who = await sql.fetchrow(_RUN, report.run)
    assert (tuple(who) if who else None) == (("P3", "property") if drifted else None)


@given(fleet=few)
async def test_property_3_record_by_record_it_is_the_same(hurried: Database, sql: Any, fleet: list[Venue]) -> None:
    """Feature: mpesa-sync-fix, Property 3: Migration Correction Authority.

    `find_inconsistent_records` and `migrate_record`, as a program of one's own would use them. A second run over the
    same records writes nothing more. Red with the mutations above.
    """
    planted = await plant(sql, fleet)
    bars, credentials = await stored_rows(sql, "bars"), await stored_rows(sql, "mpesa_credentials")
    last = await sql.fetchval("select coalesce(max(id), 0) from mpesa_sync.migration_journal")
    service = MpesaMigrationService(hurried)
    records = [record async for record in service.find_inconsistent_records()]
    results = [await service.migrate_record(record, actor="P3") for record in records]
    again = [await service.migrate_record(record, actor="P3") for record in records]
    assert [result.outcome for result in results] == [Outcome.FIXED] * len(records)
    assert [result.outcome for result in again] == [Outcome.ALREADY_CONSISTENT] * len(records)
    assert await stored_rows(sql, "mpesa_credentials") == credentials
    await only_the_flag_changed(sql, planted, bars)
    journal = {tuple(record) for record in await sql.fetch(_JOURNAL_SINCE, last)}
    assert journal == {(r.bar_id, r.bar_mpesa_enabled, r.credentials_active) for r in records}


@given(venue=venues, expected=st.booleans())
async def test_property_3_a_record_is_decided_anew_whatever_it_says(
    hurried: Database, sql: Any, venue: Venue, expected: bool
) -> None:
    """Feature: mpesa-sync-fix, Property 3: Migration Correction Authority.

    A record that is out of date, or was wrong from the start, never makes a bar show anything but its authority. Red
    with `t.authority = t.expected` left out.
    """
    planted = await plant(sql, [venue])
    bar_id = next(iter(planted))
    before = await stored_rows(sql, "bars")
    record = InconsistentRecord(
        bar_id=bar_id, credentials_active=expected, bar_mpesa_enabled=None, last_updated=None, direction="hidden"
    )
    result = await MpesaMigrationService(hurried).migrate_record(record)
    seen = (await see_all(sql))[bar_id]
    written = await stored_rows(sql, "bars") != before
    assert written is (venue.drifted and expected is venue.authority)
    assert seen.mpesa_enabled is (venue.authority if written else venue.mpesa_enabled)
    wanted = Outcome.FIXED if written else Outcome.STALE if venue.drifted else Outcome.ALREADY_CONSISTENT
    assert (result.outcome, result.error) == (wanted, None)
