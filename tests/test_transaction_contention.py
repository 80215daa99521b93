"""Other sessions in the way: locks, deadlocks, deleted bars, policies that hide rows (faults.md, races.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import AccessDenied, BarNotFound, TransientFault
from mpesa_sync.monitoring.names import Event
from tests.support.databases import plain
from tests.support.faults import QUICK, logged, named, until, waits_for_a_lock
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.roles import login_role
from tests.support.venues import KEY, add_bar


@pytest.fixture
async def quick(database_url: str) -> AsyncIterator[Database]:
    """As `db`, with hardly any waiting between its four attempts."""
    async with connect(database_url, kms_keys=[KEY], retry=QUICK) as database:
        yield database


async def test_a_lock_that_is_let_go_in_time_only_costs_attempts(quick: Database, sql: Any, database_url: str) -> None:
    """faults.md: a second session holds the bar for longer than one `lock_timeout` (55P03); then it is written."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as other:
        await other.execute("begin")
        await other.execute("select 1 from public.bars where id = $1 for update", bar)
        with logged() as events:
            task = asyncio.create_task(MpesaSyncManager(quick).sync_mpesa_status(bar, True))

            async def failed_once() -> bool:
                return bool(named(events, Event.SYNC_ATTEMPT))

            await until(failed_once)
            await other.execute("rollback")
            result = await task
    assert [event["sqlstate"] for event in named(events, Event.SYNC_ATTEMPT)] == ["55P03", None]
    assert (result.success, result.attempts) == (True, 2)


async def test_a_lock_that_is_never_let_go_ends_in_a_bounded_answer(
    quick: Database, sql: Any, database_url: str
) -> None:
    """faults.md: never a hang: at most four lock waits and 8 s, nothing written, one alert."""
    bar = await add_bar(sql, production=False)
    before = await database_hash(sql)
    async with plain(database_url) as other:
        await other.execute("begin")
        await other.execute("update public.mpesa_credentials set is_active = is_active where tenant_id = $1", bar)
        began = time.monotonic()
        with pytest.raises(TransientFault) as failed:
            await MpesaSyncManager(quick).sync_mpesa_status(bar, True)
        duration_s = time.monotonic() - began
        await other.execute("rollback")
    assert 1.4 < duration_s < 9
    assert (failed.value.sqlstate, failed.value.attempts) == ("55P03", 4)
    assert changed_tables(before, await database_hash(sql)) == OF_ALERTS


_LEGACY_BAR: Final = "update public.bars set mpesa_enabled = false where id = $1"
_LEGACY_CREDENTIALS: Final = "update public.mpesa_credentials set is_active = false where tenant_id = $1"


async def test_a_real_deadlock_with_a_legacy_writer_is_retried(quick: Database, sql: Any, database_url: str) -> None:
    """races.md: a legacy writer locks `bars` first, we credentials first; the side that dies here is ours: 40P01."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as legacy:
        await legacy.execute("set deadlock_timeout = '20s'")
        await legacy.execute("begin")
        await legacy.execute(_LEGACY_BAR, bar)
        with logged() as events:
            ours = asyncio.create_task(MpesaSyncManager(quick).sync_mpesa_status(bar, True))

            await until(lambda: waits_for_a_lock(sql))
            await legacy.execute(_LEGACY_CREDENTIALS, bar)
            await legacy.execute("commit")
            result = await ours
    causes = [event["sqlstate"] for event in named(events, Event.SYNC_ATTEMPT)]
    assert causes == ["40P01", None], "the deadlock was real, and it was ours"
    assert (result.success, result.attempts) == (True, 2)
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (True, ["production"])


async def test_without_a_retry_the_same_deadlock_loses_the_switch(sql: Any, database_url: str) -> None:
    """The twin: plain SQL in our order against the same legacy writer; whoever does not retry has lost the change."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as legacy, plain(database_url) as naive:
        await legacy.execute("set deadlock_timeout = '20s'")
        await naive.execute("set deadlock_timeout = '100ms'")
        await legacy.execute("begin")
        await legacy.execute(_LEGACY_BAR, bar)
        await naive.execute("begin")
        await naive.execute("update public.mpesa_credentials set is_active = true where tenant_id = $1", bar)
        dying = asyncio.create_task(naive.execute("update public.bars set mpesa_enabled = true where id = $1", bar))
        await legacy.execute(_LEGACY_CREDENTIALS, bar)
        await legacy.execute("commit")
        with pytest.raises(asyncpg.DeadlockDetectedError):
            await dying
        await naive.execute("rollback")
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.authority is False, "the switch-on is gone"


async def test_a_bar_that_is_deleted_during_a_toggle_is_not_found(quick: Database, sql: Any, database_url: str) -> None:
    """faults.md 4: the uncommitted delete is waited for; then `BarNotFound`, no operation and no alert."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as other:
        await other.execute("begin")
        await other.execute("delete from public.bars where id = $1", bar)
        task = asyncio.create_task(MpesaSyncManager(quick).sync_mpesa_status(bar, True))

        await until(lambda: waits_for_a_lock(sql))
        await other.execute("commit")
        with pytest.raises(BarNotFound):
            await task
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts") == 0


async def test_a_policy_that_hides_the_bar_is_an_error_and_not_silence(sql: Any, database_url: str) -> None:
    """faults.md 4: under row level security an UPDATE would touch 0 rows and commit; ours is `AccessDenied` (42501)."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    async with login_role(sql, database_url) as role:
        await sql.execute(
            f"grant usage on schema mpesa_sync to {role.name}; "
            f"grant select, insert, update on all tables in schema public, mpesa_sync to {role.name}; "
            "alter table public.bars enable row level security"
        )
        before = await database_hash(sql)
        async with connect(role.url, kms_keys=[KEY], retry=QUICK) as database:
            with pytest.raises(AccessDenied) as refused:
                await MpesaSyncManager(database).sync_mpesa_status(bar, False)
        assert (refused.value.sqlstate, refused.value.attempts) == ("42501", 1)
        assert changed_tables(before, await database_hash(sql)) == OF_ALERTS
        async with plain(role.url) as naive:  # the twin: the same write without `row_security = off`
            assert await naive.execute("update public.bars set mpesa_enabled = false where id = $1", bar) == "UPDATE 0"
        await sql.execute("alter table public.bars disable row level security")
        async with connect(role.url, kms_keys=[KEY], retry=QUICK) as database:
            assert (await MpesaSyncManager(database).sync_mpesa_status(bar, False)).success, "the rights were enough"
