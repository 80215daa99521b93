"""races.md, the consequences about locks: one order down to the ids, and where the bar's advisory lock stands in it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.db import session
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.db.session import Begin
from mpesa_sync.sync import writer
from tests.support import databases
from tests.support.observer import see_all
from tests.support.stepping import State, sessions
from tests.support.venues import KEY, SEALED, add_bar
from tests.support.waiting import waiter_for
from tests.test_races_corrections import INSERT_ON

LOW, HIGH = UUID(int=1 << 100), UUID(int=9 << 100)
_ROW: Final = """
insert into public.mpesa_credentials
  (id, tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, 'sandbox', '1', $3, $4, $5, true)
"""
_HOLD: Final = "select 1 from public.{} where id = $1 for update"
_BAR_LOCK: Final = "select pg_advisory_lock(hashtextextended($1::uuid::text, 19990606))"
_SAME_OPERATION: Final = """
insert into mpesa_sync.operations (id, kind, bar_id, actor, request) values ($1, 'switch', $2, 'other', '{}')
"""
PATIENT: Final = Begin("begin isolation level read committed, read write; set local row_security = off", budget_s=60.0)
"""As `session.WRITE`, without its limits: a slow machine must not end what is looked at here."""
Locking = Callable[[Any, list[UUID]], Coroutine[Any, Any, Any]]


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    """Another program."""
    async with databases.plain(database_url) as connection:
        yield connection


async def two_bars(sql: Any) -> None:
    """Insert two bars with a row each; what has the higher id is stored first, so that no table is in their order."""
    for bar in (HIGH, LOW):
        await add_bar(sql, bar_id=bar)
        await sql.execute(_ROW, bar, bar, *SEALED)


async def is_free(connection: Any, table: str, row: UUID) -> bool:
    """Return whether nobody holds a row."""
    try:
        await connection.execute(_HOLD.format(table) + " nowait", row)
    except asyncpg.LockNotAvailableError:
        return False
    return True


async def correct(connection: Any, bars: list[UUID]) -> None:
    await writer.correct_bars(connection, uuid4(), [(bar, True) for bar in bars])


async def take_back(connection: Any, bars: list[UUID]) -> None:
    await writer.take_back(connection, uuid4(), [(bar, True, False) for bar in bars])


@pytest.mark.parametrize("given", [[LOW, HIGH], [HIGH, LOW]], ids=["upwards", "downwards"])
@pytest.mark.parametrize("table", ["mpesa_credentials", "bars"])
@pytest.mark.parametrize("work", [correct, take_back])
async def test_a_batch_locks_each_table_by_id_whatever_its_order_is(
    database_url: str, sql: Any, other: Any, work: Locking, table: str, given: list[UUID]
) -> None:
    """races.md, one lock order: the lower row is held while it waits for the higher one, and never the other way.

    Red with `order by id` taken out of `LOCK_BARS` or `LOCK_CREDENTIALS_OF_BARS`.
    """
    await two_bars(sql)
    for held, asked, is_locked in ((HIGH, LOW, True), (LOW, HIGH, False)):
        async with databases.plain(database_url) as ours, other.transaction(), ours.transaction():
            await other.execute(_HOLD.format(table), held)
            task = asyncio.create_task(work(ours, given))
            assert await waiter_for(sql, other.get_server_pid()) == ours.get_server_pid()
            assert await is_free(sql, table, asked) is not is_locked
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def in_the_order_given(connection: Any, bars: list[UUID]) -> None:
    """Wrong: one after the other, as they come."""
    await connection.execute("begin")
    await connection.execute("set local deadlock_timeout = '50ms'")
    for bar in bars:
        await connection.execute(_HOLD.format("bars"), bar)
    await connection.execute("commit")


async def by_id(connection: Any, bars: list[UUID]) -> None:
    """The project's own batch."""
    await connection.execute(session.BATCH.sql)
    await connection.execute("set local lock_timeout = 0")
    await correct(connection, bars)
    await connection.execute("commit")


@pytest.mark.parametrize(("batch", "deadlocks"), [(in_the_order_given, 1), (by_id, 0)], ids=["as-given", "ours"])
async def test_two_batches_over_the_same_bars_end_each_other_unless_they_keep_one_order(
    database_url: str, sql: Any, batch: Locking, deadlocks: int
) -> None:
    """races.md, faults.md 7: the wrong form is a deadlock by construction; ours wait for each other and both commit."""
    await two_bars(sql)
    async with sessions(database_url, 2) as (one, two):
        await one.begin(batch(one, [LOW, HIGH]))
        await two.begin(batch(two, [HIGH, LOW]))
        for each in (one, two):
            for _ in range(3):
                if each.state is State.READY:
                    await each.step()
        await one.advance()
        await two.advance()
        ended = await asyncio.gather(one.finish(), two.finish(), return_exceptions=True)
    assert sum(isinstance(end, asyncpg.DeadlockDetectedError) for end in ended) == deadlocks, ended


async def test_a_writer_of_one_bar_takes_its_advisory_lock_after_its_id_and_before_any_row(
    database_url: str, sql: Any, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """races.md: two saves of one bar queue there; a repeat of one waits at its id, and no row is held meanwhile."""
    monkeypatch.setattr(session, "WRITE", PATIENT)
    bar, operation_id = await add_bar(sql, sandbox=False), uuid4()
    await other.execute(_BAR_LOCK, bar)
    async with connect(database_url, kms_keys=[KEY]) as database, databases.plain(database_url) as repeat:
        switch = asyncio.create_task(MpesaSyncManager(database).sync_mpesa_status(bar, True, operation_id=operation_id))
        ours = await waiter_for(sql, other.get_server_pid())
        assert await is_free(sql, "bars", bar)
        row = await sql.fetchval("select id from public.mpesa_credentials where tenant_id = $1", bar)
        assert await is_free(sql, "mpesa_credentials", row)
        same = asyncio.create_task(repeat.execute(_SAME_OPERATION, operation_id, bar))
        assert await waiter_for(sql, ours) == repeat.get_server_pid()
        await other.execute("select pg_advisory_unlock_all()")
        assert (await switch).success
        with pytest.raises(asyncpg.UniqueViolationError):
            await same


async def test_a_batch_takes_no_advisory_lock(sql: Any, db: Database, other: Any) -> None:
    """races.md: 20,000 in one transaction exhaust shared memory; so a batch neither takes them nor waits for them."""
    bars = [await add_bar(sql, production=True) for _ in range(3)]
    for bar in bars:
        await other.execute(_BAR_LOCK, bar)
    assert (await MpesaMigrationService(db).run()).report.fixed == 3
    assert not [seen for seen in (await see_all(sql)).values() if seen.drifted]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_read_committed_is_asked_for_whatever_the_default_is(
    database_url: str, sql: Any, other: Any, isolation: str
) -> None:
    """races.md: explicitly. A batch and a repair that wait for the insert of a row decide from what was committed.

    Under an older snapshot they would not see it, and drift. Red with `isolation level read committed` taken out of
    `WRITE` or `BATCH`.
    """
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"alter database {name} set default_transaction_isolation = '{isolation}'")
    async with connect(database_url, kms_keys=[KEY]) as database:
        for repaired in (False, True):
            bar = await add_bar(sql, mpesa_enabled=True, sandbox=False)
            await other.execute("begin isolation level read committed")
            await other.execute(INSERT_ON, bar)
            manager, service = MpesaSyncManager(database), MpesaMigrationService(database)
            work = manager.repair_inconsistency(bar, actor="operator") if repaired else service.run()
            task: asyncio.Task[Any] = asyncio.create_task(work)
            await waiter_for(sql, other.get_server_pid())
            await other.execute("commit")
            done = await task
            seen = (await see_all(sql))[bar]
            assert (seen.mpesa_enabled, seen.active) == (True, ["production"])
            assert not done.repaired if repaired else (done.report.fixed, done.report.already_consistent) == (0, 1)
