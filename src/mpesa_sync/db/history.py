"""SQL of what happened to one bar through mpesa-sync: its last change, by a person or by a migration. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

LAST_CHANGE: Final = """
select * from (
  (select o.started_at as at, o.kind, o.actor, o.reason, o.id as operation_id, o.before::text as before,
          o.after::text as after
     from mpesa_sync.operations o
    where o.bar_id = $1 and o.outcome = 'applied' and o.before is distinct from o.after
    order by o.started_at desc limit 1)
  union all
  (select j.changed_at, 'migration', coalesce(r.actor, ''), coalesce(r.reason, ''), j.run_id,
          jsonb_build_object('mpesa_enabled', j.previous)::text, jsonb_build_object('mpesa_enabled', j.current)::text
     from mpesa_sync.migration_journal j
     left join mpesa_sync.migration_runs r on r.id = j.run_id
    where j.bar_id = $1
    order by j.id desc limit 1)
) changes
 order by at desc limit 1
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that mpesa-sync made to one bar.

    `kind` is that of the operation, or `migration`; `operation_id` that of the operation or the run.
    `mpesa_enabled_before` and `_after` are the customer-facing flag.
    """

    at: datetime
    kind: str
    actor: str
    reason: str
    operation_id: UUID
    mpesa_enabled_before: bool | None
    mpesa_enabled_after: bool | None


async def last_change(connection: Any, bar_id: UUID) -> Change | None:
    """Return the last change of a bar that our history knows, None where it knows none."""
    record = await connection.fetchrow(LAST_CHANGE, bar_id)
    if record is None:
        return None
    return Change(
        at=record["at"],
        kind=record["kind"],
        actor=record["actor"],
        reason=record["reason"],
        operation_id=record["operation_id"],
        mpesa_enabled_before=_flag(record["before"]),
        mpesa_enabled_after=_flag(record["after"]),
    )


def _flag(state: str | None) -> bool | None:
    found = msgspec.json.decode(state) if state else {}
    flag = found.get("mpesa_enabled")
    return flag if isinstance(flag, bool) else None
