"""Our own page and the drop-in obey one contract (facts/live.md, Client): each case is played to both of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.support.chromium import browser
from tests.support.fake_feed import HOST, FakeFeed, fake_feed, until

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALL: Final = ["mpesa", "card", "cash"]
LESS: Final = ["card", "cash"]
OURS: Final = ("/menu/mama-njeri", "document.querySelector('main')", "#methods > li input")
DROP_IN: Final = (HOST, "document.querySelector('mpesa-methods')", "mpesa-methods input")
WATCH: Final = """window.seen = []; new MutationObserver(() => seen.push(!!document.querySelector(
'input[value=mpesa]'))).observe(document.body, {subtree: true, childList: true})"""
LIST: Final = """window.seen = []; new MutationObserver(() => seen.push(
[...document.querySelectorAll('input[type=radio]')].map((one) => one.value))
).observe(document.body, {subtree: true, childList: true})"""
HIDE: Final = """(hidden) => {
Object.defineProperty(document, 'visibilityState', { configurable: true, value: hidden ? 'hidden' : 'visible' });
Object.defineProperty(document, 'hidden', { configurable: true, value: hidden });
document.dispatchEvent(new Event('visibilitychange')); }"""
BACK: Final = (
    "dispatchEvent(new PageTransitionEvent('pagehide')), dispatchEvent(new PageTransitionEvent('pageshow', "
    "{ persisted: true }))"
)


@dataclass
class Shown:
    """One of the two pages, with time in our hands."""

    page: Page
    feed: FakeFeed
    at: str
    inputs: str

    async def state(self, state: str) -> None:
        """Wait until the page is in a state."""
        await until(self.page, f"{self.at}.dataset.state", state)

    async def offers(self, methods: list[str]) -> None:
        """Wait until exactly this can be chosen."""
        chosen = f"[...document.querySelectorAll('{self.inputs}')].map((one) => one.value)"
        await until(self.page, chosen, methods)

    async def opened(self, count: int) -> str:
        """Wait until so many streams were opened in all; return what the last one had."""
        async with asyncio.timeout(20):
            while len(self.feed.opened) < count:
                await self.page.evaluate("() => new Promise(requestAnimationFrame)")
        return self.feed.opened[-1]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """A real browser, one for all of these tests."""
    async with browser() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module", params=[OURS, DROP_IN], ids=["ours", "drop-in"])
async def shown(request: pytest.FixtureRequest, chromium: Browser) -> AsyncIterator[Shown]:
    """Our page or the drop-in's, live; at the end it has raised no error and broken no rule of the policy."""
    path, at, inputs = request.param
    async with fake_feed() as feed:
        context = await chromium.new_context()
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if "Security Policy" in said.text else None)
        await page.clock.install()
        await page.goto(feed.address + path)
        found = Shown(page, feed, at, inputs)
        await found.opened(1)
        await page.clock.run_for(100)
        await found.state("live")
        await found.offers(ALL)
        yield found
        await context.close()
    assert not errors


async def test_a_change_shows(shown: Shown) -> None:
    """R3.2."""
    shown.feed.change("card", "cash")
    await shown.offers(LESS)
    shown.feed.change(*ALL)
    await shown.offers(ALL)


async def test_an_older_answer_is_not_taken_and_a_new_epoch_is(shown: Shown) -> None:
    """L3: not even for a moment."""
    await shown.page.evaluate(LIST)
    shown.feed.change("mpesa", "cash")
    shown.feed.send_frame(["card"], "e:7")
    shown.feed.send_frame(["card"], "e:8")
    shown.feed.change("mpesa", "card")
    await shown.offers(["mpesa", "card"])
    assert ["card"] not in await shown.page.evaluate("seen")
    shown.feed.send_frame(["cash"], "f:1")
    await shown.offers(["cash"])


async def test_stale_withdraws_mpesa_and_only_a_frame_brings_it_back(shown: Shown) -> None:
    """L6: a heartbeat proves the way and not the answer; what comes with `stale` is not confirmed either."""
    shown.feed.send("stale")
    await shown.state("stale")
    await shown.offers(LESS)
    await shown.page.evaluate(WATCH)
    shown.feed.send("hb")
    shown.feed.change("mpesa", "card", "cash")
    shown.feed.send("stale")
    shown.feed.send_frame(["mpesa", "cash"], "e:9")
    shown.feed.send("stale")
    await shown.offers(["cash"])
    await shown.page.clock.run_for(200)
    assert await shown.page.evaluate("seen.includes(true)") is False
    shown.feed.send_frame(["mpesa", "cash"], "e:10")
    await shown.page.clock.run_for(200)
    await shown.state("live")
    await shown.offers(["mpesa", "cash"])


async def test_forty_seconds_of_silence_withdraw_mpesa(shown: Shown) -> None:
    """L6: a heartbeat begins them anew; then the page asks by itself, for all of the answer."""
    await shown.page.clock.run_for(39_000)
    shown.feed.send("hb")
    await shown.page.evaluate("() => new Promise(requestAnimationFrame)")
    await shown.page.clock.run_for(2_000)
    await shown.offers(ALL)
    shown.feed.is_stale = True
    await shown.page.clock.run_for(38_500)
    await shown.offers(LESS)
    assert await shown.opened(2) == ""
    await shown.state("stale")


async def test_offline_withdraws_mpesa_and_online_asks_for_all_of_it(shown: Shown) -> None:
    """R3.4."""
    await shown.page.context.set_offline(True)
    await shown.state("offline")
    await shown.offers(LESS)
    await shown.page.evaluate(WATCH)
    shown.feed.methods, shown.feed.number = ["cash"], 8
    await shown.page.context.set_offline(False)
    assert await shown.opened(2) == ""
    await shown.offers(["cash"])
    await shown.page.clock.run_for(100)
    await shown.state("live")
    assert await shown.page.evaluate("seen.includes(true)") is False


async def test_bye_brings_the_page_back_where_it_was(shown: Shown) -> None:
    """Drain: with the version that it has, and without withdrawing anything."""
    await shown.page.evaluate(WATCH)
    shown.feed.send("bye", '{"retry_ms": 700}')
    shown.feed.cut()
    await shown.page.evaluate("() => new Promise(requestAnimationFrame)")
    await shown.page.clock.run_for(800)
    assert await shown.opened(2) == "e:7"
    await shown.offers(ALL)
    assert await shown.page.evaluate("seen.includes(false)") is False


async def test_where_no_stream_comes_through_it_polls(shown: Shown) -> None:
    """Poll fallback: after three failures in a row; what it finds is confirmed, and a stream is tried again."""
    shown.feed.has_stream = False
    shown.feed.cut()
    shown.feed.methods, shown.feed.number = ["cash"], 8
    asked = shown.feed.polls
    while shown.feed.polls == asked:
        await shown.page.clock.run_for(1_000)
    await shown.state("polling")
    await shown.offers(["cash"])
    shown.feed.has_stream = True
    while len(shown.feed.opened) < 2:
        await shown.page.clock.run_for(1_000)
    await shown.page.clock.run_for(100)
    await shown.state("live")


async def test_a_bar_that_is_gone_is_offered_no_mpesa(shown: Shown) -> None:
    """404: said, and asked again; it may come back."""
    shown.feed.is_known = False
    shown.feed.cut()
    while shown.feed.polls == 0:
        await shown.page.clock.run_for(1_000)
    await shown.state("gone")
    await shown.offers(LESS)
    shown.feed.is_known = True
    shown.feed.number = 8
    while len(shown.feed.opened) < 2:
        await shown.page.clock.run_for(1_000)
    await shown.page.clock.run_for(100)
    await shown.state("live")
    await shown.offers(ALL)


async def test_coming_back_asks_anew(shown: Shown) -> None:
    """Resync on pageshow from the page cache; on visibilitychange after more than a heartbeat of quiet."""
    await shown.page.evaluate(BACK)
    assert await shown.opened(2) == "e:7"
    await shown.page.clock.run_for(100)
    await shown.page.evaluate(HIDE, True)
    await shown.page.clock.run_for(5_000)
    await shown.page.evaluate(HIDE, False)
    await shown.page.evaluate(HIDE, True)
    await shown.page.clock.run_for(25_000)
    assert len(shown.feed.opened) == 2
    await shown.page.evaluate(HIDE, False)
    assert await shown.opened(3) == "e:7"
    await shown.offers(ALL)
