"""Hubs for tests: on a test's database, with short times where a test would otherwise wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from mpesa_sync.clock import Clock, SystemClock
from mpesa_sync.db.pool import connect
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.limits import Limits
from mpesa_sync.secret import Secret
from tests.support.venues import KEY

OFF: Final = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1"
SHOWN: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
ALONE: Final = Limits(sweep_every_s=3_600.0)
"""No sweep: what is tested is seen by itself."""
_LISTENERS: Final = """
select pid from pg_stat_activity where application_name = 'mpesa-sync listener' and datname = current_database()
"""
_KILL: Final = f"select count(pg_terminate_backend(pid)) from ({_LISTENERS}) l"


class SteeredClock(SystemClock):
    """The machine's time, which a test moves on without waiting."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._ahead_s += seconds


@asynccontextmanager
async def running(
    url: str,
    *,
    listen_url: str | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    kind: type[Hub] = Hub,
    before: Callable[[Hub], None] = lambda hub: None,
) -> AsyncIterator[Hub]:
    """Run a hub; `before` is called with it before it starts."""
    async with connect(url, kms_keys=[KEY]) as database:
        hub = kind(database, listen_url=Secret(listen_url or url), limits=limits, clock=clock)
        before(hub)
        async with hub:
            yield hub


def without_probe(hub: Hub) -> None:
    """Leave the probe nothing but its proof of life, so that only LISTEN and snapshot can find a change."""

    async def alive(connection: Any) -> None:
        await connection.execute("select 1")

    hub._listener._probe = alive


async def switch(connection: Any, bar_id: UUID, is_on: bool) -> None:
    """Switch M-Pesa as another program does that keeps both fields alike: plain SQL, one transaction."""
    async with connection.transaction():
        await connection.execute(OFF, bar_id, is_on)
        await connection.execute(SHOWN, bar_id, is_on)


async def kill_listener(connection: Any) -> int:
    """End the backend of the hub's listener; return how many there were."""
    return int(await connection.fetchval(_KILL))


async def listener_pid(connection: Any) -> int | None:
    """Return the backend of the hub's listener."""
    pid = await connection.fetchval(_LISTENERS)
    return None if pid is None else int(pid)


async def eventually(is_so: Callable[[], bool], *, within_s: float = 20.0) -> None:
    """Wait until something is so that nobody tells of; looks often."""
    async with asyncio.timeout(within_s):
        while not is_so():  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)
