"""SQL of how others fare: who waits for locks, and which transaction holds back clean-up. Reads only.

Any role may ask: what `pg_locks` says of waiting is hidden from nobody. When a transaction of another role began is
hidden from a role that is not a member of `pg_read_all_stats` (or `pg_monitor`), and is then counted as unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

WAITING: Final = """
select count(distinct l.pid)
  from pg_catalog.pg_locks l
  join pg_catalog.pg_stat_activity a on a.pid = l.pid and a.datname = current_database()
 where not l.granted and l.pid <> pg_backend_pid()
"""
"""Sessions of this database that wait for a heavyweight lock. By `pg_locks`, because `wait_event` is hidden."""

HOLDERS: Final = """
with holders as (
  -- a transaction with neither xmin nor xid holds back nothing, however long it is idle
  select a.pid, a.application_name as who,
         extract(epoch from clock_timestamp() - a.xact_start)::float8 as age_s
    from pg_catalog.pg_stat_activity a
   where a.datname = current_database() and a.pid <> pg_backend_pid() and a.pid <> all($1::integer[])
     and (a.backend_xmin is not null or a.backend_xid is not null)
     and a.backend_type is distinct from 'autovacuum worker'
  union all
  select null, p.gid, extract(epoch from clock_timestamp() - p.prepared)::float8
    from pg_catalog.pg_prepared_xacts p where p.database = current_database()
)
select h.pid, left(h.who, 63) as who, h.age_s, count(*) filter (where h.age_s is null) over () as unseen
  from holders h
 order by h.age_s desc nulls last
 limit 1
"""
"""The oldest transaction here that holds back vacuum, also a prepared one; $1 the backends that are ours."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A transaction that holds back clean-up.

    `pid`: its backend, None for a prepared transaction. `who`: its application name, or the prepared transaction's.
    `age_s`: seconds since it began, or since it was prepared.
    """

    pid: int | None
    who: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Pressure:
    """How others fare at one moment.

    `waiting`: sessions of this database that wait for locks. `oldest`: the oldest transaction that is seen to hold
    back clean-up. `unseen`: transactions that do, and whose age this role may not know.
    """

    waiting: int
    oldest: Holder | None
    unseen: int


async def sample(connection: Any, *, ours: frozenset[int] = frozenset()) -> Pressure:
    """Return how others fare now. Takes no lock and waits for none.

    Arguments:
        connection: in any transaction, or in none; it does not count itself.
        ours: backends of this program, which do not count as holders.
    """
    waiting = await connection.fetchval(WAITING)
    record = await connection.fetchrow(HOLDERS, list(ours))
    if record is None:
        return Pressure(waiting, None, 0)
    oldest = None if record["age_s"] is None else Holder(record["pid"], record["who"] or "", record["age_s"])
    return Pressure(waiting, oldest, record["unseen"])
