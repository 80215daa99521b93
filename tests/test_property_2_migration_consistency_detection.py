"""Feature: mpesa-sync-fix, Property 2: Migration Consistency Detection.

For any fleet the detection finds every bar whose two fields disagree, in both directions, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.migration.report import InconsistentRecord, RunState
from tests.support.clocks import HurriedClock
from tests.support.fleets import Venue, fleets, plant
from tests.support.observer import database_hash

LATER_GENERATION = """
alter table public.bars
  add column payment_mpesa_enabled boolean, add column mpesa_consumer_key_encrypted text,
  add column mpesa_consumer_secret_encrypted text, add column mpesa_passkey_encrypted text
"""
SMALLEST_SHAPE = """
drop trigger mpesa_sync_notice_update on public.bars;
alter table public.bars drop column slug, drop column active, drop column payment_cash_enabled,
  drop column payment_card_enabled, drop column mpesa_environment, drop column updated_at;
drop trigger bars_updated_at on public.bars;
"""
EVERY_STATE = [
    Venue(mpesa_enabled, sandbox, production)
    for mpesa_enabled in (True, False, None)
    for sandbox in (True, False, None, "absent")
    for production in (True, False, None, "absent")
]


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose second look takes no time."""
    async with connect(database_url, clock=HurriedClock()) as database:
        yield database


async def found(database: Database) -> dict[Any, InconsistentRecord]:
    records = [record async for record in MpesaMigrationService(database).find_inconsistent_records()]
    by_id = {record.bar_id: record for record in records}
    assert len(by_id) == len(records), "a bar was found twice"
    return by_id


@given(fleet=fleets)
@example(fleet=[])
@example(fleet=EVERY_STATE)
async def test_property_2_every_drifted_bar_is_found_and_nothing_else(
    hurried: Database, sql: Any, fleet: list[Venue]
) -> None:
    """Feature: mpesa-sync-fix, Property 2: Migration Consistency Detection.

    The oracle is `Venue`, plain Python. Red with: `shown <> authority` in `DRIFT` made `authority and not shown`
    (or the other way), `coalesce` taken from `shown`, `or` between the two environments made `and`, the left
    join made an inner one.
    """
    planted = await plant(sql, fleet)
    records = await found(hurried)
    assert records.keys() == {bar_id for bar_id, venue in planted.items() if venue.drifted}
    for bar_id, record in records.items():
        venue = planted[bar_id]
        assert record.direction == venue.direction
        assert (record.credentials_active, record.bar_mpesa_enabled) == (venue.authority, venue.mpesa_enabled)
        assert (record.slug, record.last_updated is not None) == (bar_id.hex, True)


@given(fleet=fleets)
async def test_property_2_the_counts_of_all_who_look_agree(hurried: Database, sql: Any, fleet: list[Venue]) -> None:
    """Feature: mpesa-sync-fix, Property 2: Migration Consistency Detection.

    `validate_migration` and the dry run count as the oracle does, in each direction, and write nothing. Red with
    `STILL_DRIFTED` or the summary of `DRIFT` changed as above, or with `hidden` and `exposed` exchanged.
    """
    planted = await plant(sql, fleet)
    expected = Counter(venue.direction for venue in planted.values() if venue.drifted)
    before = await database_hash(sql)
    service = MpesaMigrationService(hurried)
    summary = await service.validate_migration()
    run = await service.run(RunOptions(dry_run=True))
    assert await database_hash(sql) == before
    assert (summary.bars, summary.hidden, summary.exposed) == (len(fleet), expected["hidden"], expected["exposed"])
    assert summary.is_consistent is not bool(expected)
    assert (run.hidden, run.exposed) == (expected["hidden"], expected["exposed"])
    report = run.report
    drifted = sum(expected.values())
    assert (report.state, report.dry_run, report.verified) == (RunState.PLANNED, True, None)
    assert (report.scanned, report.consistent, report.drifted) == (len(fleet), len(fleet) - drifted, drifted)
    assert (report.deferred, report.settled) == (drifted, drifted)


@pytest.mark.parametrize("shape", [LATER_GENERATION, SMALLEST_SHAPE], ids=["later", "smallest"])
async def test_property_2_holds_in_every_state_on_every_shape_of_the_platform(
    hurried: Database, sql: Any, shape: str
) -> None:
    """Feature: mpesa-sync-fix, Property 2: Migration Consistency Detection (existing-platform.md, shapes)."""
    planted = await plant(sql, EVERY_STATE)
    await sql.execute(shape)
    records = await found(hurried)
    assert records.keys() == {bar_id for bar_id, venue in planted.items() if venue.drifted}
    assert Counter(record.direction for record in records.values()) == {"hidden": 14, "exposed": 9}
