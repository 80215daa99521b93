"""SQL of `mpesa_sync.alerts`: one open alert per bar and kind, counted by occurrence, until it is resolved (R5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

COUNT: Final = "select mpesa_sync.count_alert_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
RESOLVE_ANSWERED: Final = """
update mpesa_sync.alerts a
   set state = 'resolved', resolved_at = now(), resolved_by = 'operation:' || s.answered_by
  from (select (select o.id from mpesa_sync.operations o
                 where o.bar_id = l.bar_id and o.outcome = 'applied' and o.kind in ('switch', 'repair', 'settings')
                   and o.started_at > greatest(l.last_seen, clock_timestamp() - $3::interval)
                 order by o.started_at limit 1) as answered_by
          from mpesa_sync.alerts l where l.id = $1) s
 where a.id = $1 and s.answered_by is not null and a.state <> 'resolved' and a.kind = any($2::text[])
"""
RESOLVE_OF_BAR: Final = """
update mpesa_sync.alerts set state = 'resolved', resolved_at = now(), resolved_by = $3
 where id in (
   select id from mpesa_sync.alerts
    where bar_id is not distinct from $1 and state <> 'resolved' and kind = any($2::text[])
      for update skip locked)
"""
"""Whoever holds the row of an alert must not hold up a venue's change: `RESOLVE_LEFT_OPEN` comes later."""
RESOLVE_LEFT_OPEN: Final = """
update mpesa_sync.alerts a
   set state = 'resolved', resolved_at = now(), resolved_by = 'operation:' || s.answered_by
  from (
    select a.id, (select o.id from mpesa_sync.operations o
                   where o.bar_id = a.bar_id and o.outcome = 'applied' and o.kind in ('switch', 'repair', 'settings')
                     and o.started_at > a.last_seen + interval '1 minute'
                   order by o.started_at limit 1) as answered_by
      from mpesa_sync.alerts a
     where a.state <> 'resolved' and a.kind = any($1::text[])
       for update of a skip locked) s
 where a.id = s.id and s.answered_by is not null
"""
RESOLVE_OF_OPERATION: Final = """
update mpesa_sync.alerts set state = 'resolved', resolved_at = now(), resolved_by = 'operation:' || $2::uuid
 where bar_id = $1 and operation_id = $2 and kind = $3 and state <> 'resolved'
"""
ACKNOWLEDGE: Final = """
update mpesa_sync.alerts set state = 'acknowledged', acknowledged_at = now(), acknowledged_by = $2
 where id = $1 and state = 'firing'
"""
RESOLVE_ONE: Final = """
update mpesa_sync.alerts set state = 'resolved', resolved_at = now(), resolved_by = $2, note = $3
 where id = $1 and state <> 'resolved'
returning true
"""
LOCK: Final = "select 1 from mpesa_sync.alerts where id = $1 for update"
FIND: Final = "select * from mpesa_sync.alerts where id = $1"
STARTING_WITH: Final = "select * from mpesa_sync.alerts where starts_with(id::text, $1) order by id limit 2"
OPEN_OF_BAR: Final = "select * from mpesa_sync.alerts where bar_id = $1 and state <> 'resolved' order by first_seen"
PAGE: Final = """
select * from mpesa_sync.alerts a
 where a.state = any($1::text[])
   and ($2::uuid is null or a.bar_id = $2)
   and ($3::text is null or a.kind = $3)
   and ($4::timestamptz is null or (a.last_seen, a.id) < ($4, $5::uuid))
 order by a.last_seen desc, a.id desc limit $6
"""
NAMES: Final = "select bar_id, name as bar_name, slug as bar_slug from mpesa_sync.bar_names_v1($1::uuid[])"
COUNTS: Final = "select kind, state, count(*) as alerts from mpesa_sync.alerts group by kind, state"
PRUNE_OCCURRENCES: Final = """
with gone as (
  delete from mpesa_sync.alert_occurrences where id in (
    select id from mpesa_sync.alert_occurrences where counted_at < now() - interval '90 days' limit 10000)
  returning 1
)
select count(*) from gone
"""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """Something that a person must know of, once or, where it was collected, several times.

    `id` makes it count once, however often it is sent. `bar_id` None: it is about no bar. `cause` is a code, `sqlstate`
    that of the database where it gave one, `what_to_do` a text for people.
    """

    id: UUID
    bar_id: UUID | None
    kind: str
    cause: str
    sqlstate: str | None
    what_to_do: str
    operation_id: UUID | None
    first_seen: datetime
    last_seen: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """One episode of an alert.

    `bar_name` and `bar_slug` are None where it is about no bar, or the bar is gone, or bars cannot be read.
    """

    id: UUID
    bar_id: UUID | None
    bar_name: str | None
    bar_slug: str | None
    kind: str
    state: str
    cause: str
    sqlstate: str | None
    what_to_do: str
    operation_id: UUID | None
    count: int
    episode: int
    first_seen: datetime
    last_seen: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    note: str


async def count_occurrence(connection: Any, occurrence: Occurrence) -> UUID | None:
    """Open an alert, or count more for the one that is open; return its id, None where this was counted before."""
    alert_id: UUID | None = await connection.fetchval(
        COUNT,
        occurrence.id,
        occurrence.bar_id,
        occurrence.kind,
        occurrence.cause,
        occurrence.sqlstate,
        occurrence.what_to_do,
        occurrence.operation_id,
        occurrence.count,
        occurrence.first_seen,
        occurrence.last_seen,
    )
    return alert_id


async def resolve_answered(connection: Any, alert_id: UUID, kinds: Sequence[str], *, age: timedelta) -> None:
    """Resolve an alert of one of `kinds` where a success of its bar began after everything that is counted in it.

    Arguments:
        age: how long ago that was which is counted only now, by our clock, which may differ from the server's: a
            success that is older than this answers nothing.
    """
    await connection.execute(RESOLVE_ANSWERED, alert_id, list(kinds), age)


async def resolve_left_open(connection: Any, kinds: Sequence[str]) -> None:
    """Resolve the alerts of these kinds that a success has answered while their rows were held by somebody.

    Only by one that came a minute later: the clocks of programs and of the server may differ by less.
    """
    await connection.execute(RESOLVE_LEFT_OPEN, list(kinds))


async def resolve_of_operation(connection: Any, bar_id: UUID, operation_id: UUID, kind: str) -> None:
    """Resolve the open alert of this kind that is about an operation, by what is known of that operation."""
    await connection.execute(RESOLVE_OF_OPERATION, bar_id, operation_id, kind)


async def resolve(connection: Any, bar_id: UUID | None, kinds: Sequence[str], *, by: str) -> None:
    """Resolve the open alerts of these kinds, in the transaction of the success that was verified.

    Arguments:
        by: what answered them, for example `operation:<id>`.
    """
    await connection.execute(RESOLVE_OF_BAR, bar_id, list(kinds), by)


async def lock(connection: Any, alert_id: UUID) -> StoredAlert | None:
    """Lock an alert and return it as it is then; None: there is none."""
    await connection.execute(LOCK, alert_id)
    return await find(connection, alert_id)


async def acknowledge(connection: Any, alert_id: UUID, *, actor: str) -> None:
    """Acknowledge an alert that is firing; another stays as it is."""
    await connection.execute(ACKNOWLEDGE, alert_id, actor)


async def resolve_one(connection: Any, alert_id: UUID, *, actor: str, note: str) -> bool:
    """Resolve an alert by hand; False where it was resolved already, or there is none."""
    return bool(await connection.fetchval(RESOLVE_ONE, alert_id, actor, note))


async def find(connection: Any, alert_id: UUID) -> StoredAlert | None:
    """Return an alert, None where there is none of this id."""
    found = await _named(connection, await connection.fetch(FIND, alert_id))
    return found[0] if found else None


async def starting_with(connection: Any, prefix: str) -> list[StoredAlert]:
    """Return the alerts whose id begins so, at most two: enough to know whether it names one."""
    return await _named(connection, await connection.fetch(STARTING_WITH, prefix))


async def open_of_bar(connection: Any, bar_id: UUID) -> list[StoredAlert]:
    """Return the open alerts of a bar, oldest first."""
    return await _named(connection, await connection.fetch(OPEN_OF_BAR, bar_id))


async def page(
    connection: Any,
    *,
    states: Sequence[str],
    bar_id: UUID | None = None,
    kind: str | None = None,
    before: tuple[datetime, UUID] | None = None,
    limit: int = 50,
) -> list[StoredAlert]:
    """Return alerts, those seen last first.

    Arguments:
        states: of `firing`, `acknowledged`, `resolved`.
        before: `last_seen` and `id` of the last alert of the page before; None: the first page.
        limit: the most alerts of a page, at least 1.
    """
    last_seen, last_id = before or (None, None)
    records = await connection.fetch(PAGE, list(states), bar_id, kind, last_seen, last_id, limit)
    return await _named(connection, records)


async def counts(connection: Any) -> dict[tuple[str, str], int]:
    """Return how many alerts there are of each kind and state."""
    return {(record["kind"], record["state"]): record["alerts"] for record in await connection.fetch(COUNTS)}


async def prune_occurrences(connection: Any) -> int:
    """Forget what was counted more than 90 days ago, at most 10,000; return how many were forgotten."""
    return int(await connection.fetchval(PRUNE_OCCURRENCES))


async def _named(connection: Any, records: Sequence[Any]) -> list[StoredAlert]:
    """Return the alerts with the names of their bars, as far as those can be read."""
    bars = {record["bar_id"] for record in records} - {None}
    found = await connection.fetch(NAMES, list(bars)) if bars else []
    names = {record["bar_id"]: dict(record) for record in found}
    nameless = {"bar_name": None, "bar_slug": None}
    return [_alert(dict(record) | names.get(record["bar_id"], nameless)) for record in records]


def _alert(facts: dict[str, Any]) -> StoredAlert:
    return StoredAlert(**{name: facts[name] for name in StoredAlert.__slots__})
