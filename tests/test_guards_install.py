"""Installing, looking at and removing guards while a platform runs (G4), and the alert when one does not stand."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.backoff import Backoff
from mpesa_sync.db import migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import SchemaError, TransientFault
from mpesa_sync.jobs import guard_watch
from mpesa_sync.sync import guards
from mpesa_sync.sync.alert_words import GUARDS_WELL
from mpesa_sync.sync.guards import GuardMode, GuardState
from tests.support import databases
from tests.support.guarding import OFF, drifted
from tests.support.observer import database_hash
from tests.support.venues import add_bar
from tests.support.waiting import waiter_for

QUICKLY: Final = Backoff(max_retries=2, base_s=0.01, total_s=5.0)
CATALOG: Final = """
select string_agg(line, e'\n' order by line) from (
  select pg_get_triggerdef(t.oid) || t.tgenabled::text as line from pg_trigger t join pg_class c on c.oid = t.tgrelid
   where not t.tgisinternal and c.relnamespace = 'public'::regnamespace
  union all select c.conname || pg_get_constraintdef(c.oid) from pg_constraint c
   where c.connamespace = 'public'::regnamespace
  union all select p.proname || p.prosrc from pg_proc p where pronamespace = 'public'::regnamespace) lines
"""
DAMAGES: Final = {
    "disabled": ("alter table public.bars disable trigger mpesa_sync_guard_update", GuardState.DISABLED),
    "enabled for origin alone": ("alter table public.bars enable trigger mpesa_sync_guard_update", GuardState.DISABLED),
    "all of a table's off": ("alter table public.mpesa_credentials disable trigger user", GuardState.DISABLED),
    "dropped": ("drop trigger mpesa_sync_guard_truncate on public.mpesa_credentials", GuardState.MISSING),
    "another body": (
        "create or replace function mpesa_sync.guard_bars_v1() returns trigger language plpgsql security definer "
        "set search_path = pg_catalog, pg_temp as 'begin return null; end'",
        GuardState.OUTDATED,
    ),
    "no definer": ("alter function mpesa_sync.guard_bars_v1() security invoker", GuardState.OUTDATED),
    "another path": ("alter function mpesa_sync.guard_bars_v1() set search_path = public", GuardState.OUTDATED),
    "a helper": (
        "alter function mpesa_sync.guard_settle_v1(uuid, text, text, boolean) set work_mem = '1MB'",
        GuardState.OUTDATED,
    ),
    "another condition": (
        "drop trigger mpesa_sync_guard_update on public.bars; "
        "create constraint trigger mpesa_sync_guard_update after update on public.bars deferrable initially deferred "
        "for each row when (false) execute function mpesa_sync.guard_bars_v1(); "
        "alter table public.bars enable always trigger mpesa_sync_guard_update",
        GuardState.OUTDATED,
    ),
    "not deferred": (
        "drop trigger mpesa_sync_guard_insert on public.bars; "
        "create trigger mpesa_sync_guard_insert after insert on public.bars "
        "for each row execute function mpesa_sync.guard_bars_v1(); "
        "alter table public.bars enable always trigger mpesa_sync_guard_insert",
        GuardState.OUTDATED,
    ),
    "that of TRUNCATE": (
        "alter table mpesa_sync.guard_truncations disable trigger mpesa_sync_guard_insert",
        GuardState.DISABLED,
    ),
}
ALERTS: Final = "select cause, state, count, resolved_by from mpesa_sync.alerts where kind = 'guard_broken' order by id"


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """A database without any trigger of ours."""
    return unnoticed_url


async def off_bar(sql: Any) -> UUID:
    """Insert a bar whose credentials are on and which is hidden: it drifted before there were guards."""
    return await add_bar(sql, mpesa_enabled=False, production=True)


async def test_installing_twice_and_at_once_is_installing_once(db: Database, database_url: str) -> None:
    """G4: idempotent; two installs at the same time both succeed, and one of them has done it."""
    async with connect(database_url) as other:
        both = await asyncio.gather(guards.install(db), guards.install(other))
    assert sorted(one.changed for one in both) == [False, True]
    assert not (await guards.install(db)).changed
    found = await guards.status(db)
    assert (found.state, found.mode, found.notices, found.is_broken) == ("installed", GuardMode.HEAL, True, False)


async def test_the_mode_changes_without_touching_the_tables(db: Database, sql: Any) -> None:
    """G2, G4: `install` with another mode waits for nobody."""
    await guards.install(db)
    async with sql.transaction():
        await sql.execute("lock table public.bars, public.mpesa_credentials in access exclusive mode")
        before = await sql.fetchval("select definitions::text from mpesa_sync.guard_settings")
        async with db.reading() as connection:
            assert await connection.fetchval("select 1") == 1
    assert (await guards.install(db, mode=GuardMode.REJECT)).changed
    assert (await guards.status(db)).mode is GuardMode.REJECT
    assert await sql.fetchval("select definitions::text from mpesa_sync.guard_settings") == before


async def test_it_ends_with_a_check_that_names_what_had_drifted(db: Database, sql: Any) -> None:
    """G5: from the first clean check on; guards repair no history."""
    bar = await off_bar(sql)
    assert (await guards.install(db)).drifted == (bar,)
    await sql.execute("update public.bars set mpesa_enabled = true")
    assert (await guards.install(db)).drifted == ()


async def test_notices_alone_guard_nothing(db: Database, sql: Any) -> None:
    """G3: `--notices-only`."""
    installed = await guards.install(db, notices_only=True)
    assert (installed.changed, installed.status.state, installed.status.notices) == (True, GuardState.MISSING, True)
    assert not installed.status.is_broken
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    await sql.execute(OFF, bar)
    assert await drifted(sql) == [bar]


async def test_while_a_writer_holds_the_tables_nobody_is_blocked_and_then_it_works(
    db: Database, database_url: str, sql: Any
) -> None:
    """G4: a try gives up within its lock timeout, so whoever queued behind it goes on; at the end all is as before."""
    bar = await off_bar(sql)
    async with databases.plain(database_url) as holder, databases.plain(database_url) as platform:
        await holder.execute("begin")
        await holder.execute("update public.bars set name = 'long' where id = $1", bar)
        with pytest.raises(TransientFault, match="Nothing was changed") as refused:
            await guards.install(db, tries=QUICKLY)
        assert refused.value.sqlstate == "55P03"
        assert (await guards.status(db)).state is GuardState.MISSING
        installing = asyncio.create_task(guards.install(db))
        await waiter_for(sql, holder.get_server_pid())
        async with asyncio.timeout(20):  # queued behind a try, and let through when that gives up
            await platform.execute("update public.mpesa_credentials set business_shortcode = '600999'")
        assert not installing.done()
        await holder.execute("commit")
        assert (await installing).status.state is GuardState.INSTALLED


async def test_remove_leaves_no_trace(platform_url: str) -> None:
    """G4: triggers, settings, hits and, attached, notices; public is as before, down to its catalog."""
    async with databases.plain(platform_url) as sql, connect(platform_url) as database:
        await migrations.migrate(database, mode=Mode.ATTACHED)
        bar = await add_bar(sql, mpesa_enabled=True, production=True)
        before = (await sql.fetchval(CATALOG), await database_hash(sql))
        await guards.install(database, mode=GuardMode.LOG)
        assert await sql.fetchval(CATALOG) != before[0]
        await sql.execute("update public.bars set mpesa_enabled = false")
        assert await guards.remove(database) == 1
        assert await sql.fetchval(CATALOG) == before[0]
        after = await database_hash(sql)
        assert {name for name in after if after[name] != before[1][name]} == {
            "public.bars",
            "mpesa_sync.bar_state",
        }, "what another program wrote meanwhile, and its version"
        assert await guards.remove(database) == 0
        await sql.execute(OFF, bar)
        await guards.install(database)
        await migrations.uninstall(database)
        assert await sql.fetchval(CATALOG) == before[0]
        with pytest.raises(SchemaError, match="db init"):
            await guards.install(database)


async def test_in_a_database_of_our_own_the_notices_stay(guarded_db: Database) -> None:
    """G4: there they came with the database, not with the guards."""
    await guards.remove(guarded_db)
    found = await guards.status(guarded_db)
    assert (found.state, found.mode, found.notices) == (GuardState.MISSING, None, True)


@pytest.mark.parametrize(("damage", "state"), DAMAGES.values(), ids=DAMAGES)
async def test_what_was_changed_is_told_apart_alerted_and_mended(
    guarded_db: Database, guarded_sql: Any, damage: str, state: GuardState
) -> None:
    """G4: by digest and by what the catalog says; one alert however often it is looked, resolved when well again."""
    assert not (await guard_watch.watch(guarded_db)).is_broken
    await guarded_sql.execute(damage)
    for _look in range(3):
        found = await guard_watch.watch(guarded_db)
    assert (found.state, found.is_broken) == (state, True)
    assert [tuple(one) for one in await guarded_sql.fetch(ALERTS)] == [(f"guard_{state}", "firing", 1, None)]
    assert (await guards.install(guarded_db)).status.state is GuardState.INSTALLED
    await guard_watch.watch(guarded_db)
    assert [tuple(one)[1:] for one in await guarded_sql.fetch(ALERTS)] == [("resolved", 1, GUARDS_WELL)]


async def test_a_worse_state_is_told_again_and_removal_on_purpose_ends_it(
    guarded_db: Database, guarded_sql: Any
) -> None:
    """G4: disabled, then gone: the open alert says the new cause; `guard remove` is no fault."""
    await guarded_sql.execute("alter table public.bars disable trigger mpesa_sync_guard_update")
    await guard_watch.watch(guarded_db)
    await guarded_sql.execute("drop trigger mpesa_sync_guard_update on public.bars")
    await guard_watch.watch(guarded_db)
    assert [tuple(one) for one in await guarded_sql.fetch(ALERTS)] == [("guard_missing", "firing", 2, None)]
    await guards.remove(guarded_db)
    await guard_watch.watch(guarded_db)
    assert [tuple(one)[1:] for one in await guarded_sql.fetch(ALERTS)] == [("resolved", 2, GUARDS_WELL)]
    await guard_watch.watch(guarded_db)
    assert len(await guarded_sql.fetch(ALERTS)) == 1
