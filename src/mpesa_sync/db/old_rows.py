"""SQL that removes what is old: of the queue, deliveries, channels and cycles. At most 10,000 rows at once."""

from __future__ import annotations

from typing import Any, Final

FORGET_CHANNELS: Final = """
delete from mpesa_sync.alert_channels c
 where failures > 0
   and not exists (select 1 from mpesa_sync.alert_deliveries d
                    where d.audience = c.audience and d.channel = c.channel and d.state = 'pending')
   and case audience when 'owner'
       then not exists (select 1 from mpesa_sync.venue_channels v where v.channel = c.channel)
       else failing_since < now() - interval '2 days' end
"""
PRUNE_QUEUE_LOG: Final = """
delete from mpesa_sync.queue_log
 where id in (select id from mpesa_sync.queue_log where created < now() - interval '7 days' limit 10000)
"""
PRUNE_QUEUE_STATISTICS: Final = """
delete from mpesa_sync.queue_statistics
 where id in (select id from mpesa_sync.queue_statistics where created < now() - interval '30 days' limit 10000)
"""
PRUNE_DELIVERIES: Final = """
delete from mpesa_sync.alert_deliveries where (alert_id, notice, number, audience, channel) in (
  select d.alert_id, d.notice, d.number, d.audience, d.channel
    from mpesa_sync.alert_deliveries d join mpesa_sync.alerts a on a.id = d.alert_id
   where a.state = 'resolved' and a.resolved_at < now() - interval '400 days' limit 10000)
"""
PRUNE_CYCLES: Final = """
delete from mpesa_sync.reconciler_cycles
 where id in (select id from mpesa_sync.reconciler_cycles where finished_at < now() - interval '400 days' limit 10000)
"""


async def forget_channels(connection: Any) -> None:
    """Forget that channels failed which are not used any more."""
    await connection.execute(FORGET_CHANNELS)


async def prune_queue_log(connection: Any) -> int:
    """Forget jobs that ended more than 7 days ago, at most 10,000; return how many were forgotten."""
    return _rows(await connection.execute(PRUNE_QUEUE_LOG))


async def prune_queue_statistics(connection: Any) -> int:
    """Forget counts of jobs that are older than 30 days, at most 10,000; return how many were forgotten."""
    return _rows(await connection.execute(PRUNE_QUEUE_STATISTICS))


async def prune_deliveries(connection: Any) -> int:
    """Forget who was told of alerts resolved more than 400 days ago, at most 10,000; return how many were forgotten.

    The alerts themselves are kept.
    """
    return _rows(await connection.execute(PRUNE_DELIVERIES))


async def prune_cycles(connection: Any) -> int:
    """Forget cycles of the reconciler that ended more than 400 days ago, at most 10,000; return how many."""
    return _rows(await connection.execute(PRUNE_CYCLES))


def _rows(status: str) -> int:
    return int(status.rpartition(" ")[2])
