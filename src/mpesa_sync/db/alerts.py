"""SQL of `mpesa_sync.alerts`: one open alert per bar and kind."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

RAISE: Final = """
insert into mpesa_sync.alerts as a (bar_id, kind, cause, sqlstate, what_to_do, operation_id)
values ($1, $2, $3, $4, $5, $6)
on conflict (bar_id, kind) where state <> 'resolved'
do update set count = a.count + 1, last_seen = now(), cause = excluded.cause, sqlstate = excluded.sqlstate,
              what_to_do = excluded.what_to_do, operation_id = excluded.operation_id
"""
RESOLVE: Final = """
update mpesa_sync.alerts set state = 'resolved', resolved_at = now()
 where bar_id = $1 and state <> 'resolved' and kind = any($2::text[])
"""
OPEN_OF_BAR: Final = """
select kind, state, cause, sqlstate, what_to_do, operation_id, count, first_seen, last_seen
  from mpesa_sync.alerts where bar_id = $1 and state <> 'resolved' order by first_seen
"""


async def raise_or_count(
    connection: Any,
    *,
    bar_id: UUID | None,
    kind: str,
    cause: str,
    sqlstate: str | None,
    what_to_do: str,
    operation_id: UUID | None,
) -> None:
    """Open an alert, or count one more for the one that is open (R5.2)."""
    await connection.execute(RAISE, bar_id, kind, cause, sqlstate, what_to_do, operation_id)


async def resolve(connection: Any, bar_id: UUID, kinds: list[str]) -> None:
    """Resolve the open alerts of these kinds, in the transaction of the success that was verified."""
    await connection.execute(RESOLVE, bar_id, kinds)


async def open_of_bar(connection: Any, bar_id: UUID) -> list[Any]:
    """Return the open alerts of a bar, oldest first."""
    return list(await connection.fetch(OPEN_OF_BAR, bar_id))
