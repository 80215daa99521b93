"""Guards among what a platform has: rights, owners, triggers and paths of its own, notices, and hostile neighbours."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from mpesa_sync.db import installation, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.errors import AccessDenied
from mpesa_sync.jobs import guard_watch
from mpesa_sync.sync import guards
from mpesa_sync.sync.guards import GuardState
from tests.support import databases
from tests.support.guarding import BARS, OFF, drifted, forget_hits, hits, insert, weaken
from tests.support.live_notices import listening, version
from tests.support.observer import see
from tests.support.roles import Role, login_role
from tests.support.venues import add_bar

UNQUALIFIED: Final = """
create schema extensions;
create function extensions.stamp() returns text language sql as 'select ''stamped''::text';
create table public.bar_log (bar uuid, stamp text, who text);
create function public.note_bar() returns trigger language plpgsql as $$
begin
  insert into bar_log values (new.id, stamp(), current_setting('search_path'));
  return new;
end $$;
create trigger note_bar before update on public.bars for each row execute function public.note_bar();
"""


_HIDE: Final = "update public.bars set mpesa_enabled = false where id = $1"
_GUARD_FUNCTIONS: Final = """
select array_agg(oid::regprocedure::text) from pg_proc
 where pronamespace = 'mpesa_sync'::regnamespace and proname like 'guard%'
"""


@pytest.fixture
def sql(guarded_sql: Any) -> Any:
    """Another program, in a guarded database."""
    return guarded_sql


async def on_bar(connection: Any) -> UUID:
    """Insert a bar that is on in both places."""
    async with connection.transaction():
        bar = await add_bar(connection, mpesa_enabled=True, production=True)
    await forget_hits(connection)
    return bar


async def flag(connection: Any, bar: UUID) -> bool | None:
    """Return what customers are shown."""
    seen = await see(connection, bar)
    assert seen is not None
    return seen.mpesa_enabled


@asynccontextmanager
async def staff_app(connection: Any, url: str) -> AsyncIterator[tuple[Role, Any]]:
    """A role that may write credentials and nothing else: not bars, not the schema mpesa_sync."""
    async with login_role(connection, url) as role:
        await connection.execute(
            f"grant usage on schema public to {role.name}; "
            f"grant select, insert, update, delete, truncate on public.mpesa_credentials to {role.name}; "
            f"grant select (id) on public.bars to {role.name}"
        )
        async with databases.plain(role.url) as program:
            yield role, program


async def test_a_writer_without_any_right_on_ours_is_neither_hindered_nor_unseen(guarded_url: str, sql: Any) -> None:
    """Spec G: SECURITY DEFINER; the hit names the session's user and its application, not the guard's owner."""
    bar = await on_bar(sql)
    async with staff_app(sql, guarded_url) as (role, program):
        await program.execute("set application_name = 'staff app 1.4'")
        await program.execute(OFF, bar)
        assert await hits(sql) == [("carried", "mpesa_credentials", "UPDATE", True, False)]
        await insert(program, bar, "sandbox")
        await program.execute("truncate public.mpesa_credentials")
        assert len(await hits(sql)) == 3
        assert await drifted(sql) == []
        who = await sql.fetch("select distinct session_user_name, application_name from mpesa_sync.guard_hits")
        assert [tuple(record) for record in who] == [(role.name, "staff app 1.4")]


async def test_triggers_of_the_platform_find_their_unqualified_names(guarded_url: str, sql: Any) -> None:
    """Spec G: under the path that was in force at `guard install`, whatever the writer's own is."""
    name = await sql.fetchval("select current_database()")
    await sql.execute(UNQUALIFIED)
    await sql.execute(f"alter database {name} set search_path = '$user', public, extensions")
    async with connect(guarded_url) as database:
        await guards.remove(database)
        await guards.install(database)
    bar = await on_bar(sql)
    async with databases.plain(guarded_url) as program:
        await program.execute("set search_path = ''")
        await program.execute(OFF, bar)
        assert await program.fetchval("show search_path") == '""'
    found = await sql.fetchrow("select stamp, who from public.bar_log order by ctid desc limit 1")
    assert tuple(found) == ("stamped", '"$user", public, extensions, public, pg_temp')
    assert await flag(sql, bar) is False


@pytest.mark.parametrize("guarded", [True, False], ids=["ours", "twin-with-the-callers-path"])
async def test_a_writer_cannot_put_objects_of_its_own_before_the_platforms(
    guarded_url: str, sql: Any, guarded: bool
) -> None:
    """Spec G, "yet safe": with the caller's path its own function would run with the rights of the guard's owner."""
    await sql.execute(UNQUALIFIED.replace("stamp(),", "upper('x'),"))
    if not guarded:
        await weaken(
            sql,
            "guard_write_v1",
            "coalesce((select s.search_path from mpesa_sync.guard_settings s), 'public, pg_temp')",
            "current_setting('test.path')",
        )
    bar = await on_bar(sql)
    async with staff_app(sql, guarded_url) as (role, program):
        await sql.execute(f"create schema evil authorization {role.name}")
        await program.execute(
            "create table evil.loot (who text); grant all on evil.loot to public; "
            "create function evil.upper(text) returns text language plpgsql as "
            "'begin insert into evil.loot values (current_user); return $1; end'; "
            "grant usage on schema evil to public"
        )
        await program.execute("set search_path = evil, pg_catalog, public; set test.path = 'evil, pg_catalog, public'")
        await program.execute(OFF, bar)
        loot = [record["who"] for record in await sql.fetch("select who from evil.loot")]
    assert loot == ([] if guarded else ["postgres"])


@pytest.mark.parametrize("manner", ["plain", "deferred"])
async def test_a_trigger_that_keeps_undoing_the_guard_refuses_the_writer(sql: Any, manner: str) -> None:
    """G5: no state may be drifted, so the transaction is refused; two triggers that fight end, and do not hang."""
    bar = await on_bar(sql)
    body = {
        "plain": "begin new.mpesa_enabled := true; return new; end",
        "deferred": "begin update public.bars set mpesa_enabled = true where id = new.id and not mpesa_enabled; "
        "return null; end",
    }[manner]
    await sql.execute(f"create function public.stubborn() returns trigger language plpgsql as '{body}'")
    await sql.execute(
        "create trigger zz_stubborn before update on public.bars for each row execute function public.stubborn()"
        if manner == "plain"
        else "create constraint trigger zz_stubborn after update on public.bars deferrable initially deferred "
        "for each row execute function public.stubborn()"
    )
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="mpesa-sync guard") as refused:
        await sql.execute(OFF, bar)
    assert refused.value.constraint_name == "mpesa_sync_guard"
    assert await drifted(sql) == []


async def test_a_plain_owner_installs_and_removes(platform_url: str) -> None:
    """Issue 5, 7: the owner of the tables is no superuser; ENABLE ALWAYS and all else need ownership alone."""
    async with databases.plain(platform_url) as sql, login_role(sql, platform_url) as owner:
        name = await sql.fetchval("select current_database()")
        await sql.execute(
            f"grant create on database {name} to {owner.name}; grant all on schema public to {owner.name}"
        )
        for record in await sql.fetch("select tablename from pg_tables where schemaname = 'public'"):
            await sql.execute(f"alter table public.{record['tablename']} owner to {owner.name}")
        async with connect(owner.url) as database:
            await migrations.migrate(database, mode=Mode.ATTACHED)
            installed = await guards.install(database)
            assert (installed.status.state, installed.status.notices) == (GuardState.INSTALLED, True)
            async with staff_app(sql, platform_url) as (_, program):
                bar = await on_bar(sql)
                await program.execute(OFF, bar)
                assert await flag(sql, bar) is False
                assert await drifted(sql) == []
            await guards.remove(database)
            assert (await guards.status(database)).state is GuardState.MISSING
            await migrations.uninstall(database)


async def test_who_is_not_the_owner_is_told_so_and_changes_nothing(guarded_url: str, sql: Any) -> None:
    """G4: said in plain words, before any lock is asked for; so is an owner of our functions without rights."""
    async with connect(guarded_url) as database:
        await guards.remove(database)
    async with login_role(sql, guarded_url) as weak:
        await sql.execute(f"grant usage on schema mpesa_sync to {weak.name}")
        await sql.execute(f"grant select on all tables in schema mpesa_sync to {weak.name}")
        await sql.execute(f"grant select on public.bars, public.mpesa_credentials to {weak.name}")
        async with connect(weak.url) as database:
            with pytest.raises(AccessDenied, match="Only the owner of bars and mpesa_credentials"):
                await guards.install(database)
        for name in await sql.fetchval(_GUARD_FUNCTIONS):
            await sql.execute(f"alter function {name} owner to {weak.name}")
        async with connect(guarded_url) as database:
            with pytest.raises(AccessDenied, match=f"Guards would work as {weak.name}"):
                await guards.install(database)
            assert (await guards.status(database)).state is GuardState.MISSING
        await sql.execute(f"reassign owned by {weak.name} to postgres")


HIDDEN: Final = {
    "policies on credentials": "alter table public.mpesa_credentials enable row level security",
    "policies on bars": "alter table public.bars enable row level security",
}
"""What makes everything, or half of it, invisible to a role that neither owns the tables nor bypasses policies."""


@pytest.mark.parametrize("hidden", HIDDEN)
async def test_guards_that_lose_sight_of_rows_refuse_and_are_told(guarded_url: str, sql: Any, hidden: str) -> None:
    """faults.md 4: policies switched on after `guard install` are an error (42501), not silence, and no wrong flag."""
    bar = await on_bar(sql)
    async with login_role(sql, guarded_url) as weak:
        await sql.execute(
            f"grant usage on schema mpesa_sync to {weak.name}; "
            f"grant all on all tables in schema mpesa_sync to {weak.name}; "
            f"grant select, update on public.bars, public.mpesa_credentials to {weak.name}"
        )
        for name in await sql.fetchval(_GUARD_FUNCTIONS):
            await sql.execute(f"alter function {name} owner to {weak.name}")
        async with connect(guarded_url) as database:
            assert (await guards.status(database)).state is GuardState.INSTALLED
            await sql.execute(HIDDEN[hidden])
            assert (await guards.status(database)).state is GuardState.POWERLESS
            assert (await guard_watch.watch(database)).is_broken
            for statements in ((OFF,), (OFF, _HIDE), ("truncate public.mpesa_credentials",)):
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="mpesa-sync guard"):
                    async with sql.transaction():
                        for statement in statements:
                            await sql.execute(statement, *([bar] if "$1" in statement else []))
            assert await sql.fetchval("select cause from mpesa_sync.alerts") == "guard_powerless"
            assert (await flag(sql, bar), await drifted(sql), await hits(sql)) == (True, [], [])
            await sql.execute(f"alter role {weak.name} bypassrls")
            await sql.execute(OFF, bar)
            assert (await guards.status(database)).state is GuardState.INSTALLED
            assert (await flag(sql, bar), await drifted(sql)) == (False, [])
        await sql.execute(f"reassign owned by {weak.name} to postgres")


async def test_a_carried_change_is_one_version_and_one_notice(guarded_url: str, sql: Any) -> None:
    """G3: guard and notices together; deferred, in whatever order the events come."""
    bar = await on_bar(sql)
    before = await version(sql, bar)
    async with listening(guarded_url) as ear:
        await sql.execute(OFF, bar)
        assert await ear.all_heard() == [str(bar)]
        assert await version(sql, bar) == before + 1
        await sql.execute(BARS, bar, True)
        assert await ear.all_heard() == [str(bar)]
    assert await version(sql, bar) == before + 2


async def test_a_shape_without_the_payment_columns_gets_guards_and_notices(platform_url: str) -> None:
    """existing-platform.md: columns that a shape may lack; unrelated updates are not announced there either."""
    async with databases.plain(platform_url) as sql, connect(platform_url) as database:
        await sql.execute(
            "alter table public.bars drop column slug, drop column payment_cash_enabled, "
            "drop column payment_card_enabled"
        )
        await migrations.migrate(database, mode=Mode.ATTACHED)
        assert (await guards.install(database)).status.notices
        async with database.reading() as connection:
            assert await installation.mode(connection) is Mode.ATTACHED
        bar = await sql.fetchval("insert into public.bars (name, mpesa_enabled) values ('x', false) returning id")
        async with listening(platform_url) as ear:
            await insert(sql, bar)
            assert await ear.all_heard() == [str(bar)]
            await sql.execute("update public.bars set updated_at = now() + interval '1 hour'")
            assert await ear.all_heard() == []
            await sql.execute("update public.bars set active = false")
            assert await ear.all_heard() == [str(bar)]
        assert await flag(sql, bar) is True
