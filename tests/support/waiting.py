"""Waiting for what the server says of its own sessions, until a deadline; asked of the catalog."""

from __future__ import annotations

import asyncio
from typing import Any, Final

_WAITERS: Final = """
select a.pid from pg_stat_activity a
 where a.datname = current_database() and a.wait_event_type = 'Lock' and $1 = any(pg_blocking_pids(a.pid))
"""
_OPEN: Final = """
select count(*) from pg_stat_activity
 where datname = current_database() and application_name = $1 and xact_start is not null
"""
_DEADLINE_S: Final = 20.0


async def waiter_for(connection: Any, holder: int) -> int:
    """Return the backend that waits for a lock that `holder` has, as soon as there is one."""
    async with asyncio.timeout(_DEADLINE_S):
        while True:
            pid = await connection.fetchval(_WAITERS, holder)
            if pid is not None:
                return int(pid)
            await asyncio.sleep(0.002)  # what is waited for needs the processor, too


async def open_transactions(connection: Any, application: str = "mpesa-sync") -> int:
    """Return how many sessions of this program are inside a transaction."""
    return int(await connection.fetchval(_OPEN, application))
