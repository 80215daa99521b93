"""SQL that finds what has to be told of alerts and to whom, and makes a row of `alert_deliveries` for each message.

Safe in several programs at once: an alert is marked in the statement that makes its rows, and a row is made once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

TELL_RAISED: Final = """
with due as (
  select id from mpesa_sync.alerts where told_at is null order by first_seen limit 200 for update skip locked
), marked as (
  update mpesa_sync.alerts a
     set told_at = now(), resolution_told_at = case when a.state = 'resolved' then now() end
    from due where a.id = due.id
  returning a.id, a.kind, a.state, a.resolved_at
), made as (
  insert into mpesa_sync.alert_deliveries (alert_id, notice, audience, channel)
  select m.id, 'raised', 'operators', c.name
    from marked m cross join unnest($1::text[]) c (name)
   where (m.state <> 'resolved' or m.resolved_at > now() - interval '1 day')
     and not (m.kind = 'channel_failing' and exists (
           select 1 from mpesa_sync.alert_channels f
            where f.audience = 'operators' and f.channel = c.name and f.failures >= 3))
  on conflict do nothing returning 1
)
select count(*) from made
"""
TELL_RESOLVED: Final = """
with due as (
  select id from mpesa_sync.alerts
   where state = 'resolved' and told_at is not null and resolution_told_at is null
   order by resolved_at limit 200 for update skip locked
), marked as (
  update mpesa_sync.alerts a set resolution_told_at = now() from due where a.id = due.id
  returning a.id, a.resolved_at
), made as (
  insert into mpesa_sync.alert_deliveries (alert_id, notice, audience, channel)
  select m.id, 'resolved', 'operators', d.channel
    from marked m join mpesa_sync.alert_deliveries d
      on d.alert_id = m.id and d.audience = 'operators' and d.notice = 'raised'
   where d.channel = any($1::text[])
     and d.state in ('pending', 'delivered')
  on conflict do nothing returning 1
)
select count(*) from made
"""
TELL_OTHERS: Final = """
with told as (
  select id, kind from mpesa_sync.alerts a
   where a.state <> 'resolved' and a.told_at is not null
     and exists (
           select 1 from unnest($1::text[]) c (name)
            where not exists (
                    select 1 from mpesa_sync.alert_deliveries d
                     where d.alert_id = a.id and d.notice = 'raised' and d.number = 0 and d.audience = 'operators'
                       and d.channel = c.name))
   order by first_seen limit 200 for key share skip locked
)
insert into mpesa_sync.alert_deliveries (alert_id, notice, audience, channel)
select t.id, 'raised', 'operators', c.name
  from told t cross join unnest($1::text[]) c (name)
 where not (t.kind = 'channel_failing' and exists (
         select 1 from mpesa_sync.alert_channels f
          where f.audience = 'operators' and f.channel = c.name and f.failures >= 3))
on conflict do nothing
"""
"""A channel that came later, or that another program did not know, hears of all that is open."""
REMIND: Final = """
with due as (
  select id from mpesa_sync.alerts
   where state = 'firing' and told_at + make_interval(mins => $2 * (reminders + 1)) <= now()
   order by first_seen limit 200 for update skip locked
), marked as (
  update mpesa_sync.alerts a
     set reminders = floor(extract(epoch from now() - a.told_at) / (60.0 * $2))::integer
    from due where a.id = due.id
  returning a.id, a.kind, a.reminders
), made as (
  insert into mpesa_sync.alert_deliveries (alert_id, notice, number, audience, channel)
  select m.id, 'reminder', m.reminders, 'operators', c.name
    from marked m cross join unnest($1::text[]) c (name)
   where not exists (
           select 1 from mpesa_sync.alert_deliveries w
            where w.alert_id = m.id and w.audience = 'operators' and w.channel = c.name and w.state = 'pending')
     and not (m.kind = 'channel_failing' and exists (
           select 1 from mpesa_sync.alert_channels f
            where f.audience = 'operators' and f.channel = c.name and f.failures >= 3))
  on conflict do nothing returning 1
)
select count(*) from made
"""
TELL_OWNERS: Final = """
insert into mpesa_sync.alert_deliveries (alert_id, notice, audience, channel)
select a.id, 'raised', 'owner', v.channel
  from mpesa_sync.venue_channels v join mpesa_sync.alerts a on a.bar_id = v.bar_id
 where a.state <> 'resolved' and a.kind = any($1::text[])
   and not exists (
         select 1 from mpesa_sync.alert_deliveries d
          where d.alert_id = a.id and d.audience = 'owner' and d.notice = 'raised')
on conflict do nothing
"""
TELL_OWNERS_RESOLVED: Final = """
insert into mpesa_sync.alert_deliveries (alert_id, notice, audience, channel)
select a.id, 'resolved', 'owner', v.channel
  from mpesa_sync.venue_channels v
  join mpesa_sync.alerts a on a.bar_id = v.bar_id
  join mpesa_sync.alert_deliveries d on d.alert_id = a.id and d.audience = 'owner' and d.notice = 'raised'
 where a.state = 'resolved' and a.resolved_at > now() - interval '7 days' and d.state = 'delivered'
   and not exists (
         select 1 from mpesa_sync.alert_deliveries e
          where e.alert_id = a.id and e.audience = 'owner' and e.notice = 'resolved')
on conflict do nothing
"""


async def make(connection: Any, *, channels: Sequence[str], repeat_minutes: int, owner_kinds: Sequence[str]) -> None:
    """Make a row for everything that has to be told now and has none.

    Arguments:
        channels: of the operators, by name; none: their messages are left to a program that has some.
        repeat_minutes: after how many minutes an alert that is firing is told again; 0: never.
        owner_kinds: the kinds of alerts that the owner of a venue hears of.
    """
    names = list(channels)
    if names:
        await connection.fetchval(TELL_RAISED, names)
        await connection.fetchval(TELL_RESOLVED, names)
        await connection.execute(TELL_OTHERS, names)
        if repeat_minutes:
            await connection.fetchval(REMIND, names, repeat_minutes)
    await connection.execute(TELL_OWNERS, list(owner_kinds))
    await connection.execute(TELL_OWNERS_RESOLVED)
