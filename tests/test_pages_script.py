"""The pages' scripts in a real browser, under the real policy: what is shown is confirmed, and said in words.

The feed is played (tests/support/fake_feed.py), so that it can be late, silent, stale and gone when a test wants it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.support.chromium import browser
from tests.support.fake_feed import FakeFeed, fake_feed, shown, until, until_shown, until_state
from tests.support.pages import facts, row

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALL = ("mpesa", "card", "cash")
_ENDED_WHILE_IT_POLLS = """async () => {
  const { watch } = await import("/static/live.js");
  const turn = () => new Promise((done) => { const { port1, port2 } = new MessageChannel();
    port1.onmessage = done; port2.postMessage(0); });
  const after = { told: [], asked: 0, timers: 0 };
  let isOver = false, answer;
  const [wait, open] = [setTimeout, EventSource];
  Math.random = () => 0;
  EventSource = class {
    constructor() { if (isOver) after.asked += 1; }
    addEventListener(name, act) { if (name === "error") queueMicrotask(act); }
    close() {}
  };
  fetch = () => new Promise((done) => (answer = done));
  setTimeout = (...args) => { if (isOver) after.timers += 1; return wait(...args); };
  const tell = (what) => isOver && after.told.push(what);
  const stop = watch({ url: "/x", version: "e:7", onOffer: tell, onState: tell });
  while (!answer) await turn();
  stop();
  isOver = true;
  answer({ status: 200, ok: true, headers: new Headers(), json: async () => ({ methods: [], version: "e:8" }) });
  await turn();
  setTimeout = wait;
  EventSource = open;
  return after;
}"""


@pytest_asyncio.fixture(loop_scope="module")
async def feed() -> AsyncIterator[FakeFeed]:
    """A played feed."""
    async with fake_feed() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chromium() -> AsyncIterator[Browser]:
    """A real browser, one for all of these tests."""
    async with browser() as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def page(chromium: Browser, feed: FakeFeed) -> AsyncIterator[Page]:
    """The customers' page, open and live; at the end it has raised no error and broken no rule of the policy."""
    context = await chromium.new_context(viewport={"width": 390, "height": 844})
    found = await context.new_page()
    errors: list[str] = []
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.on("console", lambda said: errors.append(said.text) if "Security Policy" in said.text else None)
    await found.goto(f"{feed.address}/menu/mama-njeri")
    await until_state(found, "live")
    yield found
    await context.close()
    assert not errors


async def test_a_change_shows_without_a_reload_and_the_choice_stays(page: Page, feed: FakeFeed) -> None:
    """R3.2: choices come and go in their order, the chosen one stays chosen, and the change is said."""
    assert feed.opened == ["e:7"]
    await page.check("input[value=card]")
    feed.change("card", "cash")
    await until_shown(page, "card", "cash")
    assert await page.is_checked("#methods input[value=card]")
    assert await page.inner_text("#news") == "M-Pesa is not possible any more."
    feed.change(*ALL)
    await until_shown(page, *ALL)
    assert await page.inner_text("#news") == "M-Pesa is possible now."
    assert await page.is_checked("#methods input[value=card]")


async def test_a_method_that_vanishes_is_not_left_chosen(page: Page, feed: FakeFeed) -> None:
    """Issue 3: nothing is chosen then, it is said politely, and the keyboard is not lost."""
    await page.click("input[value=mpesa]")
    assert await page.inner_text("#choice") == "Your choice: M-Pesa."
    feed.change("card", "cash")
    await until_shown(page, "card", "cash")
    assert await page.locator("#methods input:checked").count() == 0
    assert await page.inner_text("#news") == "M-Pesa is not possible any more. Please choose again."
    assert await page.evaluate("document.activeElement.id") == "question"


async def test_where_nothing_is_left_the_page_says_to_ask(page: Page, feed: FakeFeed) -> None:
    """Issue 3: no empty page."""
    feed.change()
    await until_shown(page)
    assert await page.is_visible("#none")
    assert not await page.is_visible("#next")


async def test_an_older_answer_is_not_taken_and_a_new_epoch_is(page: Page, feed: FakeFeed) -> None:
    """L3: within an epoch no page goes back; a new epoch replaces."""
    feed.change(*ALL)
    await until(page, "document.querySelector('main').dataset.version", "e:8")
    feed.send_frame(["cash"], "e:7")
    feed.send_frame(["card", "cash"], "f:1")
    await until_shown(page, "card", "cash")
    assert await page.inner_text("#news") == "M-Pesa is not possible any more."  # never less than card and cash


async def test_stale_withdraws_mpesa_until_a_frame_confirms_it(page: Page, feed: FakeFeed) -> None:
    """L6, R3.4: not confirmed is not offered; a heartbeat proves the way and not the answer."""
    feed.send("stale")
    await until_state(page, "stale")
    assert await shown(page) == ["card", "cash"]
    assert await page.inner_text("#status") == "We cannot confirm M-Pesa right now. Cash is fine."
    await _watch_mpesa(page)
    feed.send("hb")
    feed.change("cash")
    await until_state(page, "live")
    assert await page.evaluate("window.offered.includes(true)") is False
    feed.change("mpesa", "cash")
    await until_shown(page, "mpesa", "cash")


async def _watch_mpesa(page: Page) -> None:
    """Keep from now on, at every change of the page, whether M-Pesa could be chosen."""
    await page.evaluate(
        """() => { window.offered = []; new MutationObserver(() => offered.push(!!document.querySelector(
        '#methods input[value=mpesa]'))).observe(document.querySelector('main'), {subtree: true, childList: true}) }"""
    )


async def test_a_server_that_is_stale_from_the_start_is_never_taken_for_live(page: Page, feed: FakeFeed) -> None:
    """L6: frame and `stale` come together; the page does not offer M-Pesa in between."""
    feed.send("stale")
    await until_state(page, "stale")
    await _watch_mpesa(page)
    feed.is_stale = True
    feed.send("bye", '{"retry_ms": 10}')
    while len(feed.opened) < 2:
        await page.evaluate("() => new Promise(requestAnimationFrame)")
    await page.evaluate("() => new Promise(done => setTimeout(done, 200))")
    assert await page.evaluate("window.offered.includes(true)") is False
    assert await shown(page) == ["card", "cash"]


async def test_offline_withdraws_mpesa_and_online_asks_for_all_of_it(page: Page, feed: FakeFeed) -> None:
    """R3.4: while offline no M-Pesa, said in words; back online the whole answer is asked for."""
    await page.context.set_offline(True)
    await until_state(page, "offline")
    assert await shown(page) == ["card", "cash"]
    assert "You are offline" in await page.inner_text("#status")
    await page.context.set_offline(False)
    await until_state(page, "live")
    assert await shown(page) == list(ALL)
    assert feed.opened[-1] == ""


async def test_bye_brings_the_page_back_without_a_word(page: Page, feed: FakeFeed) -> None:
    """L5: a server that is being stopped sends pages away for a moment; they come back from where they were."""
    feed.send("bye", '{"retry_ms": 20}')
    while len(feed.opened) < 2:
        await page.evaluate("() => new Promise(requestAnimationFrame)")
    assert feed.opened[-1] == "e:7"
    assert await page.get_attribute("main", "data-state") == "live"
    assert await page.inner_text("#news") == ""


async def test_where_no_stream_comes_through_the_page_polls(chromium: Browser, feed: FakeFeed) -> None:
    """facts/live.md: the poll has the version as ETag; a stream that works again takes over."""
    page = await chromium.new_page()
    await page.clock.install()
    await page.goto(f"{feed.address}/menu/mama-njeri")
    await until_state(page, "live")
    feed.has_stream = False
    feed.cut()
    await until_state(page, "polling")
    assert await shown(page) == list(ALL)
    feed.methods, feed.number = ("cash",), feed.number + 1
    await page.clock.fast_forward(15_000)  # the longest wait between two tries
    await until_shown(page, "cash")
    feed.has_stream = True
    await page.clock.fast_forward(15_000)
    await until_state(page, "live")
    await page.close()


async def test_a_watch_that_is_ended_while_it_polls_is_over(page: Page) -> None:
    """What had been asked when it was ended is not told any more, and nothing is asked or waited for again."""
    after = await page.evaluate(_ENDED_WHILE_IT_POLLS)
    assert after == {"told": [], "asked": 0, "timers": 0}


async def test_forty_seconds_of_silence_withdraw_mpesa(chromium: Browser, feed: FakeFeed) -> None:
    """L6: a page without bytes for 40 s says so itself and stops offering M-Pesa; then it asks anew."""
    page = await chromium.new_page()
    await page.clock.install()
    await page.goto(f"{feed.address}/menu/mama-njeri")
    await page.clock.run_for(1000)
    await until_state(page, "live")
    await page.clock.run_for(38_000)
    assert await shown(page) == list(ALL)
    feed.answers.clear()  # it asks anew at once, and would be live again before it is looked at
    await page.clock.run_for(1999)
    await until_state(page, "stale")
    assert await shown(page) == ["card", "cash"]
    feed.answers.set()
    await page.clock.resume()
    await until_state(page, "live")
    assert await shown(page) == list(ALL)
    await page.close()


async def test_the_staff_page_follows_and_keeps_what_is_being_typed(chromium: Browser, feed: FakeFeed) -> None:
    """Spec 5: the status is live; the switch changes with it, a field somebody types into does not."""
    feed.facts = facts(row(False), mpesa_enabled=False)
    page = await chromium.new_page()
    await page.goto(f"{feed.address}/staff/bars/x/mpesa")
    await until(page, "document.getElementById('feed').textContent", "Live")
    assert await page.inner_text("#switch button") == "Switch M-Pesa on"
    await page.fill("#mpesa_passkey", "half a passkey")
    feed.facts = facts(row())
    feed.change("mpesa", "cash")
    await until(page, "document.querySelector('#switch button').textContent", "Switch M-Pesa off")
    assert await page.is_disabled("#switch button")  # for a moment: a press that was on its way meant the other
    assert await page.inner_text("#now [data-part=word]") == "Shown"
    assert await page.input_value("#mpesa_passkey") == "half a passkey"
    await until(page, "document.querySelector('#switch button').disabled", False)
    await page.close()


async def test_without_a_script_the_page_is_right(chromium: Browser, feed: FakeFeed) -> None:
    """R3.4: with JavaScript off the same answer, and a word about loading it again."""
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{feed.address}/menu/mama-njeri")
    assert await page.locator("#methods input").count() == 3
    assert "Load the page again" in await page.inner_text("#status")
    await context.close()
