"""Open pages: what each gets, how many there may be, who is closed, and how they end."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync.errors import BarNotFound
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.offers import NOT_FOUND
from mpesa_sync.monitoring import metrics
from tests.support.live_hub import SteeredClock, eventually, running, switch
from tests.support.live_page import Page, open_page
from tests.support.venues import add_bar

ON: Final = ("mpesa", "cash")
OFF: Final = ("cash",)
STEERED: Final = Limits(stale_after_s=1e9)
"""For tests that move the clock on: the feed is not called stale for it."""


def _document(status: int, title: str, code: str, text: str, *, retryable: bool) -> dict[str, Any]:
    """Return the whole problem document (R4)."""
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": text,
        "error": text,
        "code": code,
        "retryable": retryable,
        "operation_id": None,
        "outcome": "failed",
        "details": [],
        "errors": [],
    }


async def test_a_page_that_has_the_version_gets_nothing_until_it_changes(database_url: str, sql: Any) -> None:
    """Live path: equal on connect, nothing to send; the next change comes as ever."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub:
        seen = (await hub.known(bar)).offer.version
        async with open_page(hub, bar, last_event_id=seen) as page:
            await page.until(lambda page: page.writes == 1)
            await switch(sql, bar, False)
            await page.until_offers(*OFF)
            assert len(page.frames) == 1


@pytest.mark.parametrize("seen", ["", "other:1", "1", "x" * 5000, "epoch:999"])
async def test_a_page_with_an_odd_last_event_id_gets_the_snapshot(database_url: str, sql: Any, seen: str) -> None:
    """Live path: anything but the current version counts as none."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar, last_event_id=seen) as page:
        await page.until_offers(*ON)


async def test_a_bar_that_does_not_exist_is_a_404_and_is_not_watched(database_url: str) -> None:
    """Spec 6: unknown bar 404; asking for made-up ids fills no memory."""
    async with running(database_url) as hub:
        async with open_page(hub, uuid4()) as page:
            await page.until_over()
        assert page.status == 404
        assert json.loads(page.body) == _document(404, "Not Found", "bar_not_found", NOT_FOUND, retryable=False)
        with pytest.raises(BarNotFound):
            await hub.known(uuid4())
        assert hub.state.watched == 0


async def test_the_document_of_the_api_names_the_answer_without_a_body(site: Any) -> None:
    """Spec 6: 304 is an answer of the poll, without content."""
    document = (await site.client.get("/api/openapi.json")).json()
    answer = document["paths"]["/api/bars/{bar}/payment-methods"]["get"]["responses"]["304"]
    assert answer["description"]
    assert not answer.get("content")


async def test_an_id_wins_over_a_slug(database_url: str, sql: Any) -> None:
    """Spec 6: by id or slug; text that no bar can have is no bar."""
    bar, other = await add_bar(sql), await add_bar(sql)
    await sql.execute("update public.bars set slug = $2 where id = $1", other, str(bar))
    await sql.execute("update public.bars set slug = 'mama-njeri' where id = $1", bar)
    async with running(database_url) as hub:
        assert await hub.resolve(str(bar)) == bar
        assert await hub.resolve("mama-njeri") == bar
        for text in ("nobody", "", "a\x00b", "\ud800", "x" * 10_000):
            with pytest.raises(BarNotFound):
                await hub.resolve(text)


async def test_a_deleted_bar_ends_its_pages_and_is_not_found(database_url: str, sql: Any) -> None:
    """R3.4: the page gets `bye`, comes back and finds 404."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        await sql.execute("delete from public.bars where id = $1", bar)
        await page.until_over()
        assert page.names[-1] == "bye"
        with pytest.raises(BarNotFound):
            await hub.known(bar)
        assert hub.state.watched == 0


@pytest.mark.parametrize("has_wire", [True, False], ids=["our server", "any ASGI server"])
async def test_a_thousand_flips_are_few_frames_for_a_page_that_is_slow_and_the_last_is_right(
    database_url: str, sql: Any, has_wire: bool
) -> None:
    """L4: dirty, not a queue: what was missed is one frame, the newest, as soon as there is room for it."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    limits = Limits(beat_every_s=3_600.0)  # no heartbeat brings it along
    async with (
        running(database_url, limits=limits) as hub,
        open_page(hub, bar, has_wire=has_wire) as slow,
        open_page(hub, bar, has_wire=has_wire) as quick,
    ):
        await slow.until_offers(*ON)
        slow.stop_reading()
        for flip in range(200):
            await switch(sql, bar, flip % 2 == 1)
        last = (await hub.known(bar, fresh=True)).offer.version
        await quick.until(lambda page: page.frames[-1].id == last)
        assert slow.attempts == 2
        slow.read_again()
        await slow.until(lambda page: page.frames[-1].id == last)
        assert len(slow.frames) <= 3
        assert slow.frames[-1].methods == list(ON)


async def test_a_client_that_takes_nothing_is_closed_and_counted_while_others_go_on(
    database_url: str, sql: Any
) -> None:
    """L7: 5 s without draining; its connection is cut, too."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    clock = SteeredClock()
    before = metrics.streams_closed.labels("slow")._value.get()
    async with (
        running(database_url, limits=STEERED, clock=clock) as hub,
        open_page(hub, bar) as slow,
        open_page(hub, bar) as quick,
    ):
        await slow.until_offers(*ON)
        await quick.until_offers(*ON)
        slow.stop_reading()
        await switch(sql, bar, False)
        await quick.until_offers(*OFF)
        clock.advance(2.5)
        hub.tick()
        assert not slow.is_over
        clock.advance(2.5)
        hub.tick()
        await slow.until_over()
        assert slow.aborted
        assert metrics.streams_closed.labels("slow")._value.get() == before + 1
        await switch(sql, bar, True)
        await quick.until_offers(*ON)
        assert hub.state.streams == 1


async def test_heartbeats_come_from_one_timer(database_url: str, sql: Any) -> None:
    """Live path: a named event every 15 s, to every page, also where nothing changes."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    clock = SteeredClock()
    async with running(database_url, limits=STEERED, clock=clock) as hub, AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(open_page(hub, bar)) for _ in range(150)]
        await asyncio.gather(*(page.until_offers(*ON) for page in pages))
        for beats in (1, 2):
            clock.advance(14.0)
            hub.tick()
            clock.advance(1.5)
            hub.tick()
            await asyncio.gather(*(page.until(lambda page: page.names.count("hb") == beats) for page in pages))  # noqa: B023


async def test_a_stream_has_a_bounded_life_and_says_when_to_come_back(database_url: str, sql: Any) -> None:
    """Live path: bounded, randomised stream life."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    clock = SteeredClock()
    async with running(database_url, limits=STEERED, clock=clock) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        clock.advance(3_601.0)
        hub.tick()
        await page.until_over()
        assert page.names[-1] == "bye"
        assert 500 <= page.events[-1].data["retry_ms"] <= 5_000
        assert hub.state.streams == 0


@pytest.mark.parametrize(
    ("cap", "code"),
    [
        (Limits(streams=2), "streams_process"),
        (Limits(streams_per_address=2), "streams_address"),
        (Limits(streams_per_bar=2), "streams_bar"),
    ],
)
async def test_a_cap_is_a_503_that_says_when_to_come_again(database_url: str, sql: Any, cap: Limits, code: str) -> None:
    """Live path: caps per process, address and bar; a page that leaves makes room."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=cap) as hub, open_page(hub, bar) as one, open_page(hub, bar) as two:
        await one.until_offers(*ON)
        await two.until_offers(*ON)
        async with open_page(hub, bar) as third:
            await third.until_over()
        assert third.status == 503
        assert int(third.headers["retry-after"]) >= 1
        assert third.headers["content-type"] == "application/problem+json"
        text = json.loads(third.body)["detail"]
        assert json.loads(third.body) == _document(503, "Service Unavailable", code, text, retryable=True)
        one.leave()
        await eventually(lambda: hub.state.streams == 1)
        async with open_page(hub, bar) as again:
            await again.until_offers(*ON)


async def test_draining_says_goodbye_to_all_and_refuses_new_pages(database_url: str, sql: Any) -> None:
    """Live path: `bye` with a random time to come back; who takes nothing is cut at the deadline."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, AsyncExitStack() as stack:
        pages = [await stack.enter_async_context(open_page(hub, bar)) for _ in range(100)]
        await asyncio.gather(*(page.until_offers(*ON) for page in pages))
        pages[0].stop_reading()
        assert await hub.drain(2.0) == 1
        await asyncio.gather(*(page.until_over() for page in pages))
        assert all(page.names[-1] == "bye" for page in pages[1:])
        assert len({page.events[-1].data["retry_ms"] for page in pages[1:]}) > 20
        assert hub.state.is_draining
        async with open_page(hub, bar) as late:
            await late.until_over()
        assert late.status == 503
        assert json.loads(late.body)["code"] == "streams_draining"
        assert hub.state.streams == 0


async def test_a_client_that_goes_leaves_nothing_behind(database_url: str, sql: Any) -> None:
    """Live path: streams await the client's disconnect; a bar nobody uses is forgotten after a minute."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    clock = SteeredClock()
    async with running(database_url, limits=STEERED, clock=clock) as hub:
        async with open_page(hub, bar) as page:
            await page.until_offers(*ON)
            clock.advance(120.0)
            hub.tick()
            assert hub.state.watched == 1
        assert hub.state.streams == 0
        clock.advance(59.0)
        hub.tick()
        assert hub.state.watched == 1
        clock.advance(2.0)
        hub.tick()
        assert hub.state.watched == 0


async def test_memory_answers_without_the_database_and_is_bounded(database_url: str, sql: Any) -> None:
    """Live path: a storm of reconnects costs the database nothing; idle bars are forgotten, the oldest first."""
    bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(4)]
    async with running(database_url, limits=Limits(idle_bars=3)) as hub:
        for bar in bars:
            await hub.known(bar)
        assert hub.state.watched == 3
        reads = metrics.feed_reads.labels("done")
        before = reads._value.get()
        async with AsyncExitStack() as stack:
            pages = [await stack.enter_async_context(open_page(hub, bars[-1])) for _ in range(200)]
            await asyncio.gather(*(page.until_offers(*ON) for page in pages))
        assert reads._value.get() == before
        await asyncio.gather(*(hub.known(bar, fresh=True) for bar in bars * 50))
        assert reads._value.get() <= before + 2


async def test_a_handler_that_the_server_cancels_is_cancelled(database_url: str, sql: Any) -> None:
    """A server that cancels its handlers at its own deadline is not held up."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub:
        page = Page(hub, bar)
        task = asyncio.create_task(page.run())
        await page.until_offers(*ON)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert hub.state.streams == 0


async def test_a_bar_that_cannot_be_read_is_stale_until_it_can(database_url: str, sql: Any) -> None:
    """Spec 2, L6: fail closed: no frame, `stale`, and the frame as soon as there is one."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, sql.transaction():
        await sql.execute("lock table public.bars in access exclusive mode")
        async with open_page(hub, bar) as page:
            await page.until(lambda page: page.names == ["stale"])
            await sql.execute("rollback; begin")
            await page.until_offers(*ON)
