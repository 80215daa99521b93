"""SQL of `mpesa_sync.migration_quarantine`: bars that could not be corrected, and why (R2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

_SET_ASIDE: Final = """
insert into mpesa_sync.migration_quarantine as q (bar_id, run_id, code, sqlstate, message, attempts)
select * from unnest($1::uuid[], array_fill($2::uuid, array[cardinality($1::uuid[])]), $3::text[], $4::text[],
                     $5::text[], $6::integer[])
on conflict (bar_id) where resolved_at is null do update
   set run_id = excluded.run_id, code = excluded.code, sqlstate = excluded.sqlstate, message = excluded.message,
       attempts = q.attempts + excluded.attempts, last_seen = clock_timestamp()
"""
_SETTLE: Final = """
update mpesa_sync.migration_quarantine set resolved_at = clock_timestamp(), resolved_by = $1
 where resolved_at is null and bar_id = any($2::uuid[])
"""
_OPEN: Final = """
select q.id, q.bar_id, q.run_id, q.code, q.sqlstate, q.message, q.attempts, q.first_seen, q.last_seen
  from mpesa_sync.migration_quarantine q
 where q.resolved_at is null and ($1::uuid is null or q.run_id = $1) and q.id > $2
 order by q.id limit $3
"""
_COUNT: Final = """
select count(*) from mpesa_sync.migration_quarantine q
 where q.resolved_at is null and ($1::uuid is null or q.run_id = $1)
"""
_OF_BAR: Final = """
select q.id, q.bar_id, q.run_id, q.code, q.sqlstate, q.message, q.attempts, q.first_seen, q.last_seen
  from mpesa_sync.migration_quarantine q
 where q.resolved_at is null and q.bar_id = $1
"""
_OF_RUN: Final = """
select bar_id, code, sqlstate, message, attempts from mpesa_sync.migration_quarantine
 where run_id = $1 and resolved_at is null order by id
"""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A bar in the quarantine. `attempts`: over all runs; `run_id`: the last that met it."""

    id: int
    bar_id: UUID
    run_id: UUID
    code: str
    sqlstate: str | None
    message: str
    attempts: int
    first_seen: datetime
    last_seen: datetime


async def set_aside(connection: Any, run_id: UUID, records: Sequence[tuple[UUID, str, str | None, str, int]]) -> None:
    """Put bars into the quarantine: bar, code, SQLSTATE, message, attempts. One that is there is met once more."""
    columns = [list(column) for column in zip(*records, strict=True)]
    await connection.execute(_SET_ASIDE, columns[0], run_id, *columns[1:])


async def settle(connection: Any, run_id: UUID, bar_ids: Sequence[UUID]) -> None:
    """Close the entries of bars that need no correction any more, where they have any."""
    await connection.execute(_SETTLE, run_id, bar_ids)


async def page(connection: Any, *, run_id: UUID | None = None, after: int = 0, limit: int = 50) -> list[SetAside]:
    """Return open entries, the oldest first.

    Arguments:
        run_id: only those that this run met last.
        after: the `id` of the last one seen.
    """
    return [SetAside(**record) for record in await connection.fetch(_OPEN, run_id, after, limit)]


async def of_bar(connection: Any, bar_id: UUID) -> SetAside | None:
    """Return the open entry of a bar; None where it is not in the quarantine."""
    record = await connection.fetchrow(_OF_BAR, bar_id)
    return None if record is None else SetAside(**record)


async def count(connection: Any, *, run_id: UUID | None = None) -> int:
    """Return how many entries are open."""
    return int(await connection.fetchval(_COUNT, run_id))


async def of_run(connection: Any, run_id: UUID) -> list[tuple[UUID, str, str | None, str, int]]:
    """Return what a run has set aside and what is open still."""
    return [tuple(record) for record in await connection.fetch(_OF_RUN, run_id)]
