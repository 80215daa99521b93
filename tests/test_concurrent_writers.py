"""64 writers on one bar and 128 over many: every one ends with a known outcome, nothing is half, lost or doubled."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import TransientFault
from mpesa_sync.monitoring.names import Event
from tests.support import web
from tests.support.databases import plain
from tests.support.faults import backends, logged, named, until
from tests.support.observer import see, see_all
from tests.support.venues import KEY, add_bar
from tests.support.watching import watched

ON_ONE: Final = 64
OVER_MANY: Final = 128
BARS: Final = 40
POOL: Final = 16
_NAME: Final = "mpesa-sync-crowd"
_APPLIED: Final = """
select id, before::text as before, after::text as after from mpesa_sync.operations
 where outcome = 'applied' and kind = $1
"""
_VERSION: Final = "select version from mpesa_sync.bar_state where bar_id = $1"
_PAIR: Final = (
    "update public.mpesa_credentials set is_active = $2 where tenant_id = $1",
    "update public.bars set mpesa_enabled = $2 where id = $1",
)


async def whole(database: Database, sql: Any, size: int) -> None:
    """Every connection of the pool can be had and works; no session of ours is left in a transaction."""
    held = [await database.acquire() for _ in range(size)]
    assert [await connection.fetchval("select 1") for connection in held] == [1] * size
    assert await backends(sql, _NAME, state="idle in transaction%") == 0
    for connection in held:
        await database.release(connection)
    assert await backends(sql, _NAME) <= size


def no_deadlock(events: list[dict[str, Any]]) -> None:
    """No attempt died in one: not even one that was tried again."""
    causes = Counter(event["sqlstate"] for event in named(events, Event.SYNC_ATTEMPT))
    assert causes["40P01"] == 0, causes


async def test_sixty_four_writers_on_one_bar(database_url: str, sql: Any) -> None:
    """R1.1, R5.3: switches of all kinds at once, through the manager; what was answered is what is stored.

    Their order is the database's: each found what the one before had left, so the changes make one unbroken chain.
    Red without the locks of the bar, and where a success is said without a commit.
    """
    draw, bar = random.Random(64), await add_bar(sql, sandbox=False, production=False)
    wanted = [draw.choice((("sandbox", True), ("production", True), (None, False))) for _ in range(ON_ONE)]
    ids, was = [uuid4() for _ in wanted], await sql.fetchval(_VERSION, bar)
    async with AsyncExitStack() as stack:
        opened = connect(database_url, kms_keys=[KEY], pool_size=POOL, application_name=_NAME)
        database = await stack.enter_async_context(opened)
        watch = await stack.enter_async_context(watched(database_url, [bar]))
        events = stack.enter_context(logged())
        manager = MpesaSyncManager(database)
        calls = [
            manager.sync_mpesa_status(bar, on, environment=named_one, operation_id=id_)  # type: ignore[arg-type]  # drawn
            for (named_one, on), id_ in zip(wanted, ids, strict=True)
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        await whole(database, sql, POOL)
    known = [answer for answer in answers if not isinstance(answer, BaseException)]
    assert all(isinstance(answer, TransientFault) for answer in answers if isinstance(answer, BaseException)), answers
    assert len(known) > ON_ONE // 8, "too few were applied to prove anything"
    applied = await sql.fetch(_APPLIED, "switch")
    assert {record["id"] for record in applied} == {answer.operation_id for answer in known}, "as many as were answered"
    assert watch.halves == []
    assert watch.reads > 5
    no_deadlock(events)
    changes = Counter((record["before"], record["after"]) for record in applied if record["before"] != record["after"])
    assert sum(changes.values()) == sum(answer.changed for answer in known)
    assert await sql.fetchval(_VERSION, bar) == was + sum(changes.values()), "customers were told of each"
    check_chain(changes)


def check_chain(changes: Counter[tuple[str, str]]) -> None:
    """Each state was left as often as it was come to, but for the first and the last one."""
    balance: Counter[str] = Counter()
    for (before, after), times in changes.items():
        balance[after] += times
        balance[before] -= times
    assert sorted(count for count in balance.values() if count) in ([], [-1, 1]), "an update was lost"


async def test_without_one_transaction_and_its_lock_the_same_crowd_is_seen_half(database_url: str, sql: Any) -> None:
    """The twin: each field by itself, as the platform's old code did it: half states are seen, and drift is left."""
    bar = await add_bar(sql, production=False)

    async def write(on: bool, *, credentials_first: bool) -> None:
        async with plain(database_url) as naive:
            for statement in _PAIR if credentials_first else _PAIR[::-1]:
                await naive.execute(statement, bar, on)

    async with watched(database_url, [bar]) as watch:

        async def caught() -> bool:
            await asyncio.gather(*(write(n % 2 == 0, credentials_first=n % 3 == 0) for n in range(8)))
            return bool(watch.halves)

        await until(caught)
    assert watch.halves


async def test_without_one_lock_order_the_same_crowd_deadlocks(database_url: str, sql: Any) -> None:
    """The twin of the lock order (faults.md 7): each in a transaction, in two orders: one of two dies."""
    bar = await add_bar(sql, production=False)
    both_have_one = asyncio.Barrier(2)

    async def write(statements: Sequence[str]) -> None:
        async with plain(database_url) as naive, naive.transaction():
            await naive.execute("set local deadlock_timeout = '50ms'")
            await naive.execute(statements[0], bar, True)
            await both_have_one.wait()
            await naive.execute(statements[1], bar, True)

    answers = await asyncio.gather(write(_PAIR), write(_PAIR[::-1]), return_exceptions=True)
    assert [type(answer) for answer in answers if answer is not None] == [asyncpg.DeadlockDetectedError]


@pytest.mark.timeout(60)
async def test_a_hundred_and_twenty_eight_writers_over_many_bars(database_url: str, sql: Any) -> None:
    """R4.1, R5.3: saves over HTTP at once, of secrets and status together, several on each bar.

    Each answer is 200 and stored, or 503 that says "failed" and has written nothing.
    """
    draw = random.Random(128)
    bars = [await add_bar(sql, production=False) for _ in range(BARS)]
    plan = [(bars[number % BARS], draw.random() < 0.5) for number in range(OVER_MANY)]
    async with AsyncExitStack() as stack:
        opened = connect(database_url, kms_keys=[KEY], pool_size=POOL, application_name=_NAME)
        database = await stack.enter_async_context(opened)
        site = await stack.enter_async_context(web.running(database, database_url))
        owner = await site.person(sql, *bars)
        watch = await stack.enter_async_context(watched(database_url))
        events = stack.enter_context(logged())
        answers = await asyncio.gather(*(saved(site, owner, bar, on) for bar, on in plan))
        await whole(database, sql, POOL)
        no_deadlock(events)
    statuses = Counter(answer.status_code for answer in answers)
    assert statuses.keys() <= {200, 503}, statuses
    assert statuses[200] > OVER_MANY // 8, "too few were applied to prove anything"
    assert all(answer.json()["outcome"] == "failed" for answer in answers if answer.status_code == 503)
    told = {UUID(answer.json()["operation_id"]) for answer in answers if answer.status_code == 200}
    assert {record["id"] for record in await sql.fetch(_APPLIED, "settings")} == told, "as many as were answered"
    assert watch.halves == []
    assert watch.reads > 5
    possible: dict[UUID, set[bool]] = {}
    for (bar, on), answer in zip(plan, answers, strict=True):
        if answer.status_code == 200:
            possible.setdefault(bar, set()).add(on)
    for bar, seen in (await see_all(sql)).items():
        assert not seen.drifted
        assert seen.authority in possible.get(bar, {False}), "it is as one of its savers asked"


async def saved(site: web.Site, owner: web.Asker, bar: UUID, on: bool) -> Any:
    """Post new secrets and a status for a bar."""
    body = {
        "barId": str(bar),
        "mpesa_environment": "production",
        "mpesa_enabled": on,
        "mpesa_passkey": f"a-new-passkey-{uuid4().hex}",
    }
    return await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body, timeout=30)


async def test_the_same_operation_asked_for_by_everybody_at_once_is_done_once(database_url: str, sql: Any) -> None:
    """R5.3: 32 callers with one id: one works, all are told the same."""
    bar, operation_id = await add_bar(sql, production=False), uuid4()
    was = await sql.fetchval(_VERSION, bar)
    async with connect(database_url, kms_keys=[KEY], pool_size=POOL, application_name=_NAME) as database:
        manager = MpesaSyncManager(database)
        calls = [manager.sync_mpesa_status(bar, True, operation_id=operation_id) for _ in range(32)]
        answers = await asyncio.gather(*calls)
        await whole(database, sql, POOL)
    assert {(answer.success, answer.changed, answer.operation_id) for answer in answers} == {(True, True, operation_id)}
    assert await sql.fetchval(_VERSION, bar) == was + 1
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 1
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (True, ["production"])
