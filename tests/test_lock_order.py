"""Which rows our writers hold, seen from another session in the middle of their work (races.md, one lock order)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync.sync import writer
from tests.support import databases
from tests.support.venues import SEALED, add_bar

Locks = Callable[[Any, UUID], Coroutine[Any, Any, None]]

_WAITS = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
_LOCK_CREDENTIALS = "select 1 from public.mpesa_credentials where tenant_id = $1 for update nowait"
_INSERT = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, 'production', '600123', $2, $3, $4, true)
"""


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


async def _switch(connection: Any, bar: UUID) -> None:
    await writer.lock(connection, bar)


async def _correct(connection: Any, bar: UUID) -> None:
    await writer.correct_bars(connection, uuid4(), [(bar, True)])


async def _until_waiting(observer: Any, task: asyncio.Task[Any]) -> None:
    async with asyncio.timeout(10):
        while not await observer.fetchval(_WAITS):
            assert not task.done(), task
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("lock", [_switch, _correct])
async def test_credentials_are_locked_before_the_bar(database_url: str, sql: Any, lock: Locks) -> None:
    """races.md: credentials by id, then bars. While our writer waits for the bar, it holds the credentials."""
    bar = await add_bar(sql, mpesa_enabled=False, sandbox=True)
    async with databases.plain(database_url) as ours, databases.plain(database_url) as other:
        holding = other.transaction()
        await holding.start()
        await other.execute("select 1 from public.bars where id = $1 for update", bar)
        async with ours.transaction():
            task = asyncio.create_task(lock(ours, bar))
            await _until_waiting(sql, task)
            with pytest.raises(asyncpg.LockNotAvailableError):
                await sql.execute(_LOCK_CREDENTIALS, bar)
            await holding.rollback()
            await task


@pytest.mark.parametrize("lock", [_switch, _correct])
async def test_no_credentials_can_be_inserted_between_decision_and_commit(
    database_url: str, sql: Any, lock: Locks
) -> None:
    """races.md: an INSERT of credentials holds KEY SHARE on `bars`, which `FOR UPDATE` keeps out until our commit."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=False)
    async with databases.plain(database_url) as ours, databases.plain(database_url) as other:
        async with ours.transaction():
            await lock(ours, bar)
            task = asyncio.create_task(other.execute(_INSERT, bar, *SEALED))
            await _until_waiting(sql, task)
        await task
    assert await sql.fetchval("select count(*) from public.mpesa_credentials where tenant_id = $1", bar) == 2


async def test_the_same_insert_is_not_kept_out_by_the_weaker_lock(database_url: str, sql: Any) -> None:
    """The twin: `FOR NO KEY UPDATE` lets the INSERT pass, which is how that form makes drift."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=False)
    async with databases.plain(database_url) as ours, databases.plain(database_url) as other, ours.transaction():
        await ours.execute("select 1 from public.bars where id = $1 for no key update", bar)
        await asyncio.wait_for(other.execute(_INSERT, bar, *SEALED), 10)
        assert await sql.fetchval("select count(*) from public.mpesa_credentials where tenant_id = $1", bar) == 2
