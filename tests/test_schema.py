"""The schema: migrations, the readable picture of it, attaching and removing."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any, Final

import pytest

from mpesa_sync.db import installation, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.errors import SchemaError, TransientFault
from tests.support import databases

CATALOG: Final = """
select 'column' as what, format('%s.%s', c.relname, a.attname) as name,
       format('%s %s %s %s', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
              pg_get_expr(d.adbin, d.adrelid)) as definition
  from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
 where c.relnamespace = 'mpesa_sync'::regnamespace and c.relkind = 'r'
union all
select 'constraint', format('%s.%s', conrelid::regclass, conname), pg_get_constraintdef(oid)
  from pg_constraint where connamespace = 'mpesa_sync'::regnamespace
union all
select 'index', indexname, indexdef from pg_indexes where schemaname = 'mpesa_sync'
union all
select 'function', oid::regprocedure::text, pg_get_functiondef(oid)
  from pg_proc where pronamespace = 'mpesa_sync'::regnamespace
union all
select 'trigger', format('%s.%s', tgrelid::regclass, tgname), pg_get_triggerdef(t.oid)
  from pg_trigger t join pg_class c on c.oid = t.tgrelid
 where c.relnamespace = 'mpesa_sync'::regnamespace and not tgisinternal
union all
select 'comment', 'schema', obj_description('mpesa_sync'::regnamespace, 'pg_namespace')
order by 1, 2
"""
PUBLIC: Final = CATALOG.replace("'mpesa_sync'::regnamespace", "'public'::regnamespace").replace(
    "schemaname = 'mpesa_sync'", "schemaname = 'public'"
)
REFERENCES: Final = """
select count(*)
  from pg_depend d
  join pg_class theirs on theirs.oid = d.refobjid and d.refclassid = 'pg_class'::regclass
   and theirs.relnamespace = 'public'::regnamespace
  left join pg_class ours on ours.oid = d.objid and d.classid = 'pg_class'::regclass
  left join pg_proc functions on functions.oid = d.objid and d.classid = 'pg_proc'::regclass
  left join pg_constraint constraints on constraints.oid = d.objid and d.classid = 'pg_constraint'::regclass
 where 'mpesa_sync'::regnamespace in (ours.relnamespace, functions.pronamespace, constraints.connamespace)
"""


async def _catalog(url: str, statement: str = CATALOG) -> list[tuple[Any, ...]]:
    async with databases.plain(url) as connection:
        return [tuple(row) for row in await connection.fetch(statement)]


async def test_the_readable_schema_equals_migrating_from_zero(database_url: str, empty_database_url: str) -> None:
    """Conventions: `schema/current.sql` is the truth that the migrations lead to."""
    current = (resources.files("mpesa_sync.db") / "schema" / "current.sql").read_text("utf-8")
    async with databases.plain(empty_database_url) as connection:
        await connection.execute(current)
    migrated = await _catalog(database_url)
    assert len(migrated) > 50
    assert await _catalog(empty_database_url) == migrated


async def test_attaching_leaves_public_as_it_was_and_refers_to_nothing_in_it(platform_url: str) -> None:
    """Spec 1 and 7: attached, nothing in `public` changes, and no catalog entry of ours depends on it."""
    before = await _catalog(platform_url, PUBLIC)
    async with connect(platform_url) as database:
        applied = await migrations.migrate(database, mode=Mode.ATTACHED)
        async with database.reading() as connection:
            assert await installation.mode(connection) is Mode.ATTACHED
    assert [migration.version for migration in applied] == [m.version for m in migrations.available()]
    assert await _catalog(platform_url, PUBLIC) == before
    async with databases.plain(platform_url) as connection:
        assert await connection.fetchval(REFERENCES) == 0


async def test_uninstalling_removes_all_that_is_ours(platform_url: str) -> None:
    """Spec 1: one command removes it; `public` is as before."""
    before = await _catalog(platform_url, PUBLIC)
    async with connect(platform_url) as database:
        await migrations.migrate(database, mode=Mode.ATTACHED)
        await migrations.uninstall(database)
        async with database.reading() as connection:
            assert (await migrations.state(connection)).applied is None
    assert await _catalog(platform_url, PUBLIC) == before
    async with databases.plain(platform_url) as connection:
        assert await connection.fetchval("select count(*) from pg_namespace where nspname = 'mpesa_sync'") == 0


async def test_migrating_twice_does_nothing_the_second_time(database_url: str) -> None:
    """Numbered migrations are applied once; the mode stays what it was at first."""
    async with connect(database_url) as database:
        assert await migrations.migrate(database, mode=Mode.ATTACHED) == []
        async with database.reading() as connection:
            assert await installation.mode(connection) is Mode.GREENFIELD


async def test_two_programs_migrating_at_once_apply_each_migration_once(platform_url: str) -> None:
    """Conventions: under an advisory lock."""
    async with connect(platform_url) as one, connect(platform_url) as two:
        applied = await asyncio.gather(*(migrations.migrate(d, mode=Mode.ATTACHED) for d in (one, two)))
    assert sorted(map(len, applied)) == [0, len(migrations.available())]


async def test_a_migration_lock_held_by_another_program_ends_in_an_error_not_a_hang(platform_url: str) -> None:
    """Conventions: with a lock timeout; nothing is created."""
    async with databases.plain(platform_url) as other, connect(platform_url) as database:
        async with other.transaction():
            await other.execute("select pg_advisory_xact_lock(7262617001)")
            with pytest.raises(TransientFault) as refused:
                await migrations.migrate(database, mode=Mode.ATTACHED)
        assert refused.value.sqlstate == "55P03"
        assert await other.fetchval("select count(*) from pg_namespace where nspname = 'mpesa_sync'") == 0


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        ("update mpesa_sync.schema_migrations set digest = 'x' where version = 1", "another text"),
        ("insert into mpesa_sync.schema_migrations values (9999, 'later', 'x')", "newer than this program"),
    ],
)
async def test_a_schema_that_is_not_what_this_program_made_is_refused(
    database_url: str, sql: Any, tamper: str, words: str
) -> None:
    """An edited or newer schema is told apart from an old one, and is left alone."""
    await sql.execute(tamper)
    async with connect(database_url) as database:
        with pytest.raises(SchemaError, match=words):
            await migrations.migrate(database, mode=Mode.GREENFIELD)


@pytest.mark.parametrize("table", ["operations", "migration_journal"])
async def test_what_was_written_down_can_be_neither_changed_nor_removed(sql: Any, table: str) -> None:
    """Faults.md, audit tampering: append-only, also for the owner of the table."""
    await sql.execute(
        "insert into mpesa_sync.operations (id, kind, bar_id, actor, request, result) "
        "values (gen_random_uuid(), 'switch', gen_random_uuid(), 'Asha', '{}', '{}')"
    )
    await sql.execute(
        "insert into mpesa_sync.migration_journal (run_id, bar_id, current) "
        "values (gen_random_uuid(), gen_random_uuid(), true)"
    )
    column = {"operations": "actor = 'Nobody'", "migration_journal": "current = false"}[table]
    for change in (
        f"update mpesa_sync.{table} set {column}",
        f"delete from mpesa_sync.{table}",
        f"truncate mpesa_sync.{table}",
    ):
        with pytest.raises(Exception, match="append-only"):
            await sql.execute(change)


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("create view public.report as select * from mpesa_sync.alerts", "report"),
        ("create table public.links (alert uuid references mpesa_sync.alerts (id))", "links"),
        (
            "create function public.f(a mpesa_sync.alerts) returns int language sql as 'select 1'",
            "f(mpesa_sync.alerts)",
        ),
    ],
)
async def test_what_others_built_on_ours_is_named_and_not_removed(
    database_url: str, sql: Any, made: str, named: str
) -> None:
    """Spec 1: `public` stays as it is; a CASCADE would take a platform's own view along in silence."""
    await sql.execute(made)
    before = await _catalog(database_url, PUBLIC)
    async with connect(database_url) as database:
        with pytest.raises(SchemaError, match="Nothing was removed") as refused:
            await migrations.uninstall(database)
    assert named in str(refused.value)
    assert await _catalog(database_url, PUBLIC) == before
    assert await sql.fetchval("select count(*) from mpesa_sync.schema_migrations") > 0


async def test_a_schema_of_this_name_that_somebody_else_made_is_left_alone(platform_url: str) -> None:
    """Neither adopted nor dropped, whatever it holds."""
    async with databases.plain(platform_url) as sql, connect(platform_url) as database:
        await sql.execute("create schema mpesa_sync; create table mpesa_sync.precious as select 42 as n")
        for act in (migrations.uninstall(database), migrations.migrate(database, mode=Mode.ATTACHED)):
            with pytest.raises(SchemaError, match="left alone"):
                await act
        assert await sql.fetchval("select n from mpesa_sync.precious") == 42


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("drop table mpesa_sync.migration_journal", "mpesa_sync.migration_journal"),
        ("drop function mpesa_sync.lock_bar_v1", "mpesa_sync.lock_bar_v1"),
        ("update mpesa_sync.schema_migrations set digest = 'x' where version = 1", "migration 1"),
    ],
)
async def test_parts_of_ours_that_are_gone_are_named(database_url: str, sql: Any, damage: str, missing: str) -> None:
    """Bad input and trouble: missing tables are named; a damaged schema is never called ready."""
    await sql.execute(damage)
    async with connect(database_url) as database, database.reading() as connection:
        state = await migrations.state(connection)
    assert not state.is_current
    assert any(missing in name for name in state.missing), state
