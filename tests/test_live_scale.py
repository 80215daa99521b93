"""The live path under a crowd, part by part: lost notices, crowded bars, storms, and writes that need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

import pytest

from mpesa_sync.clock import SystemClock
from mpesa_sync.db import offers
from mpesa_sync.live import listener
from mpesa_sync.live.eager import begun
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.lookup import Lookup
from mpesa_sync.monitoring import metrics
from mpesa_sync.settings import Settings
from mpesa_sync.web.composition import limits_of
from tests.support.live_hub import ALONE, eventually, running, switch, without_probe
from tests.support.live_page import open_page
from tests.support.venues import add_bar

ON: Final = ("mpesa", "cash")
OFF: Final = ("cash",)


def deaf_to_one_in_twenty(hub: Hub) -> None:
    """Have every twentieth notice swallowed."""
    hear, heard = hub._listener._heard, 0

    def mostly(payload: str) -> None:
        nonlocal heard
        heard += 1
        if heard % 20:
            hear(payload)

    hub._listener._heard = mostly


async def _with_swallowed_notices(url: str, sql: Any, before: Callable[[Hub], None], within_s: float) -> None:
    """Switch a bar forty times, so that the last notice is one of those swallowed."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(url, limits=ALONE, before=before) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        begun_with = page.frames[-1].version[1]
        notices = metrics.feed_notices._value
        first = notices.get()
        deaf_to_one_in_twenty(hub)
        for flip in range(39):
            await switch(sql, bar, flip % 2 == 1)
        await page.until(lambda page: page.frames[-1].version[1] == begun_with + 39)
        await eventually(lambda: notices.get() >= first + 39 and not hub._reader.is_dirty(bar))
        await switch(sql, bar, True)
        await eventually(lambda: notices.get() >= first + 40)
        await page.until(lambda page: page.frames[-1].version[1] == begun_with + 40, within_s=within_s)
        seen = [frame.version for frame in page.frames]
        assert seen == sorted(seen)


async def test_a_twentieth_of_the_notices_may_be_lost(database_url: str, sql: Any) -> None:
    """L3, L4: notices only wake; the probe finds the version that none of them told."""
    await _with_swallowed_notices(database_url, sql, lambda hub: None, 20.0)


async def test_the_twin_without_a_probe_stays_wrong(database_url: str, sql: Any) -> None:
    """L4: the test above can see the loss."""
    with pytest.raises(AssertionError, match="not within"):
        await _with_swallowed_notices(database_url, sql, without_probe, 0.5)


class RestingClock(SystemClock):
    """Every look at it is half a second after the last, and whoever rests does so until told."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self.rests: list[float] = []
        self.over = asyncio.Event()

    def monotonic(self) -> float:
        self._now_s += 0.5
        return self._now_s

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        await self.over.wait()


async def test_a_crowded_bar_that_changes_all_the_time_rests_and_ends_right(database_url: str, sql: Any) -> None:
    """L4, L7: many changes are few frames; another bar's page is served meanwhile; the rest ends with the newest."""
    bar, other = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(2)]
    async with running(database_url, limits=replace(ALONE, stale_after_s=1e9)) as hub, AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(open_page(hub, bar)) for _ in range(100)]
        beside = await stack.enter_async_context(open_page(hub, other))
        for page in (*pages, beside):
            await page.until_offers(*ON)
        entry = hub._watched.get(bar)
        assert entry is not None
        await eventually(lambda: not entry.is_fanning)
        clock = hub._streams._clock = RestingClock()
        hub._streams.publish(entry)
        await asyncio.sleep(0)  # the first slice is written
        hub._streams.publish(entry)  # it has changed again before the last is
        await eventually(lambda: clock.rests != [])
        for flip in range(50):
            await switch(sql, bar, flip % 2 == 1)
            await hub.known(bar, fresh=True)
        await switch(sql, bar, False)
        await hub.known(bar, fresh=True)
        await switch(sql, other, False)
        await beside.until_offers(*OFF)
        assert clock.rests == [0.5], "for as long as it may at most"
        assert all(len(page.frames) == 1 for page in pages), "what comes in the rest waits for its end"
        clock.over.set()
        for page in pages:
            await page.until_offers(*OFF)
        assert all(len(page.frames) <= 3 for page in pages), "fifty changes are few frames"


async def test_a_storm_of_pages_of_bars_that_are_not_known_yet_is_few_questions(database_url: str, sql: Any) -> None:
    """Live path: 300 pages at once on a process that has just begun: by ids, and by one slug."""
    bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(30)]
    await sql.execute("update public.bars set slug = 'mama-njeri' where id = $1", bars[0])
    async with running(database_url) as hub:
        asked, ask = list[str](), hub._lookup._ask

        async def counted(text: str) -> Any:
            asked.append(text)
            return await ask(text)

        hub._lookup._ask = counted
        reads = metrics.feed_reads.labels("done")._value
        before = reads.get()
        found = await asyncio.gather(*(hub.resolve(str(bar)) for bar in bars * 10))
        assert found == bars * 10
        assert reads.get() <= before + 3
        assert asked == []
        assert set(await asyncio.gather(*(hub.resolve("mama-njeri") for _ in range(300)))) == {bars[0]}
        assert asked == ["mama-njeri"]


async def test_an_answer_is_shared_and_a_failure_is_not_kept() -> None:
    """Live path: who asks after the answer asks anew; one who is cancelled takes it from nobody else."""
    fails, gate, asked = True, asyncio.Event(), 0

    async def ask(_text: str) -> Any:
        nonlocal asked
        asked += 1
        await gate.wait()
        if fails:
            raise LookupError
        return "id"

    lookup = Lookup(ask)
    waiting = [asyncio.create_task(lookup("slug")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    gate.set()
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in ended] == [asyncio.CancelledError, LookupError, LookupError]
    fails = False
    assert await lookup("slug") == "id"
    assert asked == 2


async def test_a_write_that_need_not_wait_needs_no_task() -> None:
    """Live path: begun at once; what waits goes on in whoever awaits the rest; an error comes out where it is met."""
    gate, said = asyncio.Event(), list[str]()

    async def write(*, waits: int, fails: bool = False) -> None:
        said.append("begun")
        for _ in range(waits):
            await gate.wait()
            await asyncio.sleep(0)
        if fails:
            raise OSError
        said.append("done")

    assert begun(write(waits=0)) is None
    assert said == ["begun", "done"]
    with pytest.raises(OSError):
        begun(write(waits=0, fails=True))
    rest = begun(write(waits=2))
    assert rest is not None
    waiting = asyncio.ensure_future(rest)
    gate.set()
    await waiting
    assert said == ["begun", "done", "begun", "begun", "done"]
    rest = begun(write(waits=1, fails=True))
    assert rest is not None
    with pytest.raises(OSError):
        await rest


async def test_the_rest_of_a_write_can_be_cancelled() -> None:
    """Live path: the writer to a client that takes nothing is cancelled, and may clean up, also with a wait."""
    said = list[str]()

    async def write() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            said.append("cleaned")

    async def until_taken(rest: Any) -> None:
        await rest

    task = asyncio.create_task(until_taken(begun(write())))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["cleaned"]


async def test_pages_that_somebody_looks_at_are_read_first(database_url: str, sql: Any) -> None:
    """L6: after a loss of the listener, bars with open pages do not wait for those that were asked for lately."""
    idle = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(8)]
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=Limits(sweep_batch=2, sweep_every_s=3_600.0)) as hub:
        for one in idle:
            await hub.known(one)
        async with open_page(hub, bar) as page:
            await page.until_offers(*ON)
            read, batches = hub._reader._read, list[list[Any]]()

            async def noted(bar_ids: Any) -> Any:
                batches.append(list(bar_ids))
                return await read(bar_ids)

            hub._reader._read = noted
            await hub._keeping.resync()
            assert len(batches) >= 4
            assert bar in batches[0]


def test_the_listener_comes_back_at_once_and_then_at_random() -> None:
    """L6: one backend that was ended is no reason to wait; a server that is away is, and not for all alike."""
    assert listener._wait_s(1, 0.0) == 0.0
    waits = [listener._wait_s(failures, 2.0) for failures in range(2, 40) for _ in range(20)]
    assert 0.0 < max(waits) <= 1.0
    assert len(set(waits)) > 100
    assert max(listener._wait_s(12, 60.0) for _ in range(200)) <= 5.0


def test_the_listener_may_write_nothing() -> None:
    """Least right: what the listening connection does is read only, however late it is told so."""
    assert "default_transaction_read_only = on" in offers.LISTENER_SETUP


def test_every_cap_is_a_setting() -> None:
    """Live path: caps per process, address and bar; what they refuse stands in test_live_streams."""
    told = {
        "MPESA_SYNC_MAX_STREAMS": "7",
        "MPESA_SYNC_MAX_STREAMS_PER_ADDRESS": "5",
        "MPESA_SYNC_MAX_STREAMS_PER_BAR": "6",
    }
    limits = limits_of(Settings.load(told))
    assert (limits.streams, limits.streams_per_address, limits.streams_per_bar) == (7, 5, 6)
    assert limits_of(Settings.load({})) == Limits()
