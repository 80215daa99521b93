"""Ways to correct `bars.mpesa_enabled`: the project's own, and those that races.md found to make drift.

The wrong ones are plain SQL and live only here: they show that the tests can see the race. Each is one transaction
on the connection given, and returns the bars that it claims to leave consistent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync.db import detection, session
from mpesa_sync.sync import statements, writer
from mpesa_sync.sync.writer import Settled

Correction = Callable[[Any, Sequence[UUID]], Awaitable[set[UUID]]]

_TRUTH: Final = """
select b.id, b.mpesa_enabled,
       exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active) as authority
  from public.bars b where b.id = any($1::uuid[])
"""
_WRITE: Final = "update public.bars set mpesa_enabled = $2 where id = $1 returning id"
_COMPARE_AND_SET: Final = """
update public.bars set mpesa_enabled = $2 where id = $1 and mpesa_enabled is not distinct from $3 returning id
"""
_UPDATE_FROM: Final = """
update public.bars b set mpesa_enabled = t.authority
  from (select i.id, coalesce(bool_or(c.is_active), false) as authority
          from unnest($1::uuid[]) i (id) left join public.mpesa_credentials c on c.tenant_id = i.id
         group by i.id) t
 where b.id = t.id and b.mpesa_enabled is distinct from t.authority
returning b.id
"""
_UPDATE_EXISTS: Final = """
update public.bars b
   set mpesa_enabled = exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
 where b.id = any($1::uuid[]) and b.mpesa_enabled is distinct from
       exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
returning b.id
"""
_SHARE: Final = "select 1 from public.mpesa_credentials where tenant_id = any($1::uuid[]) order by id for share"
_NO_KEY_UPDATE: Final = "select 1 from public.bars where id = any($1::uuid[]) order by id for no key update"
_UPDATE_LOCK: Final = "select 1 from public.bars where id = any($1::uuid[]) order by id for update"


async def ours(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """The project's own: a plan, then `writer.correct_bars`, which decides anew under its locks."""
    plan = await detection.still_drifted(connection, bars)
    return await correct(connection, plan)


async def correct(connection: Any, plan: Sequence[tuple[UUID, bool]]) -> set[UUID]:
    """The same, of a given plan: bars with the authority that was seen."""
    await connection.execute(session.BATCH.sql)
    settled = await writer.correct_bars(connection, uuid4(), plan)
    await connection.execute("commit")
    return {bar for bar, result in settled.items() if result in (Settled.FIXED, Settled.ALREADY_CONSISTENT)}


_CTE: Final = """
with held as materialized (
  select c.tenant_id from public.mpesa_credentials c where c.tenant_id = any($1::uuid[]) order by c.id for share
), locked as materialized (
  select b.id from public.bars b where b.id = any($1::uuid[]) and (select count(*) from held) >= 0 order by b.id
     for update
)
update public.bars b
   set mpesa_enabled = exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
  from locked l
 where b.id = l.id and b.mpesa_enabled is distinct from
       exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
returning b.id
"""
ONE_ROUND_TRIP: Final = """
create function public.test_correct(p_bars uuid[]) returns setof uuid language plpgsql as $$
begin
  perform 1 from public.mpesa_credentials where tenant_id = any(p_bars) order by id for share;
  perform 1 from public.bars where id = any(p_bars) order by id for update;
  perform 1 from public.mpesa_credentials where tenant_id = any(p_bars) order by id for share nowait;
  return query update public.bars b
     set mpesa_enabled = exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
   where b.id = any(p_bars) and b.mpesa_enabled is distinct from
         exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
  returning b.id;
end $$
"""
"""One round trip with separate statements, VOLATILE as functions are by default; for `one_round_trip`."""


class _WithoutNewRows:
    """A connection on which the project's own correction does not lock the rows that came while it waited."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.fetch, self.execute = connection.fetch, connection.execute

    async def fetchval(self, query: str, *args: Any) -> Any:
        if query == statements.LOCK_NEW_CREDENTIALS_OF_BARS:
            query = "select count(*) from public.mpesa_credentials where tenant_id = any($1::uuid[])"
        return await self._connection.fetchval(query, *args)


async def ours_locked_once(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """Wrong: ours as races.md has it; a row that came while it waited for `bars` may change until the commit."""
    return await ours(_WithoutNewRows(connection), bars)


async def _ids(connection: Any, statement: str, *args: Any) -> set[UUID]:
    return {record["id"] for record in await connection.fetch(statement, *args)}


async def _write_in_new_statement(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    written: set[UUID] = set()
    for record in await connection.fetch(_TRUTH, bars):
        if (record["mpesa_enabled"] is True) != record["authority"]:
            written |= await _ids(connection, _WRITE, record["id"], record["authority"])
    return written


async def read_then_update(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """Wrong: read the truth, then write by id."""
    await connection.execute(session.BATCH.sql)
    written = await _write_in_new_statement(connection, bars)
    await connection.execute("commit")
    return written


async def compare_and_set(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """Wrong: read the truth, then write only if the flag still has its old value."""
    await connection.execute(session.BATCH.sql)
    written: set[UUID] = set()
    for record in await connection.fetch(_TRUTH, bars):
        if (record["mpesa_enabled"] is True) != record["authority"]:
            values = (record["id"], record["authority"], record["mpesa_enabled"])
            written |= await _ids(connection, _COMPARE_AND_SET, *values)
    await connection.execute("commit")
    return written


async def update_from(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """Wrong: one statement that joins the truth; after a lock wait only the `bars` row is read again."""
    await connection.execute(session.BATCH.sql)
    written = await _ids(connection, _UPDATE_FROM, bars)
    await connection.execute("commit")
    return written


async def update_exists(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """Wrong: the same with a subquery."""
    await connection.execute(session.BATCH.sql)
    written = await _ids(connection, _UPDATE_EXISTS, bars)
    await connection.execute("commit")
    return written


async def locking_cte(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """Wrong: the right locks in the right order, in the statement that decides: its snapshot is older than they."""
    await connection.execute(session.BATCH.sql)
    written = await _ids(connection, _CTE, bars)
    await connection.execute("commit")
    return written


async def one_round_trip(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
    """The same locks in a function of separate statements, which `ONE_ROUND_TRIP` makes."""
    await connection.execute(session.BATCH.sql)
    written = {record["id"] for record in await connection.fetch("select test_correct($1::uuid[]) as id", bars)}
    await connection.execute("commit")
    return written


def _locking(*locks: str) -> Correction:
    async def correction(connection: Any, bars: Sequence[UUID]) -> set[UUID]:
        await connection.execute(session.BATCH.sql)
        for lock in locks:
            await connection.fetch(lock, bars)
        await _write_in_new_statement(connection, bars)
        await connection.execute("commit")
        return set(bars)

    return correction


no_key_update: Final = _locking(_SHARE, _NO_KEY_UPDATE)
"""Wrong: `bars` FOR NO KEY UPDATE lets a credentials row be inserted between the decision and the commit."""
bars_only: Final = _locking(_UPDATE_LOCK)
"""Wrong beside writers that touch credentials alone."""
reversed_order: Final = _locking(_UPDATE_LOCK, _SHARE)
"""Right about drift, and it deadlocks with everybody who keeps the one order."""
right_in_sql: Final = _locking(statements.LOCK_CREDENTIALS_OF_BARS, _UPDATE_LOCK, _SHARE + " nowait")
"""What `writer.correct_bars` does, in the form of the wrong ones: the twin that finds nothing."""
