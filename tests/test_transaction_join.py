"""Given the caller's connection: a savepoint inside the caller's transaction, and nothing more (R1.4)."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import (
    AccessDenied,
    BarNotFound,
    ConstraintRefused,
    CredentialsMissing,
    DatabaseFault,
    MpesaSyncError,
    OperationConflict,
    TransientFault,
    UnsupportedTransaction,
)
from mpesa_sync.monitoring.names import Event
from tests.support.databases import plain
from tests.support.faults import injected, logged, named, reached
from tests.support.observer import changed_tables, database_hash, see
from tests.support.roles import login_role
from tests.support.venues import add_bar
from tests.support.waiting import waiter_for

_RENAME: Final = "update public.bars set name = $2 where id = $1"
_NAME: Final = "select name from public.bars where id = $1"


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_joined_switch_is_the_callers_to_commit(db: Database, sql: Any, database_url: str, end: str) -> None:
    """R1.4: nothing is visible until the caller commits; then all of it is, or, rolled back, nothing."""
    bar, operation_id = await add_bar(sql, production=False), uuid4()
    before = await database_hash(sql)
    async with plain(database_url) as caller:
        await caller.execute("begin")
        await caller.execute(_RENAME, bar, "Renamed")
        result = await MpesaSyncManager(db).sync_mpesa_status(bar, True, operation_id=operation_id, connection=caller)
        assert (result.success, result.changed, result.environment, result.attempts) == (True, True, "production", 1)
        assert caller.is_in_transaction()
        assert changed_tables(before, await database_hash(sql)) == set(), "nothing is committed by itself"
        await caller.execute(end)
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.authority) == ((True, True) if end == "commit" else (False, False))
    assert await sql.fetchval("select count(*) from mpesa_sync.operations where id = $1", operation_id) == (
        1 if end == "commit" else 0
    )
    if end == "rollback":
        assert changed_tables(before, await database_hash(sql)) == set()


@pytest.mark.parametrize("sqlstate", ["23514", "40001", "P0001"])
async def test_an_error_rolls_back_the_savepoint_and_the_callers_transaction_lives_on(
    db: Database, sql: Any, database_url: str, sqlstate: str
) -> None:
    """R1.4: no retry, no alert, nothing of the pair; what the caller did before and does after is committed."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as caller, injected(sql, "after update", "public.bars", sqlstate, times=1):
        async with caller.transaction(isolation="read_committed"):
            await caller.execute("insert into public.audit_logs (bar_id, action) values ($1, 'before')", bar)
            with logged() as events, pytest.raises(DatabaseFault) as failed:
                await MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=caller)
            await caller.execute("insert into public.audit_logs (bar_id, action) values ($1, 'after')", bar)
            again = await MpesaSyncManager(db).sync_mpesa_status(bar, False, connection=caller)
        assert await reached(sql) == 1, "not retried"
    assert failed.value.sqlstate == sqlstate
    assert (failed.value.result.success, again.success, again.changed) == (False, True, False)
    assert not named(events, Event.ALERT_RAISED)
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.flags) == (False, {"production": False})
    assert await sql.fetchval("select string_agg(action, ' ' order by action) from public.audit_logs") == "after before"
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts") == 0
    operations = await sql.fetch("select request->>'is_active' as on, outcome from mpesa_sync.operations")
    assert [tuple(row) for row in operations] == [("false", "applied")]


async def test_without_the_savepoint_the_callers_transaction_would_be_lost(sql: Any, database_url: str) -> None:
    """The twin: the same error in the same place, by plain SQL without a savepoint, ends the caller's transaction."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as caller, injected(sql, "after update", "public.bars", "23514", times=1):
        await caller.execute("begin")
        with pytest.raises(asyncpg.CheckViolationError):
            await caller.execute(_RENAME, bar, "Renamed")
        with pytest.raises(asyncpg.InFailedSQLTransactionError):
            await caller.execute(_NAME, bar)


async def test_a_refusal_leaves_the_callers_transaction_as_it_was(db: Database, sql: Any, database_url: str) -> None:
    """R1.4: the caller's own mistakes too are only raised, with their result; the savepoint is gone."""
    bar, used = await add_bar(sql), uuid4()
    manager = MpesaSyncManager(db)
    await manager.sync_mpesa_status(bar, False, operation_id=used)
    async with plain(database_url) as caller, caller.transaction():
        await caller.execute(_RENAME, bar, "Renamed")
        for refusal, call in (
            (CredentialsMissing, manager.sync_mpesa_status(bar, True, connection=caller)),
            (BarNotFound, manager.sync_mpesa_status(uuid4(), False, connection=caller)),
            (OperationConflict, manager.sync_mpesa_status(uuid4(), False, operation_id=used, connection=caller)),
        ):
            with pytest.raises(refusal) as refused:
                await call
            assert refused.value.result.success is False
        with pytest.raises(asyncpg.InvalidSavepointSpecificationError):
            async with caller.transaction():
                await caller.execute("rollback to savepoint mpesa_sync_join")
        replayed = await manager.sync_mpesa_status(bar, False, operation_id=used, connection=caller)
        assert (replayed.success, replayed.changed) == (True, False)
    assert await sql.fetchval(_NAME, bar) == "Renamed"
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 1


async def test_only_a_read_committed_transaction_can_be_joined(db: Database, sql: Any, database_url: str) -> None:
    """races.md: a read-back inside REPEATABLE READ says consistent and commits drift; so it is refused beforehand."""
    bar = await add_bar(sql, production=False)
    before = await database_hash(sql)
    async with plain(database_url) as caller:
        manager = MpesaSyncManager(db)
        with pytest.raises(UnsupportedTransaction, match="not in a transaction"):
            await manager.sync_mpesa_status(bar, True, connection=caller)
        for isolation in ("repeatable read", "serializable"):
            await caller.execute(f"begin isolation level {isolation}")
            with pytest.raises(UnsupportedTransaction, match=isolation) as refused:
                await manager.sync_mpesa_status(bar, True, connection=caller)
            assert refused.value.result.success is False
            assert await caller.fetchval("select 1") == 1, "the caller's transaction is still good"
            await caller.execute("rollback")
        await caller.execute("begin")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await caller.fetchval("select 1 / 0")
        with pytest.raises(UnsupportedTransaction, match="failed"):
            await manager.sync_mpesa_status(bar, True, connection=caller)
        await caller.execute("rollback")
    assert changed_tables(before, await database_hash(sql)) == set()


async def test_repeatable_read_would_commit_drift_in_silence(sql: Any, database_url: str) -> None:
    """The twin, by plain SQL: the same steps in REPEATABLE READ read back what they wrote, and leave drift."""
    bar = await add_bar(sql)
    async with plain(database_url) as caller, plain(database_url) as other:
        await caller.execute("begin isolation level repeatable read")
        await caller.fetchval("select 1 from public.bars where id = $1", bar)
        await other.execute(
            "insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc, "
            "consumer_secret_enc, passkey_enc, is_active) values ($1, 'production', '600123', '', '', '', true)",
            bar,
        )
        await other.execute("begin")
        truth = "select exists (select 1 from public.mpesa_credentials where tenant_id = $1 and is_active)"
        authority = await caller.fetchval(truth, bar)
        await caller.execute("update public.bars set mpesa_enabled = $2 where id = $1", bar, authority)
        read_back = await caller.fetchval("select mpesa_enabled from public.bars where id = $1", bar)
        assert read_back is await caller.fetchval(truth, bar), "it says: consistent"
        await caller.execute("commit")
        await other.execute("rollback")
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.drifted, "and it is not"


async def test_a_connection_that_is_lost_while_joined_is_translated_and_left_alone(
    db: Database, sql: Any, database_url: str
) -> None:
    """R1.4: the caller's backend ends in the middle: `TransientFault` with its result, nothing written, no alert.

    The caller's connection comes from a pool here, whose handle of a lost connection only raises.
    """
    bar = await add_bar(sql, production=False)
    before = await database_hash(sql)
    async with asyncpg.create_pool(database_url, min_size=0, max_size=1) as pool:
        async with injected(sql, "after update", "public.bars", "terminate", times=1):
            caller = await pool.acquire()
            await caller.execute("begin")
            with pytest.raises(MpesaSyncError) as lost:
                await MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=caller)
            await pool.release(caller)
            assert await reached(sql) == 1
        assert (type(lost.value), lost.value.result.success) == (TransientFault, False)
        gone = await pool.acquire()
        await gone.execute("begin")
        await sql.execute("select pg_terminate_backend($1)", gone.get_server_pid())
        with pytest.raises(MpesaSyncError) as lost:
            await MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=gone)
        await pool.release(gone)
        assert type(lost.value) is TransientFault
    assert changed_tables(before, await database_hash(sql)) == set()


async def test_a_deferred_constraint_speaks_inside_the_savepoint(db: Database, sql: Any, database_url: str) -> None:
    """races.md: SET CONSTRAINTS ALL IMMEDIATE before the read-back: refused at once, not at the caller's COMMIT."""
    bar = await add_bar(sql, production=False)
    spoken = injected(sql, "after update", "public.bars", "23514", deferred=True, times=1)
    async with plain(database_url) as caller, spoken, caller.transaction():
        with pytest.raises(ConstraintRefused):
            await MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=caller)
        assert await reached(sql) == 1
        await caller.execute("rollback; begin")  # lets go of the table, for the trigger to be dropped
    seen = await see(sql, bar)
    assert seen is not None
    assert not seen.authority
    assert not seen.drifted


async def test_a_cancelled_joined_switch_leaves_nothing_of_itself_to_commit(
    db: Database, sql: Any, database_url: str
) -> None:
    """R1.4: the caller who was cancelled and commits all the same commits its own work, and none of ours."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as caller, plain(database_url) as holder:
        await holder.execute("begin")
        await holder.execute("select 1 from public.bars where id = $1 for update", bar)
        await caller.execute("begin")
        await caller.execute("insert into public.bars (name) values ('The caller''s own')")
        switching = asyncio.create_task(MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=caller))
        await waiter_for(sql, holder.get_server_pid())
        switching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await switching
        await holder.execute("rollback")
        await caller.execute("commit")
    assert await sql.fetchval("select count(*) from public.bars where name = 'The caller''s own'") == 1
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.authority) == (False, False)


async def test_rows_that_a_policy_hides_are_an_error_in_a_joined_transaction_too(
    db: Database, sql: Any, database_url: str
) -> None:
    """faults.md 4, R1.3: clearing only the environments that one can see would commit drift as a success."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True, production=True)
    async with login_role(sql, database_url) as role:
        await sql.execute(f"grant select, update on all tables in schema public to {role.name}")
        await sql.execute(f"grant usage on schema mpesa_sync to {role.name}")
        await sql.execute(f"grant select, insert, update on all tables in schema mpesa_sync to {role.name}")
        await sql.execute("alter table public.mpesa_credentials enable row level security")
        await sql.execute("create policy p on public.mpesa_credentials using (environment = 'production')")
        async with plain(role.url) as caller, caller.transaction():
            with pytest.raises(AccessDenied):
                await MpesaSyncManager(db).sync_mpesa_status(bar, False, connection=caller)
            assert await caller.fetchval("show row_security") == "on", "the caller's own setting is as it was"
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (True, ["production", "sandbox"])


async def test_a_joined_switch_waits_for_no_lock_without_end_and_changes_no_setting(
    db: Database, sql: Any, database_url: str
) -> None:
    """faults.md: a bounded, retryable answer, never a hang; what was set for it is set back."""
    bar = await add_bar(sql, production=False)
    settings = "select current_setting('lock_timeout'), current_setting('row_security')"
    async with plain(database_url) as caller, plain(database_url) as holder, caller.transaction():
        before = await caller.fetchrow(settings)
        async with holder.transaction():
            await holder.execute("select 1 from public.bars where id = $1 for update", bar)
            with pytest.raises(TransientFault) as refused:
                await MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=caller)
        assert refused.value.sqlstate == "55P03"
        assert (await MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=caller)).success
        assert await caller.fetchrow(settings) == before
