"""The counts over all venues: one statement for however many look, and what is said where it does not succeed."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db import overview
from mpesa_sync.db.overview import FleetCounts, State
from mpesa_sync.db.pool import connect
from mpesa_sync.web import fleet_view
from mpesa_sync.web.operator.fleet_counts import SAMPLE, StoredCounts
from mpesa_sync.web.operator_texts import text
from tests.support.clocks import HurriedClock
from tests.support.venues import KEY, add_bar

LATER_S: Final = 11.0
_LOCK: Final = "begin; lock table public.bars in access exclusive mode"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for every time that venues were counted, or tried to be."""
    found: list[str] = []
    real = overview.counts

    async def counts(connection: Any, *, allow_sandbox: bool) -> FleetCounts:
        found.append("counted")
        return await real(connection, allow_sandbox=allow_sandbox)

    monkeypatch.setattr(overview, "counts", counts)
    return found


async def test_many_who_look_are_one_count(database_url: str, sql: Any, counted: list[str]) -> None:
    """Issue 6, bounded: a count of all venues is kept for ten seconds, and is made once."""
    await add_bar(sql)
    async with connect(database_url, clock=HurriedClock()) as database:
        stored = StoredCounts(database)
        found = await asyncio.gather(*(stored.read() for _ in range(20)))
        assert len(counted) == 1
        assert {one.counts.bars for one, _ in found if one} == {1}
        await add_bar(sql)
        assert (await stored.read())[0] == found[0][0]
        await database.clock.sleep(LATER_S)
        later, is_fresh = await stored.read()
        assert (later and later.counts.bars, is_fresh, len(counted)) == (2, True, 2)


async def test_a_count_that_fails_leaves_the_last_one_with_a_word(
    database_url: str, sql: Any, counted: list[str]
) -> None:
    """faults.md: what cannot be had in time is said; it is not tried again by everybody who looks."""
    await add_bar(sql)
    async with connect(database_url, clock=HurriedClock()) as database:
        stored, late = StoredCounts(database), StoredCounts(database)
        first, _ = await stored.read()
        assert first is not None
        assert fleet_view.counts(first.counts, is_fresh=True).note == ""
        await database.clock.sleep(LATER_S)
        await sql.execute(_LOCK)
        try:
            for _ in range(3):
                assert await stored.read() == (first, False)
                assert await late.read() == (None, False)
        finally:
            await sql.execute("rollback")
        assert len(counted) == 3, "the first one, and one that failed for each"
        assert fleet_view.counts(first.counts, is_fresh=False).note == text("fleet.counts.old")
        await database.clock.sleep(LATER_S)
        later, is_fresh = await late.read()
        assert (later and later.counts.bars, is_fresh) == (1, True)


async def test_a_wrong_key_is_seen_in_the_counts(database_url: str, sql: Any) -> None:
    """Issue 6: secrets of some venues that are on are opened, wherever the random place lies; so a wrong key shows."""
    for number in range(SAMPLE + 2):
        bar_id = None if number % 2 else UUID(int=number)  # also where few come after the random place
        await add_bar(sql, mpesa_enabled=True, production=True, bar_id=bar_id)
    await add_bar(sql, production=False)
    for key, hidden in ((KEY, 0), (generate_key(), SAMPLE)):
        async with connect(database_url, kms_keys=[key]) as database:
            found, _ = await StoredCounts(database).read()
        assert found is not None
        assert (found.counts.states[State.ON], found.sampled, found.hidden) == (SAMPLE + 2, SAMPLE, hidden)
        view = fleet_view.counts(found.counts, is_fresh=True, sampled=found.sampled, unusable=found.hidden)
        assert view.is_sample_bad is (hidden > 0)
        assert view.sample.endswith(f"Hidden for their secrets: {hidden}.")
