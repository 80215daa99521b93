"""SQL of what a run of the migration is to correct, and of what another run has changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

BATCH: Final = """
select bar_id, expected, target from mpesa_sync.migration_candidates
 where run_id = $1 and round = $2 and bar_id > $3
 order by bar_id limit $4
"""
FIRST_BATCH: Final = """
select bar_id, expected, target from mpesa_sync.migration_candidates
 where run_id = $1 and round = $2 order by bar_id limit $3
"""
OF_THESE: Final = """
select c.bar_id from mpesa_sync.migration_candidates c
 where c.run_id = $1 and c.round = 0 and c.bar_id = any($2::uuid[])
"""
DROP: Final = "delete from mpesa_sync.migration_candidates where run_id = $1"
UNDOABLE: Final = """
select j.bar_id,
       count(*) filter (where j.field = 'mpesa_enabled') > 0
         and (array_agg(j.current order by j.id desc) filter (where j.field = 'mpesa_enabled'))[1] as expected,
       case when count(*) filter (where j.field = 'mpesa_enabled') = 0 then false
            else (array_agg(j.previous order by j.id) filter (where j.field = 'mpesa_enabled'))[1] end as target
  from mpesa_sync.migration_journal j
 where j.run_id = $1
 group by j.bar_id
"""
"""A bar of which only the older flag was set stands there as one whose newer flag is false and was false: whatever it
is, there is nothing of it to take back."""
_CANDIDATES: Final = ("run_id", "round", "bar_id", "expected", "target")


class Candidate(NamedTuple):
    """One bar that a run is to correct: to `target`, while `expected` is what decides."""

    bar_id: UUID
    expected: bool
    target: bool | None


async def add(connection: Any, run_id: UUID, number: int, candidates: Iterable[tuple[UUID, bool, bool | None]]) -> None:
    """Write down what a round of a run is to correct: bar, expected, target."""
    await connection.copy_records_to_table(
        "migration_candidates",
        schema_name="mpesa_sync",
        columns=_CANDIDATES,
        records=((run_id, number, *candidate) for candidate in candidates),
    )


async def after(connection: Any, run_id: UUID, number: int, cursor: UUID | None, limit: int) -> list[Candidate]:
    """Return the next candidates of a round, in the order of ids."""
    if cursor is None:
        records = await connection.fetch(FIRST_BATCH, run_id, number, limit)
    else:
        records = await connection.fetch(BATCH, run_id, number, cursor, limit)
    return [Candidate(*record) for record in records]


async def of_these(connection: Any, run_id: UUID, bar_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these bars were candidates of a run from its beginning."""
    return {record["bar_id"] for record in await connection.fetch(OF_THESE, run_id, bar_ids)}


async def drop(connection: Any, run_id: UUID) -> None:
    """Remove the candidates of a run that is over."""
    await connection.execute(DROP, run_id)


async def undoable(connection: Any, run_id: UUID) -> Sequence[tuple[UUID, bool, bool | None]]:
    """Return what a run has changed: each bar, the value that it left, and the value from before it.

    The same value twice: it has only set the older flag of the bar.
    """
    return [tuple(record) for record in await connection.fetch(UNDOABLE, run_id)]
