"""The counts over all venues: one statement for however many look, and what is said where it does not succeed."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from mpesa_sync.db import overview
from mpesa_sync.db.overview import FleetCounts
from mpesa_sync.db.pool import connect
from mpesa_sync.web import fleet_view
from mpesa_sync.web.operator.fleet_counts import StoredCounts
from mpesa_sync.web.operator_texts import text
from tests.support.clocks import HurriedClock
from tests.support.venues import add_bar

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
        assert {counts.bars for counts, _ in found if counts} == {1}
        await add_bar(sql)
        assert (await stored.read())[0] == found[0][0]
        await database.clock.sleep(LATER_S)
        counts, is_fresh = await stored.read()
        assert (counts and counts.bars, is_fresh, len(counted)) == (2, True, 2)


async def test_a_count_that_fails_leaves_the_last_one_with_a_word(
    database_url: str, sql: Any, counted: list[str]
) -> None:
    """faults.md: what cannot be had in time is said; it is not tried again by everybody who looks."""
    await add_bar(sql)
    async with connect(database_url, clock=HurriedClock()) as database:
        stored, late = StoredCounts(database), StoredCounts(database)
        first, _ = await stored.read()
        assert first is not None
        assert fleet_view.counts(first, is_fresh=True).note == ""
        await database.clock.sleep(LATER_S)
        await sql.execute(_LOCK)
        try:
            for _ in range(3):
                assert await stored.read() == (first, False)
                assert await late.read() == (None, False)
        finally:
            await sql.execute("rollback")
        assert len(counted) == 3, "the first one, and one that failed for each"
        assert fleet_view.counts(first, is_fresh=False).note == text("fleet.counts.old")
        await database.clock.sleep(LATER_S)
        counts, is_fresh = await late.read()
        assert (counts and counts.bars, is_fresh) == (1, True)
