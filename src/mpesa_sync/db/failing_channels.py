"""SQL about the channels that count as failing, and the one open alert about them: kept in step with each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

FAILING: Final = """
select c.audience, c.channel, c.failures, c.fault,
       case when c.audience = 'owner' then array(
         select v.bar_id from mpesa_sync.venue_channels v where v.channel = c.channel order by v.bar_id limit 3)
       else '{}'::uuid[] end as bars
  from mpesa_sync.alert_channels c where c.failures >= 3
 order by c.audience = 'owner', c.failing_since, c.channel limit $1
"""
COUNT_FAILING: Final = "select count(*) from mpesa_sync.alert_channels where failures >= 3"
NONE_FAILS: Final = """
update mpesa_sync.alerts set state = 'resolved', resolved_at = now(), resolved_by = $1
 where id in (
   select id from mpesa_sync.alerts
    where bar_id is null and kind = 'channel_failing' and state <> 'resolved'
      and not exists (select 1 from mpesa_sync.alert_channels where failures >= 3)
      for update skip locked)
"""
"""One statement, so that a channel that begins to fail meanwhile is in it together with its alert, or not at all."""
SOME_FAIL: Final = """
update mpesa_sync.alerts set what_to_do = $1, cause = $2
 where id in (
   select id from mpesa_sync.alerts
    where bar_id is null and kind = 'channel_failing' and state <> 'resolved' and (what_to_do, cause) <> ($1, $2)
      for update skip locked)
"""


@dataclass(frozen=True, slots=True)
class FailingChannel:
    """A channel that has failed `failures` times in a row; `bars`: the venues whose owner it is for, three at most."""

    audience: str
    channel: str
    failures: int
    fault: str
    bars: list[UUID]


async def read(connection: Any, *, limit: int) -> list[FailingChannel]:
    """Return the channels that count as failing, those of the operators first.

    Arguments:
        limit: how many at most, at least 1.
    """
    return [FailingChannel(**dict(record)) for record in await connection.fetch(FAILING, limit)]


async def count(connection: Any) -> int:
    """Return how many channels count as failing."""
    return int(await connection.fetchval(COUNT_FAILING))


async def none_fails(connection: Any, *, by: str) -> None:
    """Resolve the alert about channels where no channel fails any more; one that somebody holds is left open.

    Arguments:
        by: what answered it.
    """
    await connection.execute(NONE_FAILS, by)


async def some_fail(connection: Any, what_to_do: str, cause: str) -> None:
    """Have the alert about channels say which of them fail now, without counting it once more."""
    await connection.execute(SOME_FAIL, what_to_do, cause)
