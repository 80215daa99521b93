"""Pages of bars in the order of their ids, with those that have drifted: detection in slices. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

FIRST_PAGE: Final = """
with page as materialized (
  select b.id, coalesce(b.mpesa_enabled, false) as shown, row_number() over (order by b.id) as position
    from public.bars b
   order by b.id limit $1
), drifted as (
  select p.id, p.position, v.authority, v.has_rows
    from page p
   cross join lateral (
     -- an aggregate, which is looked up by bar: of an "exists" the planner makes one hash of all credentials
     select coalesce(bool_or(c.is_active), false) as authority, count(*) > 0 as has_rows
       from public.mpesa_credentials c
      where c.tenant_id = p.id and c.environment in ('sandbox', 'production')
   ) v
   where p.shown <> v.authority
)
select d.id, d.position, d.authority, o.holds_secrets and not d.has_rows as stale_authority
  from drifted d
  join public.bars b on b.id = d.id
 cross join (
   select null::text as mpesa_consumer_key_encrypted, null::text as mpesa_consumer_secret_encrypted,
          null::text as mpesa_passkey_encrypted
 ) absent
 cross join lateral (
   -- a column that this shape of bars lacks is found one level further out, in "absent"
   select coalesce(nullif(btrim(mpesa_consumer_key_encrypted::text), ''),
                   nullif(btrim(mpesa_consumer_secret_encrypted::text), ''),
                   nullif(btrim(mpesa_passkey_encrypted::text), '')) is not null as holds_secrets
     from (select b.*) present
 ) o
union all
select (select id from page order by id desc limit 1), (select count(*) from page), null, null
 order by position, authority nulls last
"""
"""The first bars by id: those that have drifted, with their place in the page, then the last bar and how many there
are: one statement, so one moment. $1 how many at most. An empty page is one row with no bar."""
NEXT_PAGE: Final = FIRST_PAGE.replace("order by b.id limit $1", "where b.id > $2 order by b.id limit $1")
"""The same after bar $2. A bar that is gone, or never was, does as well: ids are only compared."""


@dataclass(frozen=True, slots=True)
class Drifted:
    """A bar that has drifted: its place in the page from 1, what it should show, and whether that may be wrong."""

    bar_id: UUID
    position: int
    authority: bool
    stale_authority: bool


@dataclass(frozen=True, slots=True)
class Page:
    """Some bars in the order of their ids. `last_bar` None: there are none."""

    last_bar: UUID | None
    bars: int
    drifted: tuple[Drifted, ...]


async def page(connection: Any, after: UUID | None, limit: int) -> Page:
    """Return the next bars after one, with those that have drifted (R2.1)."""
    if after is None:
        *records, end = await connection.fetch(FIRST_PAGE, limit)
    else:
        *records, end = await connection.fetch(NEXT_PAGE, limit, after)
    drifted = (Drifted(r["id"], r["position"], r["authority"], bool(r["stale_authority"])) for r in records)
    return Page(end["id"], end["position"], tuple(drifted))
