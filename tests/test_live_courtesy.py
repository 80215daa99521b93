"""The live path under a crowd: a crowded bar lets the reads of others go first, for a moment each time (L7)."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from typing import Any, Final

import pytest

from mpesa_sync.live.limits import Limits
from tests.support.live_hub import ALONE, eventually, running
from tests.support.live_page import open_page
from tests.support.venues import add_bar

ON: Final = ("mpesa", "cash")


async def _served_while_another_bar_is_read(url: str, sql: Any, limits: Limits) -> tuple[int, int]:
    """Return how many of a hundred pages of a bar are served while another bar's read lasts, and until it has ended."""
    bar, other = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(2)]
    async with running(url, limits=limits) as hub, AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(open_page(hub, bar)) for _ in range(100)]
        for page in (*pages, await stack.enter_async_context(open_page(hub, other))):
            await page.until_offers(*ON)
        entry = hub._watched.get(bar)
        assert entry is not None
        await eventually(lambda: not entry.is_fanning)
        begins, ends, read = asyncio.Event(), asyncio.Event(), hub._reader._read

        async def slowly(bars: Any) -> Any:
            begins.set()
            await ends.wait()
            return await read(bars)

        hub._reader._read = slowly
        hub._reader.wake(other)
        await begins.wait()
        push, served, all_served = hub._streams.push, set[Any](), asyncio.Event()

        def counted(stream: Any) -> None:
            served.add(stream)
            push(stream)
            if len(served) == 100:
                all_served.set()

        hub._streams.push = counted  # type: ignore[method-assign]
        hub._streams.publish(entry)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await all_served.wait()
        meanwhile = len(served)
        ends.set()
        await eventually(lambda: not entry.is_fanning)
        return meanwhile, len(served)


async def test_a_crowded_bar_lets_the_read_of_another_go_first(database_url: str, sql: Any) -> None:
    """L7: a slice of its pages, and then it waits for the read; the twin below takes its turns in between."""
    limits = replace(ALONE, held_s=60.0, read_timeout_s=60.0)
    assert await _served_while_another_bar_is_read(database_url, sql, limits) == (limits.slice_of, 100)


@pytest.mark.parametrize("held_s", [0.0, 0.001], ids=["twin", "bounded"])
async def test_it_waits_for_no_longer_than_its_limit(database_url: str, sql: Any, held_s: float) -> None:
    """L7: a read that hangs, or reads without end, keep a crowded bar from nothing."""
    limits = replace(ALONE, held_s=held_s, read_timeout_s=60.0)
    assert await _served_while_another_bar_is_read(database_url, sql, limits) == (100, 100)
