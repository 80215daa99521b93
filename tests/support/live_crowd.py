"""Random writers and random customers on the same bars, and what customers must have seen when all is quiet."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg

from mpesa_sync.live.hub import Hub
from tests.support import databases
from tests.support.actors import FOREIGN, OURS, PAIRED, Given
from tests.support.live_page import Page

_TRUTH: Final = """
select b.mpesa_enabled is true and b.active is not false
       and exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active) as is_offered
  from public.bars b where b.id = $1
"""

_SOON_S: Final = 20.0


async def offered(connection: Any, bar_id: UUID) -> list[str]:
    """Return what the bar offers now, by a statement that shares nothing with the code under test.

    The secrets of every row that tests write are usable.
    """
    return ["mpesa", "cash"] if await connection.fetchval(_TRUTH, bar_id) else ["cash"]


async def write(url: str, bars: Sequence[UUID], drawn: random.Random, *, times: int) -> int:
    """Be any writer, `times` times; return how many transactions committed."""
    committed = 0
    async with databases.plain(url) as connection:
        for _ in range(times):
            given = Given(drawn, bars)
            try:
                await drawn.choice([*OURS, *PAIRED, *FOREIGN]).act(connection, given)
                committed += not given.aborted
            except asyncpg.PostgresError:  # a clash between writers, as it happens
                await connection.execute("rollback")
    return committed


@dataclass
class Customer:
    """One person: opens the page of a bar on any server, leaves, comes back with the version that was seen last."""

    hubs: Sequence[Hub]
    bar_id: UUID
    drawn: random.Random
    seen: list[tuple[str, int]] = field(default_factory=list)
    offer: list[str] | None = None
    _last_id: str | None = None

    async def visit(self, done: asyncio.Event) -> None:
        """Open the page until `done`, or until leaving in between; keep what was seen in order."""
        page = Page(self.drawn.choice(self.hubs), self.bar_id, last_event_id=self._last_id)
        task = asyncio.create_task(page.run())
        try:
            async with asyncio.timeout(self.drawn.uniform(0.01, 0.15)):
                await done.wait()
        except TimeoutError:
            pass
        page.leave()
        await task
        self._take(page)

    def _take(self, page: Page) -> None:
        for frame in page.frames:
            self.seen.append(frame.version)
            self.offer, self._last_id = frame.methods, frame.id

    async def live(self, done: asyncio.Event) -> None:
        """Come and go until `done`."""
        while not done.is_set():
            await self.visit(done)

    async def settle(self, wanted: list[str]) -> None:
        """Come back a last time: whatever was missed is right soon, if it was not right before."""
        page = Page(self.drawn.choice(self.hubs), self.bar_id, last_event_id=self._last_id)
        task = asyncio.create_task(page.run())
        try:
            async with asyncio.timeout(_SOON_S):
                while (page.frames[-1].methods if page.frames else self.offer) != wanted:
                    await page.next()
        except TimeoutError:
            raise AssertionError(f"still {self.offer}, then {page.events}; wanted {wanted}") from None
        finally:
            page.leave()
            await task
        self._take(page)

    def never_went_back(self) -> bool:
        """Return whether versions only ever rose (one epoch): L3, also across servers and reconnects."""
        return self.seen == sorted(self.seen)
