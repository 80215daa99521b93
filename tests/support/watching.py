"""An observer that reads both fields of some bars in one statement, again and again, while others write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

from tests.support import databases
from tests.support.observer import Seen, see, see_all


class Watch:
    """What was seen of each bar, in order, the same state once in a row; `reads` counts the statements."""

    def __init__(self) -> None:
        self.states: dict[UUID, list[Seen]] = {}
        self.reads = 0

    def note(self, seen: Seen) -> None:
        """Keep a state that differs from the last one."""
        states = self.states.setdefault(seen.bar_id, [])
        if not states or states[-1] != seen:
            states.append(seen)

    def of(self, bar: UUID) -> list[Seen]:
        """Return the states of one bar."""
        return self.states.get(bar, [])

    @property
    def halves(self) -> list[Seen]:
        """The states in which the two fields disagreed."""
        return [seen for states in self.states.values() for seen in states if seen.drifted]


_REST_S: Final = 0.002
"""Between two reads, so that two cores are left for those who are watched."""


@asynccontextmanager
async def watching(sql: Any, bars: Sequence[UUID] = ()) -> AsyncIterator[Watch]:
    """Read these bars, or all, on this connection until the block ends; once before it and once after it at least."""
    watch, over = Watch(), asyncio.Event()

    async def read() -> None:
        found = [await see(sql, bars[0])] if len(bars) == 1 else list((await see_all(sql)).values())
        watch.reads += 1
        for seen in found:
            if seen is not None and (not bars or seen.bar_id in bars):
                watch.note(seen)

    async def look() -> None:
        while not over.is_set():
            await read()
            try:
                async with asyncio.timeout(_REST_S):
                    await over.wait()
            except TimeoutError:
                continue

    await read()
    task = asyncio.create_task(look())
    try:
        yield watch
    finally:
        over.set()
        await task
        await read()


@asynccontextmanager
async def watched(url: str, bars: Sequence[UUID] = ()) -> AsyncIterator[Watch]:
    """Do what `watching` does on a connection of its own."""
    async with databases.plain(url) as sql, watching(sql, bars) as watch:
        yield watch
