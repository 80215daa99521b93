"""`check`, a dry run and a plan are real processes held in the middle of their look: what they lock there, what they
leave behind. The database is byte-identical, sequences and catalog too (issue 5, proof)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.cli import environment
from tests.support.faults import until
from tests.support.migrating import drift
from tests.support.observer import database_hash
from tests.support.venues import add_bar

_HOLDING: Final = """
create schema held;
create table held.opened (at timestamptz);
create function held.btrim(text) returns text language plpgsql volatile as $$
begin
  while not exists (select 1 from held.opened) loop
    perform pg_sleep(0.002);
  end loop;
  return pg_catalog.btrim($1);
end $$;
"""
"""Who trims a text stands still until `held.opened` has a row: the detection does, in the middle of its statement."""
_HELD: Final = """
select pid from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and wait_event = 'PgSleep'
"""
_LOCKS: Final = """
select distinct l.locktype, l.mode from pg_locks l where l.pid = $1
"""
_TRANSACTION: Final = "select backend_xid is null, state from pg_stat_activity where pid = $1"
_EVERY_ROW: Final = """
select (select count(*) from (select 1 from public.bars for update nowait) b),
       (select count(*) from (select 1 from public.mpesa_credentials for update nowait) c)
"""
_OTHER_THINGS: Final = """
select concat_ws(' ', schemaname, sequencename, last_value) from pg_sequences
union all
select concat_ws(' ', c.oid::regclass, c.relkind, c.relacl) from pg_class c
 where c.relnamespace in ('public'::regnamespace, 'mpesa_sync'::regnamespace)
union all
select concat_ws(' ', s.setdatabase, s.setconfig) from pg_db_role_setting s
  join pg_database d on d.oid = s.setdatabase where d.datname = current_database()
"""


@asynccontextmanager
async def held(sql: Any, url: str, cwd: Path, *arguments: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Start a command, and give it with its backend as soon as it stands still; it goes on at the end of the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mpesa_sync", *arguments),
        cwd=cwd,
        env=environment(url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process, await until(lambda: sql.fetchval(_HELD), deadline_s=30)
        await sql.execute("insert into held.opened values (now())")
        await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def everything(sql: Any) -> tuple[dict[str, str], list[str]]:
    """Return digests of all tables, and what else a database consists of."""
    return await database_hash(sql), sorted(record[0] for record in await sql.fetch(_OTHER_THINGS))


@pytest.mark.parametrize(
    "arguments",
    [("check",), ("check", "--json"), ("migrate", "--dry-run"), ("migrate", "--dry-run", "--plan-out", "plan.jsonl")],
    ids=" ".join,
)
async def test_who_looks_holds_no_row_and_leaves_nothing(
    database_url: str, sql: Any, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """R2, races.md: READ ONLY. While it looks it has ACCESS SHARE and its own virtual transaction, and no other lock.

    So every row can be locked beside it, and no transaction id is taken. Red in a READ WRITE look that locks.
    """
    await drift(sql, 5)
    await add_bar(sql, mpesa_enabled=True, production=True)
    await sql.execute(_HOLDING)
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"alter database {name} set search_path = held, pg_catalog, public")
    before = await everything(sql)
    assert len(before[0]) > 10, "all tables of ours and of the platform"
    async with held(sql, database_url, tmp_path, *arguments) as (process, backend):
        locks = {tuple(record) for record in await sql.fetch(_LOCKS, backend)}
        assert ("relation", "AccessShareLock") in locks
        assert locks <= {("relation", "AccessShareLock"), ("virtualxid", "ExclusiveLock")}
        assert tuple(await sql.fetchrow(_TRANSACTION, backend)) == (True, "active")
        async with sql.transaction():
            assert tuple(await sql.fetchrow(_EVERY_ROW)) == (6, 6)
    assert process.returncode == 2
    assert await until(lambda: sql.fetchval("select not exists (select 1 from pg_locks where pid = $1)", backend))
    assert await everything(sql) == before
