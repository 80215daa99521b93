"""The life of an alert: each occurrence counted once, one open for a bar and kind, acknowledged, resolved, anew."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.clock import SystemClock
from mpesa_sync.db import alerts, session, transaction
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import InvalidInput, TriggerRefused
from mpesa_sync.refusals import AlertClosed, AlertNotFound
from mpesa_sync.sync import alert_actions
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alerts import raise_occurrence
from tests.support.databases import plain
from tests.support.faults import QUICK, injected
from tests.support.observer import see
from tests.support.occurrences import NOON, occurrence, rows
from tests.support.roles import login_role
from tests.support.venues import KEY, add_bar


async def test_one_occurrence_counts_once_however_often_it_is_sent(db: Database, sql: Any) -> None:
    """R5.2: the answer to the COMMIT that stored it may be lost, and it is sent again."""
    bar = await add_bar(sql)
    once = occurrence(bar)
    for _ in range(3):
        await raise_occurrence(db, once)
    assert await rows(sql) == [("firing", 1, 1, None, None)]
    await raise_occurrence(db, occurrence(bar))
    assert await rows(sql) == [("firing", 2, 1, None, None)]


async def test_many_failures_at_once_are_one_open_alert(db: Database, sql: Any) -> None:
    """R5.2: one open alert a bar and kind is a fact of the database, not of who happens to look first."""
    bar = await add_bar(sql)
    await asyncio.gather(*(raise_occurrence(db, occurrence(bar)) for _ in range(40)))
    await raise_occurrence(db, occurrence(bar, AlertKind.DATABASE_REFUSED))
    await raise_occurrence(db, occurrence(None, AlertKind.CHANNEL_FAILING))
    await raise_occurrence(db, occurrence(None, AlertKind.CHANNEL_FAILING))
    counts = await sql.fetch("select kind, bar_id, count from mpesa_sync.alerts order by kind")
    assert [tuple(row) for row in counts] == [
        ("channel_failing", None, 2),
        ("database_refused", bar, 1),
        ("sync_failed", bar, 40),
    ]


async def test_what_comes_late_is_counted_and_does_not_pass_for_the_newest(db: Database, sql: Any) -> None:
    """R5.2: a spooled failure of the morning must not overwrite the cause seen at noon."""
    bar = await add_bar(sql)
    await raise_occurrence(db, occurrence(bar))
    morning = NOON - timedelta(hours=3)
    await raise_occurrence(db, occurrence(bar, cause="old", first_seen=morning, last_seen=morning, count=5))
    row = await sql.fetchrow("select cause, count, first_seen, last_seen from mpesa_sync.alerts")
    assert tuple(row) == ("database_busy", 6, morning, NOON)


async def test_acknowledging_leaves_an_alert_open_and_resolving_ends_the_episode(db: Database, sql: Any) -> None:
    """R5.2: firing, acknowledged, resolved; what happens after that is a new episode."""
    bar = await add_bar(sql)
    await raise_occurrence(db, occurrence(bar))
    alert_id = await sql.fetchval("select id from mpesa_sync.alerts")
    seen = await alert_actions.acknowledge(db, alert_id, actor="operator:odhiambo")
    assert (seen.state, seen.acknowledged_by, seen.resolved_at) == ("acknowledged", "operator:odhiambo", None)
    again = await alert_actions.acknowledge(db, alert_id, actor="operator:wanjiru")
    assert again == seen, "who was first stays"
    await raise_occurrence(db, occurrence(bar))
    assert await rows(sql) == [("acknowledged", 2, 1, None, "operator:odhiambo")]

    over = await alert_actions.resolve(db, alert_id, actor="operator:wanjiru", note="The disk was full.")
    assert (over.state, over.resolved_by, over.note) == ("resolved", "operator:wanjiru", "The disk was full.")
    await raise_occurrence(db, occurrence(bar))
    assert await rows(sql) == [
        ("resolved", 2, 1, "operator:wanjiru", "operator:odhiambo"),
        ("firing", 1, 2, None, None),
    ]


async def test_a_closed_or_unknown_alert_says_so_and_stays(db: Database, sql: Any) -> None:
    """R5.2: whoever comes second is told who was first, and nothing is changed."""
    await raise_occurrence(db, occurrence(await add_bar(sql)))
    alert_id = await sql.fetchval("select id from mpesa_sync.alerts")
    await alert_actions.resolve(db, alert_id, actor="operator:a")
    before = await sql.fetchrow("select * from mpesa_sync.alerts")
    for action in (alert_actions.acknowledge, alert_actions.resolve):
        with pytest.raises(AlertClosed, match=r"resolved by a \(operator\) at \d{4}-"):
            await action(db, alert_id, actor="operator:b")
        with pytest.raises(AlertNotFound):
            await action(db, uuid4(), actor="operator:b")
    for wrong in ("", "x" * 201, "a\x00"):
        with pytest.raises(InvalidInput):
            await alert_actions.acknowledge(db, alert_id, actor=wrong)
    assert await sql.fetchrow("select * from mpesa_sync.alerts") == before


async def test_two_people_who_resolve_at_once_are_told_apart(db: Database, sql: Any) -> None:
    """R5.2: one of them has resolved it, the other hears of it."""
    await raise_occurrence(db, occurrence(await add_bar(sql)))
    alert_id = await sql.fetchval("select id from mpesa_sync.alerts")
    ended = await asyncio.gather(
        *(alert_actions.resolve(db, alert_id, actor=f"operator:{n}") for n in range(8)), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in ended) == ["AlertClosed"] * 7 + ["StoredAlert"]


async def test_a_failure_alerts_and_a_verified_success_resolves(database_url: str, sql: Any) -> None:
    """R5.2: the alert stands although the transaction that failed left nothing; the success that ends it is named."""
    bar = await add_bar(sql, production=False)
    async with connect(database_url, kms_keys=[KEY], retry=QUICK) as quick:
        manager = MpesaSyncManager(quick)
        async with injected(sql, "before update", "public.bars", "P0001"):
            with pytest.raises(TriggerRefused):
                await manager.sync_mpesa_status(bar, True)
        seen = await see(sql, bar)
        assert seen is not None
        assert (seen.authority, seen.mpesa_enabled) == (False, False)
        assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0
        assert [row[:2] for row in await rows(sql)] == [("firing", 1)]
        done = await manager.sync_mpesa_status(bar, True)
        assert [(row[0], row[3]) for row in await rows(sql)] == [("resolved", f"operation:{done.operation_id}")]


async def test_a_page_of_alerts_goes_on_where_the_last_one_ended(db: Database, sql: Any) -> None:
    """R5.2: pages by key, so that what is raised meanwhile neither hides nor doubles another."""
    bars = [await add_bar(sql) for _ in range(5)]
    for number, bar in enumerate(bars):
        await raise_occurrence(db, occurrence(bar, last_seen=NOON + timedelta(minutes=number // 2)))
    found: list[UUID | None] = []
    before = None
    async with db.reading() as connection:
        while page := await alerts.page(connection, states=["firing"], before=before, limit=2):
            found += [alert.bar_id for alert in page]
            before = (page[-1].last_seen, page[-1].id)
        assert await alerts.page(connection, states=["resolved"]) == []
        assert [a.bar_id for a in await alerts.page(connection, states=["firing"], bar_id=bars[3])] == [bars[3]]
        assert await alerts.page(connection, states=["firing"], kind="other") == []
        assert await alerts.counts(connection) == {("sync_failed", "firing"): 5}
    assert len(found) == 5
    assert set(found) == set(bars)


async def test_occurrences_are_forgotten_only_when_nothing_can_send_them_again(db: Database, sql: Any) -> None:
    """R5.2: 90 days are longer than any spool waits."""
    await raise_occurrence(db, occurrence(await add_bar(sql)))
    assert await transaction.once(db, session.WRITE, alerts.prune_occurrences) == 0
    await sql.execute("update mpesa_sync.alert_occurrences set counted_at = now() - interval '91 days'")
    assert await transaction.once(db, session.WRITE, alerts.prune_occurrences) == 1


async def test_alerts_are_read_and_closed_where_bars_cannot_be(database_url: str, db: Database, sql: Any) -> None:
    """R5.2: no right on bars, a policy that hides them, a lock on them, no such table: the alert that says so stands.

    Red when what reads an alert reads bars in the same statement.
    """
    bar = await add_bar(sql)
    ids = []
    for kind in (AlertKind.SYNC_FAILED, AlertKind.DATABASE_REFUSED, AlertKind.OUTCOME_UNKNOWN):
        await raise_occurrence(db, occurrence(bar, kind))
    async with db.reading() as connection:
        for alert in await alerts.open_of_bar(connection, bar):
            assert alert.bar_slug == bar.hex
            ids.append(alert.id)
    async with login_role(sql, database_url) as role, connect(role.url) as weak:
        mine = f"usage on schema mpesa_sync to {role.name}; grant select, update on all tables in schema mpesa_sync"
        await sql.execute(f"grant {mine} to {role.name}")
        await read_all(weak, bar, ids)
        await sql.execute(f"grant select on public.bars to {role.name}")
        await sql.execute("alter table public.bars enable row level security")
        await read_all(weak, bar, ids)
        over = await alert_actions.resolve(weak, ids.pop(), actor="operator:odhiambo")
        assert (over.state, over.bar_name) == ("resolved", None)
    async with sql.transaction():
        await sql.execute("lock table public.bars in access exclusive mode")
        await read_all(db, bar, ids)
    await sql.execute("alter table public.bars rename to venues")
    await read_all(db, bar, ids)
    assert (await alert_actions.acknowledge(db, ids.pop(), actor="operator:odhiambo")).state == "acknowledged"


async def read_all(database: Database, bar: UUID, ids: list[UUID]) -> None:
    """Read alerts in each way, without the names of bars."""
    async with database.reading() as connection:
        one = await alerts.find(connection, ids[0])
        found = [
            *([] if one is None else [one]),
            *await alerts.starting_with(connection, str(ids[0])),
            *await alerts.open_of_bar(connection, bar),
            *await alerts.page(connection, states=["firing"]),
        ]
    assert len(found) == 2 + 2 * len(ids)
    assert {(alert.bar_id, alert.bar_name, alert.bar_slug) for alert in found} == {(bar, None, None)}


async def test_what_is_stored_after_a_success_of_its_bar_is_answered_by_it(db: Database, sql: Any) -> None:
    """R5.2: the success came between the failure and the transaction that stores it, and saw no open alert."""
    bar, failed_at = await add_bar(sql, production=False), db.clock.now()
    done = await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    await raise_occurrence(db, occurrence(bar, first_seen=failed_at, last_seen=failed_at))
    assert await rows(sql) == [("resolved", 1, 1, f"operation:{done.operation_id}", None)]


async def test_a_clock_that_is_slow_ends_no_alert(db: Database, sql: Any) -> None:
    """R5.2: our clock says that a failure of now was before the success of a minute ago: the server's knows better."""
    bar = await add_bar(sql, production=False)
    await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    db.clock = Slow()
    await raise_occurrence(db, occurrence(bar, first_seen=db.clock.now(), last_seen=db.clock.now()))
    assert [row[0] for row in await rows(sql)] == ["firing"]


class Slow(SystemClock):
    """A clock that is five minutes slow."""

    def now(self) -> datetime:
        """Return the time of five minutes ago."""
        return super().now() - timedelta(minutes=5)


async def test_who_holds_an_alert_holds_up_no_change_of_the_venue(db: Database, sql: Any, database_url: str) -> None:
    """R5.2: bookkeeping never refuses a save; what was answered meanwhile is resolved by the next look."""
    bar = await add_bar(sql, production=False)
    await raise_occurrence(db, occurrence(bar))
    async with plain(database_url) as other, other.transaction():
        await other.execute("select 1 from mpesa_sync.alerts for update")
        done = await MpesaSyncManager(db).sync_mpesa_status(bar, True)
        await sql.fetch("select * from mpesa_sync.set_mpesa_status_v1($1, true, 'till:asha')", bar)
    assert [row[0] for row in await rows(sql)] == ["firing"]
    await transaction.once(db, session.WRITE, partial(_left_open, ["sync_failed"]))
    assert [(row[0], row[3]) for row in await rows(sql)] == [("resolved", f"operation:{done.operation_id}")]


async def test_an_alert_that_nothing_has_answered_is_left_alone(db: Database, sql: Any) -> None:
    """R5.2: neither a success before it, nor one within the minute by which clocks may differ, nor of another bar."""
    bar, other = await add_bar(sql, production=False), await add_bar(sql, production=False)
    manager = MpesaSyncManager(db)
    await manager.sync_mpesa_status(bar, True)
    now = db.clock.now()
    await raise_occurrence(db, occurrence(bar, first_seen=now, last_seen=now))
    await sql.execute("update mpesa_sync.alerts set last_seen = last_seen - interval '30 seconds'")
    await manager.sync_mpesa_status(other, True)
    await transaction.once(db, session.WRITE, partial(_left_open, ["sync_failed"]))
    assert [row[0] for row in await rows(sql)] == ["firing"]


async def _left_open(kinds: list[str], connection: Any) -> None:
    await alerts.resolve_left_open(connection, kinds)
