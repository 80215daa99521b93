"""SQL of the overview of all venues: counts by state, and pages of venues in the order of their ids. Reads only.

A state is what the rule (spec 2) says as far as SQL sees: whether stored secrets open, only a key can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db.detection import OPTIONAL_COLUMNS
from mpesa_sync.db.session import Begin


class State(StrEnum):
    """Of one venue: on in every stored flag, with three secrets; or the reason of the rule why M-Pesa is hidden."""

    ON = "on"
    BAR_INACTIVE = "bar_inactive"
    NO_CREDENTIALS = "no_credentials"
    DRIFT_EXPOSED = "drift_exposed"
    SWITCHED_OFF = "switched_off"
    DRIFT_HIDDEN = "drift_hidden"
    SANDBOX_NOT_ALLOWED = "sandbox_not_allowed"
    SECRETS_MISSING = "secrets_missing"
    """The rule calls it `secrets_malformed`, as it does secrets which only a key shows to be so."""


READ: Final = Begin(
    """
begin isolation level read committed, read only;
set local lock_timeout = '1s';
set local statement_timeout = '2s';
set local idle_in_transaction_session_timeout = '2s';
set local row_security = off;
set local plan_cache_mode = force_custom_plan;
""",
    budget_s=3.0,
)
"""How a look at all venues begins: for a page that somebody waits for, so it gives up before they do. It is planned for
what is asked: of a plan that does for every filter and search, the server would look at each venue's credentials."""

_FACTS: Final = """
       count(*) as rows,
       bool_or(c.is_active) filter (where c.environment = 'sandbox') as sandbox_active,
       bool_or(c.is_active) filter (where c.environment = 'production') as production_active,
       bool_or(c.is_active and s.is_whole) filter (where c.environment = 'sandbox') as sandbox_whole,
       bool_or(c.is_active and s.is_whole) filter (where c.environment = 'production') as production_whole
  from public.mpesa_credentials c
 cross join lateral (
   select least(octet_length(c.consumer_key_enc), octet_length(c.consumer_secret_enc),
                octet_length(c.passkey_enc)) > 0
          and num_nulls(c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc) = 0 as is_whole
 ) s
"""
_STATE: Final = """
 cross join lateral (
   select coalesce(b.mpesa_enabled, false) as shown,
          coalesce(c.sandbox_active, false) or coalesce(c.production_active, false) as authority
 ) v
 cross join lateral (
   select case
            when o.active = false then 'bar_inactive'
            when coalesce(c.rows, 0) = 0 then 'no_credentials'
            when v.shown and not v.authority then 'drift_exposed'
            when not v.authority then 'switched_off'
            when not v.shown then 'drift_hidden'
            when c.production_active is not true and not $1::boolean then 'sandbox_not_allowed'
            when not coalesce(case when c.production_active then c.production_whole else c.sandbox_whole end, false)
              then 'secrets_missing'
            else 'on'
          end as state
 ) r
"""
"""To be joined to a bar `b` with its optional columns `o` and its credentials `c`. $1 whether sandbox may serve."""

COUNTS: Final = (
    """
select r.state, v.authority, v.shown, count(*) as bars, clock_timestamp() as now
  from public.bars b
  left join (
    select c.tenant_id,
"""
    + _FACTS
    + """
     where c.environment in ('sandbox', 'production')
     group by c.tenant_id
  ) c on c.tenant_id = b.id
"""
    + OPTIONAL_COLUMNS
    + _STATE
    + " group by r.state, v.authority, v.shown"
)
PAGE: Final = (
    """
select b.id
  from public.bars b
 cross join lateral (
   -- an aggregate, which is looked up by bar
   select
"""
    + _FACTS
    + """
    where c.tenant_id = b.id and c.environment in ('sandbox', 'production')
 ) c
"""
    + OPTIONAL_COLUMNS
    + _STATE
    + """
 where ($2::uuid is null or b.id > $2)
   and ($3::text is null or r.state = $3)
   and ($4::text is null
        or case $4 when 'hidden' then v.authority and not v.shown else v.shown and not v.authority end)
   and ($5::text is null
        or strpos(lower(b.name::text) collate "C", lower($5) collate "C") > 0
        or strpos(lower(o.slug) collate "C", lower($5) collate "C") > 0
        or strpos(b.id::text collate "C", lower($5) collate "C") = 1)
 order by b.id limit $6
"""
)
"""$2 the bar after which the page begins, $3 a state, $4 a direction of drift, $5 what was searched for, $6 how many;
each NULL where it is not asked for."""


@dataclass(frozen=True, slots=True)
class FleetCounts:
    """All venues at one moment: by state, and drifted by direction, which a venue of any state may be."""

    at: datetime
    bars: int
    states: Mapping[State, int]
    hidden: int
    exposed: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Which venues are asked for.

    Arguments:
        state: those in this state; None: in any.
        direction: those that have drifted this way, `hidden` or `exposed`; None: whether drifted or not.
        words: those with this in their name or slug, or at the beginning of their id; "" for all.
        after: the venue that the page before ended with; None: the first page.
    """

    state: State | None = None
    direction: str | None = None
    words: str = ""
    after: UUID | None = None


async def counts(connection: Any, *, allow_sandbox: bool) -> FleetCounts:
    """Return how many venues are in which state, read in one statement."""
    records = await connection.fetch(COUNTS, allow_sandbox)
    states = dict.fromkeys(State, 0)
    for record in records:
        states[State(record["state"])] += record["bars"]
    return FleetCounts(
        at=records[0]["now"] if records else await connection.fetchval("select clock_timestamp()"),
        bars=sum(states.values()),
        states=states,
        hidden=sum(record["bars"] for record in records if record["authority"] and not record["shown"]),
        exposed=sum(record["bars"] for record in records if record["shown"] and not record["authority"]),
    )


async def page(connection: Any, asked: Asked, *, allow_sandbox: bool, limit: int) -> list[UUID]:
    """Return the ids of the next venues that are asked for, in their order, at most `limit`."""
    records = await connection.fetch(
        PAGE, allow_sandbox, asked.after, asked.state, asked.direction, asked.words or None, limit
    )
    return [record["id"] for record in records]
