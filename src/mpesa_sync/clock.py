"""Time as a parameter, so that tests neither sleep nor guess."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the rest of the code may ask of time."""

    def now(self) -> datetime:
        """Return the wall-clock time, with its zone (UTC)."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards; only differences mean anything."""

    async def sleep(self, delay_s: float) -> None:
        """Wait `delay_s` seconds, which may be 0."""


class SystemClock:
    """The machine's own time."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
