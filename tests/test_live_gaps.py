"""No gap (L5): a commit in each place where one could fall between, and twins of the code that lose it there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

import pytest

from mpesa_sync.db import notices
from mpesa_sync.live.delivery import Streams
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.listener import Listener
from mpesa_sync.live.watched import Entry
from tests.support.live_hub import ALONE, eventually, kill_listener, listener_pid, running, switch, without_probe
from tests.support.live_page import open_page
from tests.support.venues import add_bar

ON: Final = ("mpesa", "cash")
OFF: Final = ("cash",)


def in_gap(hub: Hub, where: str, act: Callable[[], Awaitable[None]]) -> None:
    """Have `act` done once in the next resynchronisation: before its snapshot is read, or after it."""
    resync = hub._listener._resync
    acts = [act]

    async def stepping() -> None:
        if where == "LISTEN | snapshot" and acts:
            await acts.pop()()
        await resync()
        if where == "snapshot | live" and acts:
            await acts.pop()()

    hub._listener._resync = stepping


class SnapshotFirst(Listener):
    """The twin: reads everything, then listens."""

    async def _begin(self, connection: Any) -> None:
        await self._resync()
        self._has_notices(True)
        await connection.add_listener(notices.CHANNEL, self._on_notice)
        self.is_connected = True


def twin(hub: Hub) -> None:
    """Make the hub's listener the twin."""
    hub._listener.__class__ = SnapshotFirst


async def _changed_in_gap(url: str, sql: Any, where: str, before: Callable[[Hub], None], within_s: float) -> None:
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(url, limits=ALONE, before=before) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        first = await listener_pid(sql)
        in_gap(hub, where, lambda: switch(sql, bar, False))
        await kill_listener(sql)
        await eventually(lambda: not hub._listener.is_connected)
        await eventually(lambda: hub._listener.is_connected)
        assert await listener_pid(sql) != first
        await page.until_offers(*OFF, within_s=within_s)


@pytest.mark.parametrize("where", ["LISTEN | snapshot", "snapshot | live"])
async def test_a_commit_in_a_gap_of_the_resynchronisation_is_shown(database_url: str, sql: Any, where: str) -> None:
    """L5: notices and snapshot alone, without the probe's help."""
    await _changed_in_gap(database_url, sql, where, without_probe, 20.0)


async def test_the_twin_that_reads_before_it_listens_loses_it(database_url: str, sql: Any) -> None:
    """L5: the test above can see the mistake."""

    def before(hub: Hub) -> None:
        without_probe(hub)
        twin(hub)

    with pytest.raises(AssertionError, match="not within"):
        await _changed_in_gap(database_url, sql, "snapshot | live", before, 0.5)


async def test_the_probe_mends_even_the_twin(database_url: str, sql: Any) -> None:
    """L4: the second net under it."""
    await _changed_in_gap(database_url, sql, "snapshot | live", twin, 20.0)


async def test_a_commit_between_render_and_connect_is_shown(database_url: str, sql: Any) -> None:
    """L5: the page was rendered from one answer and connects with its version; the change between is sent."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=ALONE) as hub:
        rendered = await hub.known(bar)
        await switch(sql, bar, False)
        async with open_page(hub, bar, last_event_id=rendered.offer.version) as page:
            await page.until_offers(*OFF)


async def test_a_commit_between_registering_and_the_snapshot_is_shown(database_url: str, sql: Any) -> None:
    """L5: the page is registered before its bar is read, and again while its answer begins."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=ALONE, before=without_probe) as hub:
        known = hub.known
        changes = [False, True, False]

        async def known_and_changed(bar_id: Any, *, fresh: bool = False) -> Any:
            await switch(sql, bar, changes.pop())
            found = await known(bar_id, fresh=fresh)
            await switch(sql, bar, changes.pop())
            await eventually(lambda: hub._watched.get(bar).known.offer.version != found.offer.version)  # type: ignore[union-attr]  # watched
            return found

        hub.known = known_and_changed  # type: ignore[method-assign]  # a commit in the gap
        async with open_page(hub, bar) as page:
            await page.until_offers(*ON)
            await switch(sql, bar, changes.pop())
            await page.until_offers(*OFF)


async def test_an_answer_that_began_before_a_later_change_is_not_taken_for_it(database_url: str, sql: Any) -> None:
    """L4: a read in flight when the notice comes does not stand for the change; another read follows."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=ALONE, before=without_probe) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        read = hub._reader._read
        changes = [False]

        async def read_then_change(bar_ids: Any) -> Any:
            found = await read(bar_ids)
            if changes:
                await switch(sql, bar, changes.pop())
                await sql.fetchval("select 1")
            return found

        hub._reader._read = read_then_change
        hub._reader.wake(bar)
        await page.until_offers(*OFF)


async def test_who_asks_after_a_commit_is_not_answered_by_a_read_from_before_it(database_url: str, sql: Any) -> None:
    """L4: reads are shared by those who asked before they began, and by nobody else; so is memory."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=ALONE, before=without_probe) as hub:
        await hub.known(bar)
        read, begun, held = hub._reader._read, asyncio.Event(), asyncio.Event()

        async def held_up(bar_ids: Any) -> Any:
            found = await read(bar_ids)
            begun.set()
            await held.wait()
            return found

        hub._reader._read = held_up
        early = asyncio.create_task(hub.known(bar, fresh=True))
        await begun.wait()
        await switch(sql, bar, False)
        late = asyncio.create_task(hub.known(bar, fresh=True))
        await eventually(lambda: hub._reader.is_dirty(bar))
        from_memory = asyncio.create_task(hub.known(bar))
        await asyncio.sleep(0)
        assert not from_memory.done()
        held.set()
        assert (await early).reason is None
        assert (await late).reason == "switched_off"
        assert (await from_memory).reason == "switched_off"


class Queueing(Streams):
    """The twin: a frame for every change, kept until the client takes it."""

    def publish(self, entry: Entry) -> None:
        for stream in entry.streams:
            task = asyncio.get_running_loop().create_task(stream.write(entry.frame or b""))
            self._kept.append(task)

    _kept: ClassVar[list[asyncio.Task[None]]] = []


async def _flips_for_a_slow_page(url: str, sql: Any, before: Callable[[Hub], None]) -> int:
    """Return how many frames a page was given for 60 changes during which it took nothing."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(url, before=before) as hub, open_page(hub, bar) as slow:
        await slow.until_offers(*ON)
        slow.stop_reading()
        for flip in range(60):
            await switch(sql, bar, flip % 2 == 1)
            await hub.known(bar, fresh=True)
        slow.read_again()
        last = (await hub.known(bar)).offer.version
        await slow.until(lambda page: page.frames[-1].id == last)
        return slow.attempts


async def test_what_waits_for_a_slow_client_does_not_grow(database_url: str, sql: Any) -> None:
    """L4, L7: while a client takes nothing, nothing is kept for it but what it is being given; its twin keeps all."""

    def queueing(hub: Hub) -> None:
        hub._streams.__class__ = Queueing

    assert await _flips_for_a_slow_page(database_url, sql, lambda hub: None) <= 3
    assert await _flips_for_a_slow_page(database_url, sql, queueing) > 50
