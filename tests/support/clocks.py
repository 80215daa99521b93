"""A clock whose waits take no time, so that back-off and second looks are tested without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from mpesa_sync.clock import SystemClock


class HurriedClock(SystemClock):
    """The machine's time, plus every wait that was asked for and skipped.

    Arguments:
        meanwhile: done during each wait, given its seconds; what others do in that time.
    """

    def __init__(self, meanwhile: Callable[[float], Awaitable[None]] | None = None) -> None:
        self.waits_s: list[float] = []
        self._meanwhile = meanwhile

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.waits_s)

    async def sleep(self, delay_s: float) -> None:
        self.waits_s.append(delay_s)
        if self._meanwhile is not None:
            await self._meanwhile(delay_s)
        await asyncio.sleep(0)
