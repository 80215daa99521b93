"""SQL of what happened to one bar through mpesa-sync: its last change, by a person or by a migration. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

RECENT: Final = """
select * from (
  (select o.started_at as at, o.kind, o.actor, o.reason, o.id as operation_id, o.before::text as before,
          o.after::text as after, o.source_address, o.client
     from mpesa_sync.operations o
    where o.bar_id = $1 and o.outcome = 'applied' and o.before is distinct from o.after
      and (not $3 or o.after ? 'mpesa_enabled')
    order by o.started_at desc limit $2)
  union all
  (select j.changed_at, 'migration', coalesce(r.actor, ''), coalesce(r.reason, ''), j.run_id,
          jsonb_build_object('mpesa_enabled', j.previous)::text, jsonb_build_object('mpesa_enabled', j.current)::text,
          '', ''
     from mpesa_sync.migration_journal j
     left join mpesa_sync.migration_runs r on r.id = j.run_id
    where j.bar_id = $1 and j.field = 'mpesa_enabled'
    order by j.id desc limit $2)
) changes
 order by at desc, kind = 'settings' desc limit $2
"""
NEWEST_WRITE: Final = """
select greatest(
         (select (to_jsonb(b) ->> 'updated_at')::timestamptz from public.bars b where b.id = $1),
         (select max((to_jsonb(c) ->> 'updated_at')::timestamptz) from public.mpesa_credentials c
           where c.tenant_id = $1))
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A change that mpesa-sync made to one bar.

    `kind` is that of the operation, or `migration`; `operation_id` that of the operation or the run.
    `before` and `after` are what the audit keeps of both: `credentials` (`is_active` by environment), `mpesa_enabled`,
    and `saved` for credentials that were stored. `mpesa_enabled_before` and `_after` are the customer-facing flag.
    `address` and `client` are from where it was asked, "" where that is not known.
    """

    at: datetime
    kind: str
    actor: str
    reason: str
    operation_id: UUID
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    address: str = ""
    client: str = ""

    @property
    def mpesa_enabled_before(self) -> bool | None:
        """Return the customer-facing flag before the change."""
        return _flag(self.before)

    @property
    def mpesa_enabled_after(self) -> bool | None:
        """Return the customer-facing flag after the change."""
        return _flag(self.after)


async def last_change(connection: Any, bar_id: UUID) -> Change | None:
    """Return the last change of a bar's status that our history knows, None where it knows none."""
    records = await connection.fetch(RECENT, bar_id, 1, True)
    return _change(records[0]) if records else None


async def recent(connection: Any, bar_id: UUID, *, limit: int) -> list[Change]:
    """Return the last changes of a bar that our history knows, the latest first, at most `limit`."""
    return [_change(record) for record in await connection.fetch(RECENT, bar_id, limit, False)]


async def newest_write(connection: Any, bar_id: UUID) -> datetime | None:
    """Return when a bar or its credentials were last written, by whoever, as the platform's `updated_at` says it.

    None where these columns are absent or empty.
    """
    written: datetime | None = await connection.fetchval(NEWEST_WRITE, bar_id)
    return written


def _change(record: Any) -> Change:
    return Change(
        at=record["at"],
        kind=record["kind"],
        actor=record["actor"],
        reason=record["reason"],
        operation_id=record["operation_id"],
        before=_state(record["before"]),
        after=_state(record["after"]),
        address=record["source_address"],
        client=record["client"],
    )


def _state(text: str | None) -> Mapping[str, Any]:
    found = msgspec.json.decode(text) if text else {}
    return found if isinstance(found, dict) else {}


def _flag(state: Mapping[str, Any]) -> bool | None:
    flag = state.get("mpesa_enabled")
    return flag if isinstance(flag, bool) else None
