"""The reconciler's sweep (spec 3, C): it finds what no guard saw, repairs or reports it, and never loses its place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.db.pool import Database, connect
from mpesa_sync.sync.reconciler import Fate, Policy, Reconciler, Rhythm, policy
from tests.support.clocks import HurriedClock
from tests.support.databases import plain
from tests.support.faults import QUICK
from tests.support.fleets import stored_rows
from tests.support.observer import see
from tests.support.venues import KEY, add_bar

PAGED: Final = Rhythm(page=2)


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose second look and back-off take no time."""
    async with connect(database_url, kms_keys=[KEY], clock=HurriedClock(), retry=QUICK) as database:
        yield database


@pytest.fixture
async def replica(database_url: str) -> AsyncIterator[Any]:
    """A restore or a logical apply: no trigger of the platform fires for it."""
    async with plain(database_url) as connection:
        await connection.execute("set session_replication_role = replica")
        yield connection


async def shown(sql: Any, bar: UUID) -> bool | None:
    seen = await see(sql, bar)
    assert seen is not None
    return seen.mpesa_enabled


async def test_a_sweep_repairs_drift_that_no_trigger_saw(hurried: Database, sql: Any, replica: Any) -> None:
    """C: both directions, in a database whose notice triggers were passed by; audited as the reconciler's."""
    hidden = await add_bar(sql, production=True, mpesa_enabled=True)
    exposed = await add_bar(sql, production=False)
    right = await add_bar(sql, production=True, mpesa_enabled=True)
    await replica.execute("update public.bars set mpesa_enabled = false where id = $1", hidden)
    await replica.execute("update public.bars set mpesa_enabled = true where id = $1", exposed)
    cycle = await Reconciler(hurried, PAGED).sweep()
    assert cycle is not None
    assert (cycle.bars, cycle.hidden, cycle.exposed, cycle.repaired) == (3, 1, 1, 2)
    assert [await shown(sql, bar) for bar in (hidden, exposed, right)] == [True, False, True]
    operations = await sql.fetch("select bar_id, kind, actor from mpesa_sync.operations")
    assert {tuple(record) for record in operations} == {
        (hidden, "repair", "reconciler"),
        (exposed, "repair", "reconciler"),
    }


async def test_observing_writes_nothing_to_the_pair_and_tells_people_once(hurried: Database, sql: Any) -> None:
    """C: attached, it only reports; one alert for the fleet; the cycle that finds no drift resolves it."""
    hidden = await add_bar(sql, production=True)
    exposed = await add_bar(sql, mpesa_enabled=True)
    before = [await stored_rows(sql, table) for table in ("bars", "mpesa_credentials")]
    sweeper = Reconciler(hurried, PAGED)
    for _ in range(2):
        cycle = await sweeper.sweep(as_policy=Policy.OBSERVE)
        assert cycle is not None
        assert (cycle.hidden, cycle.exposed, cycle.reported, cycle.repaired) == (1, 1, 2, 0)
    assert before == [await stored_rows(sql, table) for table in ("bars", "mpesa_credentials")]
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0
    alert = await sql.fetchrow("select bar_id, kind, state, count, what_to_do from mpesa_sync.alerts")
    assert tuple(alert)[:4] == (None, "drift_found", "firing", 2)
    assert "2 venues" in alert["what_to_do"]
    assert {await policy(hurried)} == {Policy.REPAIR}
    await sweeper.sweep()
    assert [await shown(sql, bar) for bar in (hidden, exposed)] == [True, False]
    resolved = await sql.fetchrow("select state, resolved_by from mpesa_sync.alerts")
    assert tuple(resolved) == ("resolved", "reconciler:cycle 3")


@pytest.mark.parametrize(
    ("mode", "said", "is_so"),
    [
        ("greenfield", None, Policy.REPAIR),
        ("attached", None, Policy.OBSERVE),
        ("attached", "repair", Policy.REPAIR),
        ("greenfield", "observe", Policy.OBSERVE),
        ("greenfield", "off", Policy.OFF),
    ],
)
async def test_the_policy_is_the_setting_or_what_fits_the_installation(
    hurried: Database, sql: Any, mode: str, said: Any, is_so: Policy
) -> None:
    """C: greenfield repairs, attached observes, until an operator says otherwise; off looks at nothing."""
    await sql.execute("update mpesa_sync.installation set mode = $1", mode)
    hurried.reconcile = said
    assert await policy(hurried) is is_so
    if is_so is Policy.OFF:
        assert await Reconciler(hurried).slice() is None
        assert await Reconciler(hurried).noticed([await add_bar(sql, production=True)]) == {}


async def test_what_a_writer_has_under_way_is_no_drift(database_url: str, sql: Any) -> None:
    """races.md: a legacy writer that commits one field, then the other; its twin without the second look repairs."""
    bar = await add_bar(sql, production=True)

    async def meanwhile(_delay_s: float) -> None:
        await sql.execute("update public.bars set mpesa_enabled = true where id = $1", bar)

    async with connect(database_url, clock=HurriedClock(meanwhile)) as database:
        cycle = await Reconciler(database).sweep()
        assert cycle is not None
        assert (cycle.bars, cycle.hidden, cycle.repaired) == (1, 0, 0)
        await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
        assert await Reconciler(database).noticed([bar]) == {}
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0
    await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)

    class Hasty(Reconciler):
        async def _second_look(self, bar_ids: Any) -> Any:
            return await self._still_drifted(bar_ids)

    async with connect(database_url) as database:
        cycle = await Hasty(database).sweep()
        assert cycle is not None
        assert (cycle.hidden, cycle.repaired) == (1, 1)


async def test_above_the_budget_it_alerts_instead_of_writing(hurried: Database, sql: Any) -> None:
    """C: an hourly budget, of all sweeps and notices together; the hour over, it goes on, and the alert is answered."""
    bars = [await add_bar(sql, production=True) for _ in range(5)]
    tight = Rhythm(page=2, budget=3)
    cycle = await Reconciler(hurried, tight).sweep()
    assert cycle is not None
    assert (cycle.bars, cycle.hidden, cycle.repaired, cycle.postponed) == (5, 5, 3, 2)
    left = [bar for bar in bars if not await shown(sql, bar)]
    assert len(left) == 2
    fates = await Reconciler(hurried, tight).noticed(left)
    assert set(fates.values()) == {Fate.POSTPONED}
    alerts = "select kind, state, count from mpesa_sync.alerts"
    assert [tuple(record) for record in await sql.fetch(alerts)] == [("reconciler_budget", "firing", 1)]
    await sql.execute("update mpesa_sync.reconciler set hour_started = now() - interval '61 minutes'")
    assert set((await Reconciler(hurried, tight).noticed(left)).values()) == {Fate.REPAIRED}
    assert await Reconciler(hurried, tight).sweep() is not None
    assert [tuple(record) for record in await sql.fetch(alerts)] == [("reconciler_budget", "resolved", 1)]


async def test_a_bar_that_cannot_be_repaired_has_its_alert_and_stops_no_other(hurried: Database, sql: Any) -> None:
    """R5.2: one alert for that bar; the others are repaired, and its failure takes nothing from the budget."""
    bars = sorted([await add_bar(sql, production=True) for _ in range(3)])
    await sql.execute(f"alter table public.bars add check (not mpesa_enabled or id <> '{bars[0]}') not valid")
    cycle = await Reconciler(hurried, Rhythm(page=2, budget=2)).sweep()
    assert cycle is not None
    assert (cycle.hidden, cycle.repaired, cycle.failed, cycle.postponed) == (3, 2, 1, 0)
    assert [await shown(sql, bar) for bar in bars] == [False, True, True]
    alerts = await sql.fetch("select bar_id, kind, sqlstate from mpesa_sync.alerts where state = 'firing'")
    assert [tuple(record) for record in alerts] == [(bars[0], "database_refused", "23514")]


async def test_a_bar_with_stale_authority_is_reported_and_never_repaired(hurried: Database, sql: Any) -> None:
    """R2: secrets in bars and no credentials row: is_active may not be the truth."""
    await sql.execute("alter table public.bars add column mpesa_passkey_encrypted text")
    bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("update public.bars set mpesa_passkey_encrypted = 'sealed' where id = $1", bar)
    cycle = await Reconciler(hurried, PAGED).sweep()
    assert cycle is not None
    assert (cycle.exposed, cycle.left_alone, cycle.repaired) == (1, 1, 0)
    assert await Reconciler(hurried).noticed([bar]) == {bar: Fate.LEFT_ALONE}
    assert await shown(sql, bar) is True
    kinds = await sql.fetch("select kind from mpesa_sync.alerts where state = 'firing'")
    assert [record["kind"] for record in kinds] == ["drift_found"]


async def test_bars_that_are_gone_or_healed_by_then_leave_no_trace(database_url: str, sql: Any) -> None:
    """C: deleted after the second look, or repaired by somebody else: neither is an error, an operation or an alert."""
    gone, healed = await add_bar(sql, production=True), await add_bar(sql, production=True)

    class Interrupted(Reconciler):
        async def _second_look(self, bar_ids: Any) -> Any:
            found = await self._still_drifted(bar_ids)
            await sql.execute("delete from public.bars where id = $1", gone)
            await sql.execute("update public.bars set mpesa_enabled = true where id = $1", healed)
            return found

    async with connect(database_url) as database:
        assert await Interrupted(database).noticed([gone, healed]) == {gone: Fate.VANISHED, healed: Fate.HEALED}
    for table in ("operations", "alerts"):
        assert await sql.fetchval(f"select count(*) from mpesa_sync.{table}") == 0
