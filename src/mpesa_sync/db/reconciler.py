"""SQL of the reconciler: the row that says where the sweep over all bars stands, and the history of its cycles.

All times are the server's, so that a clock which jumps on one machine changes nothing; one of the server that was set
back makes a sweep due at once, never never.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

_ENSURE: Final = "insert into mpesa_sync.reconciler default values on conflict do nothing"
LOCK: Final = "select * from mpesa_sync.reconciler for update"
_NOW: Final = "select clock_timestamp() as now, mpesa_sync.epoch_v1() as epoch"
BEGIN: Final = """
update mpesa_sync.reconciler
   set cycle_started = clock_timestamp(), last_bar = null, again = false, epoch = $1, slices = 0, bars = 0, hidden = 0,
       exposed = 0, repaired = 0, failed = 0, left_alone = 0, postponed = 0, reported = 0
"""
LEASE: Final = """
update mpesa_sync.reconciler set lease_token = $1, lease_until = clock_timestamp() + $2::interval
returning cycle_started, last_bar, bars
"""
LAST_BARS: Final = "select bars from mpesa_sync.reconciler_cycles order by id desc limit 1"
HOLDS: Final = "select lease_token = $1 from mpesa_sync.reconciler for update"
SPEND: Final = """
update mpesa_sync.reconciler r
   set hour_started = case when h.is_over then clock_timestamp() else r.hour_started end,
       hour_repairs = case when h.is_over then 1 else r.hour_repairs + 1 end,
       repaired = r.repaired + case when $1::uuid is null then 0 else 1 end
  from (select coalesce(not (clock_timestamp() - s.hour_started between interval '0' and interval '1 hour'), true)
               as is_over, s.singleton
          from mpesa_sync.reconciler s) h
 where r.singleton = h.singleton and $2 > case when h.is_over then 0 else r.hour_repairs end
returning true
"""
"""One repair, of the budget $2 of the hour; of the cycle of the lease $1 where one is given. The row is locked before
(`HOLDS`), so nothing changes while it is decided."""
ADVANCE: Final = """
update mpesa_sync.reconciler
   set last_bar = $2, slices = slices + 1, bars = bars + $3, hidden = hidden + $4, exposed = exposed + $5,
       failed = failed + $6, left_alone = left_alone + $7, postponed = postponed + $8, reported = reported + $9,
       next_run = clock_timestamp() + $10::interval, lease_token = null, lease_until = null
 where lease_token = $1
returning true
"""
RECORD: Final = """
insert into mpesa_sync.reconciler_cycles (policy, started_at, finished_at, slices, bars, hidden, exposed, repaired,
                                          failed, left_alone, postponed, reported)
select $1, cycle_started, clock_timestamp(), slices, bars, hidden, exposed, repaired, failed, left_alone, postponed,
       reported
  from mpesa_sync.reconciler
returning *
"""
FINISH: Final = """
update mpesa_sync.reconciler
   set last_success = clock_timestamp(), last_bar = null, cycle_started = null, again = false,
       next_run = case when again then clock_timestamp()
                       else greatest(clock_timestamp(), cycle_started + $1::interval) end
"""
GIVE_BACK: Final = """
update mpesa_sync.reconciler set lease_token = null, lease_until = null where lease_token = $1
"""
ASK: Final = """
update mpesa_sync.reconciler set next_run = least(next_run, clock_timestamp()), again = cycle_started is not null
"""
STATE: Final = """
select r.*, clock_timestamp() as now, c.started_at, c.finished_at, c.hidden as last_hidden, c.exposed as last_exposed,
       c.repaired as last_repaired, c.bars as last_bars, i.installed_at,
       case when clock_timestamp() - r.hour_started between interval '0' and interval '1 hour' then r.hour_repairs
            else 0 end as spent
  from mpesa_sync.reconciler r
 cross join mpesa_sync.installation i
  left join lateral (select * from mpesa_sync.reconciler_cycles order by id desc limit 1) c on true
"""
TELL_BUDGET: Final = """
update mpesa_sync.reconciler set budget_told_at = clock_timestamp()
 where coalesce(not (clock_timestamp() - budget_told_at between interval '0' and $1::interval), true)
returning true
"""
IS_OPEN: Final = """
select exists (select 1 from mpesa_sync.alerts where bar_id is null and kind = $1 and state <> 'resolved')
"""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do one slice, after `last_bar`. `age_s`: for how long the cycle has been under way."""

    last_bar: UUID | None
    seen: int
    age_s: float


@dataclass(frozen=True, slots=True)
class State:
    """How the reconciler stands. Times are the server's; `last_*` are of the last cycle that came to its end.

    `success_age_s`: seconds since a cycle last came to its end; where none has, since `db init`; never below 0.
    `spent`: repairs in the hour that the budget is about.
    """

    now: datetime
    next_run: datetime
    last_success: datetime | None
    success_age_s: float
    is_under_way: bool
    spent: int
    last_bars: int | None
    last_hidden: int | None
    last_exposed: int | None
    last_repaired: int | None
    last_duration_s: float | None

    def is_due(self, cycle_s: float) -> bool:
        """Return whether the next slice is due; one that is far away belongs to a clock that was set back."""
        return not self.now < self.next_run <= self.now + timedelta(seconds=2 * cycle_s)


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle found and did, as it is kept in its history."""

    id: int
    bars: int
    hidden: int
    exposed: int
    repaired: int
    failed: int
    left_alone: int
    postponed: int
    reported: int
    duration_s: float


async def lease(
    connection: Any, token: UUID, *, lease_s: float, cycle_s: float, is_forced: bool = False
) -> Lease | None:
    """Take the right to do the next slice, and begin a cycle where none is under way.

    A place that was lost, or belongs to another history of the database, begins anew.

    Arguments:
        lease_s: after what time another process may take it over.
        cycle_s: how long a cycle should take; a next run further away than twice that is due.
        is_forced: also where it is not due.
    Returns:
        None where another process has it, or nothing is due.
    """
    row = await connection.fetchrow(LOCK)
    if row is None:
        await connection.execute(_ENSURE)
        row = await connection.fetchrow(LOCK)
    moment = await connection.fetchrow(_NOW)  # a statement of its own: after any wait for the row
    now, epoch = moment["now"], moment["epoch"]
    until = row["lease_until"]
    is_held = row["lease_token"] not in (None, token) and until is not None
    if is_held and now < until <= now + timedelta(seconds=2 * lease_s):
        return None
    if not is_forced and now < row["next_run"] <= now + timedelta(seconds=2 * cycle_s):
        return None
    started = row["cycle_started"]
    if started is None or started > now or row["last_bar"] is None or row["epoch"] != epoch:
        await connection.execute(BEGIN, epoch)
    taken = await connection.fetchrow(LEASE, token, timedelta(seconds=lease_s))
    return Lease(taken["last_bar"], taken["bars"], max(0.0, (now - taken["cycle_started"]).total_seconds()))


async def last_bars(connection: Any) -> int:
    """Return how many bars the last cycle looked at; 0 where there was none."""
    return await connection.fetchval(LAST_BARS) or 0


async def holds(connection: Any, token: UUID | None) -> bool:
    """Lock the sweep's row, and return whether the lease is still the one of this token."""
    return bool(await connection.fetchval(HOLDS, token))


async def spend(connection: Any, token: UUID | None, budget: int) -> bool:
    """Take one repair from the budget of this hour; False where it is spent. The row must be locked (`holds`)."""
    return bool(await connection.fetchval(SPEND, token, budget))


async def advance(
    connection: Any, token: UUID, last_bar: UUID | None, counts: Mapping[str, int], *, next_in_s: float
) -> bool:
    """Write down a slice, and give the lease back; False where it was no longer ours: then nothing was written."""
    names = ("bars", "hidden", "exposed", "failed", "left_alone", "postponed", "reported")
    numbers = (counts.get(name, 0) for name in names)
    return bool(await connection.fetchval(ADVANCE, token, last_bar, *numbers, timedelta(seconds=next_in_s)))


async def finish(connection: Any, policy: str, *, cycle_s: float) -> Cycle:
    """Write the cycle into the history, and say when the next one begins; `advance` came before, and holds the row."""
    found = await connection.fetchrow(RECORD, policy)
    await connection.execute(FINISH, timedelta(seconds=cycle_s))
    duration_s = (found["finished_at"] - found["started_at"]).total_seconds()
    counts = {name: found[name] for name in Cycle.__slots__ if name != "duration_s"}
    return Cycle(**counts, duration_s=duration_s)


async def give_back(connection: Any, token: UUID) -> None:
    """Give a lease back that was not used up."""
    await connection.execute(GIVE_BACK, token)


async def ask(connection: Any) -> None:
    """Have a whole cycle begin at once; after the one that is under way, where one is."""
    await connection.execute(ASK)


async def state(connection: Any) -> State | None:
    """Return how the reconciler stands; None where its row is lost, which the next slice makes anew."""
    row = await connection.fetchrow(STATE)
    if row is None:
        return None
    now, since = row["now"], row["last_success"] or row["installed_at"]
    took = row["finished_at"] and (row["finished_at"] - row["started_at"]).total_seconds()
    return State(
        now=now,
        next_run=row["next_run"],
        last_success=row["last_success"],
        success_age_s=max(0.0, (now - since).total_seconds()),
        is_under_way=row["cycle_started"] is not None,
        spent=row["spent"],
        last_bars=row["last_bars"],
        last_hidden=row["last_hidden"],
        last_exposed=row["last_exposed"],
        last_repaired=row["last_repaired"],
        last_duration_s=took,
    )


async def may_tell_of_budget(connection: Any, every_s: float) -> bool:
    """Return whether people should be told that the budget is spent: True once in so many seconds, of all processes."""
    return bool(await connection.fetchval(TELL_BUDGET, timedelta(seconds=every_s)))


async def is_open(connection: Any, kind: str) -> bool:
    """Return whether an alert of this kind about no bar is open."""
    return bool(await connection.fetchval(IS_OPEN, kind))
