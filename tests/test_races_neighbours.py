"""races.md, the rows about what stands around a correction: triggers, deadlocks, advisory locks, isolation.

Guards of our own come later: foreign triggers are only shown to drift here, and our correction to repair it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import asyncpg
import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.backoff import Backoff
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import ConstraintRefused, TransientFault, UnsupportedTransaction
from mpesa_sync.sync import writer
from tests.support import databases
from tests.support.observer import database_hash, see, see_all
from tests.support.stepping import State, sessions
from tests.support.venues import SEALED, add_bar
from tests.support.waiting import waiter_for

RECOMPUTE: Final = """
create function public.test_carry() returns trigger language plpgsql as $$
declare v_bar uuid := coalesce(new.tenant_id, old.tenant_id);
begin
  {lock}
  update public.bars b
     set mpesa_enabled = exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
   where b.id = v_bar;
  return null;
end $$;
create trigger test_carry after insert or update or delete on public.mpesa_credentials
  for each row execute function public.test_carry();
"""
LOCK_FIRST: Final = "perform 1 from public.bars where id = v_bar for update;"
OFF: Final = "update public.mpesa_credentials set is_active = false where tenant_id = $1 and environment = $2"
BARS_OFF: Final = "update public.bars set mpesa_enabled = false where id = $1"
ADVISORY: Final = """
select count(*) from pg_locks l join pg_database d on d.oid = l.database
 where l.locktype = 'advisory' and d.datname = current_database()
"""
RUN_KEY: Final = 4_711


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


@pytest.fixture
async def other(database_url: str) -> AsyncIterator[Any]:
    """Another program, which is never the one that the server picks to end a deadlock."""
    async with databases.plain(database_url) as connection:
        await connection.execute("set deadlock_timeout = '1min'")
        yield connection


@pytest.mark.parametrize(("lock", "drifts"), [("", True), (LOCK_FIRST, False)], ids=["just-recomputes", "locks-first"])
async def test_a_trigger_that_just_recomputes_skews_on_two_rows(
    database_url: str, sql: Any, db: Database, lock: str, drifts: bool
) -> None:
    """races.md: two transactions, one row each, both "off": the second recomputes from what it had read before."""
    await sql.execute(RECOMPUTE.format(lock=lock))
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True, production=True)

    async def switch_off(connection: Any, environment: str) -> None:
        await connection.execute("begin")
        await connection.execute(OFF, bar, environment)
        await connection.execute("commit")

    async with sessions(database_url, 2) as (one, two):
        await one.begin(switch_off(one, "sandbox"))
        await one.until("commit")
        await two.begin(switch_off(two, "production"))
        await two.step()
        assert await two.step() is State.BLOCKED
        assert await two.blockers() == [one.pid]
        await one.finish()
        await two.finish()
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.active, seen.drifted) == ([], drifts)
    assert (await MpesaMigrationService(db).run()).report.fixed == int(drifts)
    seen = await see(sql, bar)
    assert seen is not None
    assert not seen.drifted


async def test_what_replica_role_and_truncate_let_past_a_plain_trigger_is_found_and_repaired(
    sql: Any, db: Database
) -> None:
    """races.md: neither fires a plain row trigger; our correction relies on none (R2.1, R2.2)."""
    await sql.execute(RECOMPUTE.format(lock=LOCK_FIRST))
    service = MpesaMigrationService(db)
    restored = await add_bar(sql, mpesa_enabled=True, production=True)
    await sql.execute("set session_replication_role = replica")
    await sql.execute(OFF, restored, "production")
    await sql.execute("set session_replication_role = default")
    assert [record.bar_id async for record in service.find_inconsistent_records()] == [restored]
    assert (await service.run()).report.fixed == 1

    emptied = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    await sql.execute("truncate public.mpesa_credentials")
    assert [record.bar_id async for record in service.find_inconsistent_records()] == [emptied]
    assert (await service.run()).report.fixed == 1
    assert not [seen for seen in (await see_all(sql)).values() if seen.drifted]


@pytest.mark.parametrize("retries", [3, 0], ids=["retried", "twin-without-retry"])
async def test_a_deadlock_with_a_writer_in_the_other_order_is_retried(
    database_url: str, sql: Any, other: Any, caplog: pytest.LogCaptureFixture, retries: int
) -> None:
    """races.md, faults.md 7: 40P01 ends our side, and the whole unit runs again; without retries it is an error."""
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"alter database {name} set deadlock_timeout = '50ms'")
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with connect(database_url, retry=Backoff(max_retries=retries)) as db:
        await other.execute("begin")
        await other.execute(BARS_OFF, bar)
        ours = asyncio.create_task(MpesaSyncManager(db).sync_mpesa_status(bar, False))
        await waiter_for(sql, other.get_server_pid())
        await other.execute(OFF, bar, "sandbox")  # ends only because our side is the one that dies
        await other.execute("commit")
        if retries:
            result = await ours
            assert result.attempts >= 2
        else:
            with pytest.raises(TransientFault) as refused:
                await ours
            assert refused.value.sqlstate == "40P01"
    assert any("40P01" in str(record.msg) for record in caplog.records), "no deadlock happened"
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])


async def test_a_batch_gives_way_to_a_writer_in_the_other_order(sql: Any, db: Database, other: Any) -> None:
    """races.md: in batches the same deadlock shows as 55P03 after 200 ms; the other side gets what it wants."""
    bar = await add_bar(sql, mpesa_enabled=False, sandbox=True)
    await other.execute("begin")
    await other.execute(BARS_OFF, bar)
    run = asyncio.create_task(MpesaMigrationService(db).run())
    ours = await waiter_for(sql, other.get_server_pid())
    writes = asyncio.create_task(other.execute(OFF, bar, "sandbox"))
    assert await waiter_for(sql, ours) == other.get_server_pid()
    await writes
    await other.execute("commit")
    report = (await run).report
    assert (report.drifted, report.already_consistent, report.fixed, report.verified) == (1, 1, 0, True)
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])


async def test_a_session_advisory_lock_leaks_and_a_transaction_one_ends_too_soon(database_url: str, sql: Any) -> None:
    """races.md: why "only one run" is no advisory lock: one kind outlives an aborted run, one ends at a COMMIT."""
    async with databases.plain(database_url) as pooled:
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with pooled.transaction():
                assert await pooled.fetchval("select pg_try_advisory_lock($1)", RUN_KEY)
                await pooled.execute("select 1 / 0")
        assert not await sql.fetchval("select pg_try_advisory_lock($1)", RUN_KEY), "the run is over, its lock is not"
    async with databases.plain(database_url) as batches:
        async with batches.transaction():
            assert await batches.fetchval("select pg_try_advisory_xact_lock($1)", RUN_KEY + 1)
        assert await sql.fetchval("select pg_try_advisory_lock($1)", RUN_KEY + 1), "the run goes on, its lock does not"


async def test_neither_runs_nor_switches_leave_an_advisory_lock_behind(sql: Any, db: Database) -> None:
    """races.md: ours are of the transaction; after success and after a refusal the open pool holds none."""
    await sql.execute("alter table public.bars add constraint kept_on check (mpesa_enabled or name <> 'kept')")
    await add_bar(sql, mpesa_enabled=False, sandbox=True)
    kept = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    await sql.execute("update public.bars set name = 'kept' where id = $1", kept)
    with pytest.raises(ConstraintRefused):
        await MpesaSyncManager(db).sync_mpesa_status(kept, False)
    assert (await MpesaMigrationService(db).run()).report.fixed == 1
    assert await sql.fetchval(ADVISORY) == 0


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_reading_back_in_the_callers_snapshot_commits_drift_so_we_refuse_it(
    database_url: str, sql: Any, db: Database, isolation: str
) -> None:
    """races.md, R1.4: in REPEATABLE READ the read-back says "consistent" of a state that nobody will ever see."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with databases.plain(database_url) as caller:
        transaction = caller.transaction(isolation="repeatable_read")
        await transaction.start()
        await caller.fetchval("select count(*) from public.mpesa_credentials")
        await sql.execute(
            "insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc, "
            "consumer_secret_enc, passkey_enc, is_active) values ($1, 'production', '1', $2, $3, $4, true)",
            *(bar, *SEALED),
        )
        await writer.lock(caller, bar)
        assert (await writer.write_status(caller, bar, None)).active == ()
        await transaction.commit()
        seen = await see(sql, bar)
        assert seen is not None
        assert seen.drifted, "the demonstration shows nothing"

        before = await database_hash(sql)
        async with caller.transaction(isolation=isolation.replace(" ", "_")):
            with pytest.raises(UnsupportedTransaction, match=isolation):
                await MpesaSyncManager(db).sync_mpesa_status(bar, False, connection=caller)
        with pytest.raises(UnsupportedTransaction, match="not in a transaction"):
            await MpesaSyncManager(db).sync_mpesa_status(bar, False, connection=caller)
        assert await database_hash(sql) == before
        async with caller.transaction():
            await MpesaSyncManager(db).sync_mpesa_status(bar, False, connection=caller)
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])
