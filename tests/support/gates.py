"""Holding one program in the middle of its transaction, at a statement, until the test lets it go on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.support.faults import until

_MACHINERY: Final = """
create schema if not exists gates;
create table if not exists gates.opened (application text primary key);
grant usage on schema gates to public;
grant select on gates.opened to public;
-- Asked anew by each statement of the loop (READ COMMITTED), so that opening is seen; a sleep is no wait for a lock,
-- and `lock_timeout` does not end it.
create or replace function gates.hold() returns trigger language plpgsql volatile as $$
begin
  if current_setting('application_name') = tg_argv[0] then
    while not exists (select 1 from gates.opened where application = tg_argv[0]) loop
      perform pg_sleep(0.001);
    end loop;
  end if;
  return coalesce(new, old);
end $$;
"""
_HELD: Final = """
select pid from pg_stat_activity
 where datname = current_database() and application_name = $1 and wait_event = 'PgSleep'
"""


class Gate:
    """One closed gate, for one program."""

    def __init__(self, sql: Any, application: str) -> None:
        self._sql = sql
        self._application = application

    async def held(self) -> int:
        """Wait until the program stands before the gate; return its backend."""
        return int(await until(lambda: self._sql.fetchval(_HELD, self._application)))

    async def open(self) -> None:
        """Let it, and whoever comes after it, go on."""
        await self._sql.execute("insert into gates.opened values ($1) on conflict do nothing", self._application)


@asynccontextmanager
async def gate(sql: Any, when: str, table: str, application: str) -> AsyncIterator[Gate]:
    """Close a gate before one program until the block ends or it is opened.

    Arguments:
        when: `before update`, `after insert` and so on; for each row of `table`.
        application: the name that the program gives itself.
    """
    await sql.execute(_MACHINERY)
    await sql.execute("delete from gates.opened where application = $1", application)
    await sql.execute(
        f"create trigger zz_gate {when} on {table} for each row execute function gates.hold('{application}')"
    )
    closed = Gate(sql, application)
    try:
        yield closed
    finally:
        await closed.open()
        await sql.execute(f"drop trigger zz_gate on {table}")
