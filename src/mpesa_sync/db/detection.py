"""Reading facts: of one bar, and of all bars with what has drifted. Read-only, on every shape of the platform.

Columns that a shape may lack are found by scope: inside `(select b.*)` where the table has them, one level further
out, in `absent`, where it has not. So one fixed statement serves every shape, and nothing is built.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db.drifted import DriftedBar, FleetSummary, Versions
from mpesa_sync.domain.availability import BarWarning
from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import Environment

__all__ = [
    "DRIFT",
    "FACTS_OF_BAR",
    "OPTIONAL_COLUMNS",
    "STILL_DRIFTED",
    "DriftedBar",
    "FleetSummary",
    "NamedFacts",
    "Versions",
    "facts_of",
    "named_warnings",
    "scan",
    "still_drifted",
]

OPTIONAL_COLUMNS: Final = """
   cross join (
     select null::boolean as active, null::boolean as payment_mpesa_enabled, null::text as mpesa_environment,
            null::boolean as payment_card_enabled, null::boolean as payment_cash_enabled, null::text as slug,
            null::timestamptz as updated_at, null::text as mpesa_consumer_key_encrypted,
            null::text as mpesa_consumer_secret_encrypted, null::text as mpesa_passkey_encrypted
   ) absent
   cross join lateral (
     select active, payment_mpesa_enabled, mpesa_environment::text, payment_card_enabled, payment_cash_enabled,
            slug::text,
            case when updated_at between '0001-01-02' and '9999-12-30' then updated_at end as updated_at,
            coalesce(nullif(btrim(mpesa_consumer_key_encrypted::text), ''),
                     nullif(btrim(mpesa_consumer_secret_encrypted::text), ''),
                     nullif(btrim(mpesa_passkey_encrypted::text), '')) is not null as holds_secrets
       from (select b.*) present
   ) o
"""
"""To be joined to `public.bars b`: as `o`, the columns that a shape of the platform may lack."""

_FACTS_FROM: Final = (
    """
    from public.bars b
    left join (
      select c.tenant_id,
             count(*) filter (where c.environment = 'sandbox') > 0 as has_sandbox,
             count(*) filter (where c.environment = 'production') > 0 as has_production,
             bool_or(c.is_active) filter (where c.environment = 'sandbox') as sandbox_active,
             bool_or(c.is_active) filter (where c.environment = 'production') as production_active
        from public.mpesa_credentials c
       where c.environment in ('sandbox', 'production')
       group by c.tenant_id
    ) c on c.tenant_id = b.id
"""
    + OPTIONAL_COLUMNS
)

FACTS_OF_BAR: Final = (
    """
  select b.id, b.name, o.slug, b.mpesa_enabled, o.active, o.payment_mpesa_enabled, o.mpesa_environment,
         o.payment_card_enabled, o.payment_cash_enabled, o.holds_secrets,
         c.has_sandbox, c.has_production, c.sandbox_active, c.production_active
"""
    + _FACTS_FROM
    + " where b.id = $1"
)

_FACTS: Final = (
    """
with facts as materialized (
  select b.id, o.slug, b.mpesa_enabled, o.updated_at, v.authority,
         coalesce(b.mpesa_enabled, false) as shown,
         (case when b.mpesa_enabled is null and not v.authority then 1 else 0 end)
         | (case when c.sandbox_active and c.production_active then 2 else 0 end)
         | (case when c.sandbox_active and not $1 then 4 else 0 end)
         | (case when o.active = false and v.authority then 8 else 0 end)
         | (case when o.payment_mpesa_enabled <> coalesce(b.mpesa_enabled, false) then 16 else 0 end)
         | (case when o.mpesa_environment
                      <> case when c.production_active then 'production' when c.sandbox_active then 'sandbox' end
                 then 32 else 0 end)
         | (case when o.holds_secrets then case when c.tenant_id is null then 64 else 128 end else 0 end)
         | (case when coalesce(o.payment_mpesa_enabled, false) <> v.authority then 256 else 0 end) as warnings
"""
    + _FACTS_FROM
    + """
   cross join lateral (
     select coalesce(c.sandbox_active, false) or coalesce(c.production_active, false) as authority
   ) v
)
"""
)
_COUNTS: Final = """
select true, count(*),
       count(*) filter (where authority and not shown), count(*) filter (where shown and not authority),
       array[count(*) filter (where warnings & 1 <> 0), count(*) filter (where warnings & 2 <> 0),
             count(*) filter (where warnings & 4 <> 0), count(*) filter (where warnings & 8 <> 0),
             count(*) filter (where warnings & 16 <> 0), count(*) filter (where warnings & 32 <> 0),
             count(*) filter (where warnings & 64 <> 0)],
       null, null, null, null, null, null
"""
_NO_COUNTS: Final = """
select false as is_summary, null::bigint as bars, null::bigint as hidden, null::bigint as exposed,
       null::bigint[] as counts,
"""

DRIFT: Final = (
    _FACTS
    + _NO_COUNTS
    + " id, slug, mpesa_enabled, authority, warnings, updated_at from facts where shown <> authority union all"
    + _COUNTS
    + " from facts"
)
"""Every drifted bar, then one row that counts all bars: one statement, so one moment. $1 whether sandbox may serve."""
DRIFT_OR_LEGACY: Final = DRIFT.replace("shown <> authority", "(shown <> authority or warnings & 256 <> 0)")
"""The same, and every bar whose `payment_mpesa_enabled` is not as the authority. Only for a shape that has it."""
DRIFT_WITH_VERSIONS: Final = (
    _FACTS
    + _NO_COUNTS
    + """
       f.id, f.slug, f.mpesa_enabled, f.authority, f.warnings, f.updated_at,
       b.xmin::text::bigint as bar_version, c.ids, c.versions
  from facts f
  join public.bars b on b.id = f.id
 cross join lateral (
   -- an aggregate without groups: asked for the drifted bars alone, by the index on tenant_id
   select coalesce(array_agg(c.id order by c.id), '{}') as ids,
          coalesce(array_agg(c.xmin::text::bigint order by c.id), '{}') as versions
     from public.mpesa_credentials c
    where c.tenant_id = f.id and c.environment in ('sandbox', 'production')
 ) c
 where f.shown <> f.authority
union all
"""
    + _COUNTS
    + ", null, null, null from facts"
)
"""`DRIFT` with which rows it was read from, and in which version."""
DRIFT_OR_LEGACY_WITH_VERSIONS: Final = DRIFT_WITH_VERSIONS.replace(
    "f.shown <> f.authority", "(f.shown <> f.authority or f.warnings & 256 <> 0)"
)
_LOOKS: Final = {
    (False, False): DRIFT,
    (False, True): DRIFT_WITH_VERSIONS,
    (True, False): DRIFT_OR_LEGACY,
    (True, True): DRIFT_OR_LEGACY_WITH_VERSIONS,
}

STILL_DRIFTED: Final = """
select b.id, v.authority
  from public.bars b
 cross join lateral (
   -- an aggregate, which is looked up by bar: of an "exists" the planner makes one hash of all credentials
   select coalesce(bool_or(c.is_active), false) as authority
     from public.mpesa_credentials c
    where c.tenant_id = b.id and c.environment in ('sandbox', 'production')
 ) v
 where b.id = any($1::uuid[]) and coalesce(b.mpesa_enabled, false) <> v.authority
 order by b.id
"""
STILL_DRIFTED_OR_LEGACY: Final = STILL_DRIFTED.replace(
    "coalesce(b.mpesa_enabled, false) <> v.authority",
    "v.authority <> any(array[coalesce(b.mpesa_enabled, false), coalesce(b.payment_mpesa_enabled, false)])",
)

_PREFETCH_ROWS: Final = 5_000
_HOLDS_BOTH: Final = 128
"""Beside the warnings in the bit mask of `DRIFT`: no warning yet, only a key can tell (R2, stale authority)."""
_LEGACY: Final = 256
"""Likewise: `payment_mpesa_enabled` is not as the authority; without meaning where this shape has no such column."""


@cache
def named_warnings(bits: int) -> tuple[BarWarning, ...]:
    """Return the warnings that a bit mask of `DRIFT` means."""
    return tuple(warning for position, warning in enumerate(BarWarning) if bits & (1 << position))


async def scan(
    connection: Any,
    *,
    allow_sandbox: bool,
    each: Callable[[DriftedBar], object],
    with_versions: bool = False,
    with_legacy: bool = False,
) -> FleetSummary:
    """Hand every drifted bar (R2.1) to `each` and return the counts over all bars, of the same moment.

    The connection must be in a transaction. The cursor is drained here, so `each` must be quick and must not use
    the connection.

    Arguments:
        with_versions: read also which rows each drifted bar was read from; that costs for drifted bars alone.
        with_legacy: hand on also bars whose `payment_mpesa_enabled` alone is not as the authority; the counts are
            without them. This shape must have the column.
    """
    # Without a name: behind a pooler a name may be another program's.
    statement = await connection.prepare(_LOOKS[with_legacy, with_versions], name="")
    cursor = await statement.cursor(allow_sandbox)
    summary = None
    upcoming = asyncio.create_task(cursor.fetch(_PREFETCH_ROWS))
    try:
        while records := await upcoming:
            upcoming = asyncio.create_task(cursor.fetch(_PREFETCH_ROWS))
            await asyncio.sleep(0)  # it is sent now: the server works while these are taken in
            for is_summary, bars, hidden, exposed, warned, bar_id, slug, enabled, authority, bits, at, *rows in records:
                if is_summary:
                    summary = FleetSummary(bars, hidden, exposed, dict(zip(BarWarning, warned, strict=True)))
                    break
                versions = _versions(*rows) if rows else None
                both, legacy = bits & _HOLDS_BOTH != 0, bits & _LEGACY != 0
                each(DriftedBar(bar_id, slug, enabled, authority, named_warnings(bits), at, both, legacy, versions))
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
    assert summary is not None, "the statement always ends with the row that counts all bars"
    return summary


def _versions(bar: int, ids: Sequence[UUID], credentials: Sequence[int]) -> Versions:
    return Versions(bar, tuple(ids), tuple(credentials))


async def still_drifted(
    connection: Any, bar_ids: Sequence[UUID], *, with_legacy: bool = False
) -> list[tuple[UUID, bool]]:
    """Return which of these bars are drifted now, with their authority: the second look.

    Arguments:
        with_legacy: as for `scan`.
    """
    records = await connection.fetch(STILL_DRIFTED_OR_LEGACY if with_legacy else STILL_DRIFTED, bar_ids)
    return [(record["id"], record["authority"]) for record in records]


@dataclass(frozen=True, slots=True)
class NamedFacts:
    """The facts of one bar, with the names that a person knows it by."""

    name: str
    slug: str | None
    facts: BarFacts


async def facts_of(connection: Any, bar_id: UUID) -> NamedFacts | None:
    """Return the facts of one bar, read in one statement; None where there is no such bar."""
    record = await connection.fetchrow(FACTS_OF_BAR, bar_id)
    if record is None:
        return None
    rows = tuple(
        CredentialsRow(environment, record[f"{environment}_active"])
        for environment in Environment
        if record[f"has_{environment}"]
    )
    facts = BarFacts(
        bar_id=bar_id,
        mpesa_enabled=record["mpesa_enabled"],
        rows=rows,
        active=record["active"],
        card_enabled=record["payment_card_enabled"],
        cash_enabled=record["payment_cash_enabled"],
        legacy_mpesa_enabled=record["payment_mpesa_enabled"],
        named_environment=record["mpesa_environment"],
        bar_holds_secrets=record["holds_secrets"],
    )
    return NamedFacts(record["name"], record["slug"], facts)
