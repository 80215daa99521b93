"""A caller who goes away in the middle of a commit: the unit is finished and recorded, the pool whole (faults.md 1)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Coroutine
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.backoff import Backoff
from mpesa_sync.db.pool import Database
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.monitoring import metrics
from mpesa_sync.monitoring.names import Event
from tests.support.databases import plain
from tests.support.faults import backends, injected, logged, named, reached, until
from tests.support.observer import see
from tests.support.venues import KEY, add_bar

CALLS: Final = 30
POOL: Final = 3
_NAME: Final = "mpesa-sync-cancelled"
_APPLIED: Final = "select count(*) from mpesa_sync.operations where outcome = 'applied' and result is not null"
DELAY_S: Final = 0.004
"""Of every answer, so that a call of nine answers lasts long enough to be cancelled anywhere in it."""


async def cancelled_at(proxy: TcpProxy, answers: int, call: Coroutine[Any, Any, object]) -> bool:
    """Start a call, cancel it once `answers` more answers were held back; return whether it was cancelled in time."""
    begun = proxy.fired[Fault.DELAY]
    task = asyncio.create_task(call)

    async def far_enough() -> bool:
        return task.done() or proxy.fired[Fault.DELAY] - begun >= answers

    await until(far_enough)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return task.cancelled()


async def whole(database: Database, sql: Any) -> None:
    """Every connection of the pool can be had and works, and no session of ours is left in a transaction."""
    held = [await database.acquire() for _ in range(POOL)]
    assert [await connection.fetchval("select 1") for connection in held] == [1] * POOL
    assert await backends(sql, _NAME) <= POOL
    assert await backends(sql, _NAME, state="idle in transaction%") == 0
    assert await backends(sql, _NAME, state="active") == 0
    for connection in held:
        await database.release(connection)


async def test_a_caller_who_is_cancelled_anywhere_leaves_a_finished_unit_behind(database_url: str) -> None:
    """Fault matrix, caller gone mid-commit: cancelled at random answers, every call is applied and recorded.

    Red when `Database.owned` awaits the unit without its own task, or shields the COMMIT alone.
    """
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    async with TcpProxy.before(database_url) as proxy, plain(database_url) as sql:
        bars = [await add_bar(sql, production=False) for _ in range(CALLS)]
        async with connect(
            proxy.url_for(database_url), kms_keys=[KEY], pool_size=POOL, application_name=_NAME
        ) as database:
            manager, cancelled = MpesaSyncManager(database), 0
            await manager.validate_sync(bars[0])
            proxy.delay_answers(DELAY_S)
            for bar in bars:
                call = manager.sync_mpesa_status(bar, True, operation_id=uuid4())
                cancelled += await cancelled_at(proxy, draw.randint(1, 8), call)
            assert cancelled >= CALLS // 2, "too few were cancelled in the middle to prove anything"

            async def all_recorded() -> bool:
                return bool(await sql.fetchval(_APPLIED) == CALLS)

            await until(all_recorded)
            proxy.disarm()
            await whole(database, sql)
        for bar in bars:
            seen = await see(sql, bar)
            assert seen is not None
            assert (seen.mpesa_enabled, seen.active) == (True, ["production"])
        assert await backends(sql, _NAME) == 0, "closing the database leaves no session behind"


async def plain_switch(connection: Any, bar: UUID) -> None:
    """The same change in the task of the caller, as a program without an owner of its units does it."""
    async with connection.transaction():
        await connection.execute("update public.mpesa_credentials set is_active = true where tenant_id = $1", bar)
        await connection.execute("update public.bars set mpesa_enabled = true where id = $1", bar)


async def test_without_a_task_of_its_own_a_cancelled_call_is_lost(database_url: str) -> None:
    """The twin: the same statements cancelled in the caller's own task lose changes, and this bench sees it."""
    async with TcpProxy.before(database_url) as proxy, plain(database_url) as sql:
        lost = 0
        for answers in (1, 2, 3):
            bar = await add_bar(sql, production=False)
            connection = await asyncpg.connect(proxy.url_for(database_url))
            proxy.delay_answers(DELAY_S)
            assert await cancelled_at(proxy, answers, plain_switch(connection, bar))
            proxy.disarm()
            connection.terminate()
            seen = await see(sql, bar)
            assert seen is not None
            lost += not seen.authority
        assert lost > 0


async def test_a_caller_who_waits_no_longer_than_a_timeout_can_ask_again_under_the_same_id(
    database_url: str, db: Database, sql: Any
) -> None:
    """faults.md 1: after a timeout of the caller the same id tells what became of it."""
    bar, operation_id = await add_bar(sql, production=False), uuid4()
    async with TcpProxy.before(database_url) as proxy, connect(proxy.url_for(database_url), kms_keys=[KEY]) as slow:
        await MpesaSyncManager(slow).validate_sync(bar)
        proxy.delay_answers(0.02)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await MpesaSyncManager(slow).sync_mpesa_status(bar, True, operation_id=operation_id)
        again = await MpesaSyncManager(db).sync_mpesa_status(bar, True, operation_id=operation_id)
        assert proxy.fired[Fault.DELAY] > 0
    assert (again.success, again.changed, again.environment) == (True, True, "production")
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 1


async def test_a_failure_whose_caller_has_gone_is_alerted_logged_and_counted(database_url: str, sql: Any) -> None:
    """R5.1, R5.2: cancelled while a unit is being retried that fails in the end: nobody else would say so.

    Red when the unit alone is the database's own, and what follows it the caller's.
    """
    bar, counted = await add_bar(sql, production=False), metrics.operations.labels("switch", "database_busy")
    longest, before = Backoff(base_s=0.05, uniform=lambda _low, high: high), counted._value.get()
    async with (
        connect(database_url, kms_keys=[KEY], retry=longest) as database,
        injected(sql, "before update", "public.bars", "40001"),
    ):
        with logged() as events:
            task = asyncio.create_task(MpesaSyncManager(database).sync_mpesa_status(bar, True))

            async def is_tried() -> bool:
                return await reached(sql) > 0

            await until(is_tried)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not named(events, Event.SYNC_OPERATION), "it was over before the caller went"

            async def is_alerted() -> bool:
                return bool(await sql.fetchval("select kind = 'sync_failed' from mpesa_sync.alerts"))

            await until(is_alerted)
    assert [event["outcome"] for event in named(events, Event.SYNC_OPERATION)] == ["database_busy"]
    assert counted._value.get() - before == 1
