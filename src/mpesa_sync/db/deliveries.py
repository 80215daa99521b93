"""SQL of `mpesa_sync.alert_deliveries` and `alert_channels`: what became of each message, and how the channels do.

How messages come to be stands in `db.notices_due`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

FAILING_FROM: Final = 3
"""Failures in a row from which a channel counts as failing."""

GIVE_UP: Final = """
update mpesa_sync.alert_deliveries d
   set state = 'failed', fault = case when d.fault = '' then $4 else d.fault end
 where d.state = 'pending'
   and coalesce(d.attempted_at, d.created_at)
       <= now() - case when d.attempts > 0 then $2::interval else $3::interval end
   and case d.audience when 'operators' then d.channel <> all($1::text[])
       else not exists (select 1 from mpesa_sync.alerts a join mpesa_sync.venue_channels v on v.bar_id = a.bar_id
                         where a.id = d.alert_id and v.channel = d.channel) end
"""
"""What this program can send over is never given up here: `FAILED` does, once it has been tried long enough."""
DUE: Final = """
select distinct d.audience, d.channel from mpesa_sync.alert_deliveries d
 where d.state = 'pending' and d.due_at <= now()
   and case d.audience when 'operators' then d.channel = any($1::text[]) else $2 end
   and not (d.notice = 'resolved' and exists (
         select 1 from mpesa_sync.alert_deliveries b
          where b.alert_id = d.alert_id and b.audience = d.audience and b.channel = d.channel
            and b.notice = 'raised' and b.state = 'pending'))
"""
CLAIM: Final = """
with next as (
select d.alert_id, d.notice, d.number, d.audience, d.channel
  from mpesa_sync.alert_deliveries d
 where d.audience = $1 and d.channel = $2 and d.state = 'pending' and d.due_at <= now()
   and not (d.notice = 'resolved' and exists (
         select 1 from mpesa_sync.alert_deliveries b
          where b.alert_id = d.alert_id and b.audience = d.audience and b.channel = d.channel
            and b.notice = 'raised' and b.state = 'pending'))
 order by d.due_at, d.created_at, d.alert_id limit 1 for update skip locked
)
update mpesa_sync.alert_deliveries c set due_at = now() + $3::interval
  from next n
 where c.alert_id = n.alert_id and c.notice = n.notice and c.number = n.number
   and c.audience = n.audience and c.channel = n.channel
returning c.alert_id, c.notice, c.number, c.audience, c.channel, c.attempts
"""
"""An end waits for its beginning, which says both where it comes late."""
RELEASE: Final = """
update mpesa_sync.alert_deliveries set due_at = now()
 where alert_id = $1 and notice = $2 and number = $3 and audience = $4 and channel = $5 and state = 'pending'
"""
ABANDON: Final = """
update mpesa_sync.alert_deliveries set state = 'failed', fault = $6
 where alert_id = $1 and notice = $2 and number = $3 and audience = $4 and channel = $5 and state = 'pending'
"""
DROP: Final = """
delete from mpesa_sync.alert_deliveries
 where alert_id = $1 and notice = $2 and number = $3 and audience = $4 and channel = $5 and state = 'pending'
"""
DELIVERED: Final = """
update mpesa_sync.alert_deliveries
   set state = 'delivered', attempts = attempts + 1, fault = '', attempted_at = now(), delivered_at = now()
 where alert_id = $1 and notice = $2 and number = $3 and audience = $4 and channel = $5 and state = 'pending'
"""
END_IS_TOLD: Final = """
insert into mpesa_sync.alert_deliveries (alert_id, notice, audience, channel, state, attempted_at, delivered_at)
values ($1, 'resolved', $2, $3, 'delivered', now(), now())
on conflict (alert_id, notice, number, audience, channel) do update
   set state = 'delivered', delivered_at = now() where alert_deliveries.state = 'pending'
"""
FAILED: Final = """
update mpesa_sync.alert_deliveries
   set attempts = attempts + 1, fault = $6, attempted_at = now(), due_at = now() + $7::interval,
       first_attempted_at = coalesce(first_attempted_at, now()),
       state = case when first_attempted_at <= now() - $8::interval then 'failed' else 'pending' end
 where alert_id = $1 and notice = $2 and number = $3 and audience = $4 and channel = $5 and state = 'pending'
"""
CHANNEL_DID: Final = """
insert into mpesa_sync.alert_channels as c (audience, channel, delivered_at) values ($1, $2, now())
on conflict (audience, channel) do update
   set failures = 0, fault = '', failing_since = null, delivered_at = now()
"""
CHANNEL_FAILED: Final = """
insert into mpesa_sync.alert_channels as c (audience, channel, failures, fault, failing_since)
values ($1, $2, 1, $3, now())
on conflict (audience, channel) do update
   set failures = c.failures + 1, fault = excluded.fault, failing_since = coalesce(c.failing_since, now())
returning failures
"""
FAILURES: Final = "select failures from mpesa_sync.alert_channels where audience = $1 and channel = $2 for update"
AT_ONCE: Final = """
update mpesa_sync.alert_deliveries set due_at = now()
 where audience = $1 and channel = $2 and state = 'pending' and due_at > now()
"""
OF_ALERT: Final = """
select notice, number, audience, channel, state, attempts, fault, created_at, attempted_at, delivered_at
  from mpesa_sync.alert_deliveries where alert_id = $1 order by created_at, audience, channel
"""
CHANNELS: Final = """
select audience, channel, failures, fault, failing_since, delivered_at from mpesa_sync.alert_channels
 order by failures desc, audience, channel limit 200
"""
SALT: Final = "select id from mpesa_sync.installation"


@dataclass(frozen=True, slots=True)
class Pending:
    """One message that is to be sent over one channel. `number` is that of a reminder, else 0."""

    alert_id: UUID
    notice: str
    number: int
    audience: str
    channel: str
    attempts: int

    @property
    def key(self) -> tuple[UUID, str, int, str, str]:
        """Return what names its row."""
        return self.alert_id, self.notice, self.number, self.audience, self.channel


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message. `fault` is a word, "" for none; `state` is `pending`, `delivered` or `failed`."""

    notice: str
    number: int
    audience: str
    channel: str
    state: str
    attempts: int
    fault: str
    created_at: datetime
    attempted_at: datetime | None
    delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class ChannelHealth:
    """How a channel does: `failures` in a row, the last one as a word, since when, and its last success."""

    audience: str
    channel: str
    failures: int
    fault: str
    failing_since: datetime | None
    delivered_at: datetime | None


async def due(connection: Any, *, channels: Sequence[str], owners: bool) -> list[tuple[str, str]]:
    """Return the audience and the name of each channel over which something is due."""
    return [(row["audience"], row["channel"]) for row in await connection.fetch(DUE, list(channels), owners)]


async def give_up(
    connection: Any, fault: str, *, channels: Sequence[str], tried: timedelta, untried: timedelta
) -> None:
    """Mark as failed what waits for a channel that seems to be used no more.

    Arguments:
        fault: the word for a message that was never tried.
        channels: of the operators, by name, that are used.
        tried: for how long nobody has tried it again.
        untried: for how long it waits, where nobody ever has: no program may have run meanwhile.
    """
    await connection.execute(GIVE_UP, list(channels), tried, untried, fault)


async def claim(connection: Any, audience: str, channel: str, *, within: timedelta) -> Pending | None:
    """Return the message that is due first over a channel, None where none is; nobody else gets it meanwhile.

    Arguments:
        within: after this time it is due again, whatever became of whoever claimed it.
    """
    record = await connection.fetchrow(CLAIM, audience, channel, within)
    return None if record is None else Pending(**dict(record))


async def release(connection: Any, pending: Pending) -> None:
    """Make a message due at once that was claimed and not tried to its end."""
    await connection.execute(RELEASE, *pending.key)


async def abandon(connection: Any, pending: Pending, fault: str) -> None:
    """Mark a message as failed that nobody can receive; a word says why."""
    await connection.execute(ABANDON, *pending.key, fault)


async def drop(connection: Any, pending: Pending) -> None:
    """Forget a message that nobody needs any more."""
    await connection.execute(DROP, *pending.key)


async def channel_did(connection: Any, audience: str, channel: str) -> int:
    """Write down that a channel has taken a message; return how many it had not in a row before that."""
    failures = await connection.fetchval(FAILURES, audience, channel) or 0
    await connection.execute(CHANNEL_DID, audience, channel)
    return int(failures)


async def channel_failed(connection: Any, audience: str, channel: str, fault: str) -> int:
    """Write down that a channel has failed; return how often it has in a row now."""
    return int(await connection.fetchval(CHANNEL_FAILED, audience, channel, fault))


async def delivered(connection: Any, pending: Pending, *, end_is_told: bool, works_again: bool) -> None:
    """Write down a success.

    Arguments:
        end_is_told: the message said that it is over already, so no other one has to.
        works_again: the channel had failed before, so all that waits for it is due at once.
    """
    await connection.execute(DELIVERED, *pending.key)
    if end_is_told:
        await connection.execute(END_IS_TOLD, pending.alert_id, pending.audience, pending.channel)
    if works_again:
        await connection.execute(AT_ONCE, pending.audience, pending.channel)


async def failed(
    connection: Any, pending: Pending, fault: str, *, again_in: timedelta, give_up_after: timedelta
) -> None:
    """Write down a failure of a message, which is given up once it has been tried for so long."""
    await connection.execute(FAILED, *pending.key, fault, again_in, give_up_after)


async def of_alert(connection: Any, alert_id: UUID) -> list[Delivery]:
    """Return every message about an alert, the oldest first."""
    return [Delivery(**dict(record)) for record in await connection.fetch(OF_ALERT, alert_id)]


async def channels(connection: Any) -> list[ChannelHealth]:
    """Return how the channels do, the failing ones first, at most 200."""
    return [ChannelHealth(**dict(record)) for record in await connection.fetch(CHANNELS)]


async def salt(connection: Any) -> bytes:
    """Return what the names of this installation's channels are made with."""
    found: UUID | None = await connection.fetchval(SALT)
    return b"" if found is None else found.bytes
