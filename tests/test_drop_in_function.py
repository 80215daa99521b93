"""The drop-in's function on pages with a UI of their own, as its how-to shows it; it leaves nothing behind."""

from __future__ import annotations

import json
from typing import Final

import pytest
from playwright.async_api import Request, expect

from mpesa_sync.web.customer_texts import ENGLISH
from tests.support.drop_in import Venue, live_element, until_offered
from tests.support.fake_feed import until
from tests.support.host_site import shown_in_guide
from tests.support.live_hub import switch

pytestmark = pytest.mark.asyncio(loop_scope="module")
REACT: Final = """
export const useState = (first) => [first, (next) => { window.offer = next; }];
export const useEffect = (effect) => { window.cleanup = effect(); };
"""


async def test_an_old_pay_button_is_driven_by_the_function(venue: Venue) -> None:
    """Issue 6: the page of the existing platform keeps its button; before it pays it asks us again."""
    bar = await venue.place.bar(shown=False, row=True)
    venue.add("/buttons", shown_in_guide("html", 1), bar)
    venue.add("/pay.js", shown_in_guide("js").replace("const stop", "window.stopped"), bar)
    venue.site.allow(venue.place.origin)
    page = await venue.open("/buttons")
    button = page.locator("#mpesa")
    await expect(button).to_be_hidden()
    await switch(venue.place.sql, bar, True)
    await expect(button).to_be_visible()
    venue.add("/ask.js", shown_in_guide("js", 1) + "export { allowed, reason };", bar)
    asked = "import('/ask.js').then(({ allowed, reason }) => [allowed, reason])"
    assert await page.evaluate(asked) == [True, ENGLISH["pay.allowed.mpesa"]]
    await switch(venue.place.sql, bar, False)
    await expect(button).to_be_hidden()


async def test_what_was_stopped_asks_and_tells_no_more(venue: Venue) -> None:
    """Nothing leaks: no stream, no timer, no listener; a removed element is as good as stopped."""
    bar, page = await live_element(venue)
    asked: list[str] = []

    def note(request: Request) -> None:
        asked.append(request.url)

    await page.evaluate(
        f"window.own = []; window.stopped = mpesaSync.watch({{ bar: '{bar}', onChange: (one) => own.push(one) }}); 0"
    )
    await until(page, "own.at(-1)?.state ?? ''", "live")
    element = "document.querySelector('mpesa-methods')"
    await page.evaluate(f"all.length = 0; document.body.append({element})")
    await until(page, "all.at(-1)?.state ?? ''", "live")
    await until_offered(page, "mpesa", "cash")
    await page.evaluate(f"stopped(); window.kept = {element}; kept.remove(); all.length = own.length = 0")
    page.on("request", note)
    await page.evaluate("dispatchEvent(new Event('online')); dispatchEvent(new Event('offline'))")
    control = await venue.element(bar)
    await until_offered(control, "mpesa", "cash")
    await switch(venue.place.sql, bar, False)
    await until_offered(control, "cash")
    assert (asked, await page.evaluate("[...all, ...own]")) == ([], [])


async def test_twice_included_is_once_and_as_a_module_it_works(venue: Venue) -> None:
    """Issue 6: a page that has it in its head and in its body; each element follows its own venue."""
    bars = [await venue.place.bar(shown=shown, row=True) for shown in (True, False)]
    script = shown_in_guide("html").splitlines()[1]
    module = script.replace("async", 'type="module"')
    elements = "".join(
        f'<mpesa-methods bar="{bar}" name="at-{number}"></mpesa-methods>' for number, bar in enumerate(bars)
    )
    venue.site.allow(venue.place.origin)
    venue.add("/twice", script + elements + script.replace(" async", "") + module, "")
    page = await venue.open("/twice")
    await expect(page.locator("input[name=at-0]")).to_have_count(2)
    await expect(page.locator("input[name=at-1]")).to_have_count(1)
    venue.add("/module", module + elements, "")
    page = await venue.open("/module")
    await expect(page.locator("input[name=at-0]")).to_have_count(2)


async def test_the_hook_of_the_how_to_works(venue: Venue) -> None:
    """A React page: it loads the script, follows, and stops when it goes."""
    bar = await venue.place.bar(shown=True, row=True)
    hook = shown_in_guide("jsx").replace('"react"', '"/react.js"')
    venue.site.files["/react.js"] = REACT
    venue.add("/hook.js", f"{hook}\nusePaymentMethods('{bar}');", bar)
    venue.add("/hook", '<script type="module" src="/hook.js"></script>', bar)
    venue.site.allow(venue.place.origin, trusted_types=False)
    page = await venue.open("/hook")
    await until(page, "window.offer?.mpesa ?? false")
    await switch(venue.place.sql, bar, False)
    await until(page, "!window.offer.mpesa && window.offer.state === 'live'")
    await page.evaluate("cleanup()")
    control = await venue.element(bar)
    await switch(venue.place.sql, bar, True)
    await until_offered(control, "mpesa", "cash")
    assert await page.evaluate("offer.mpesa") is False


async def test_an_error_of_the_page_is_its_own(venue: Venue) -> None:
    """A page whose onChange throws is told of the next change all the same."""
    bar = await venue.place.bar(shown=True, row=True)
    venue.add(
        "/throws.js", "mpesaSync.watch({ bar: 'mama-njeri', onChange(one) { all.push(one); throw 'oops'; } });", bar
    )
    script = shown_in_guide("html").splitlines()[1].replace(" async", "")
    venue.add("/throws", script + '<script src="/throws.js"></script>', bar)
    page = await venue.open("/throws")
    await until(page, "all.at(-1)?.mpesa ?? false")
    await switch(venue.place.sql, bar, False)
    await until(page, "!all.at(-1).mpesa && all.at(-1).state === 'live'")
    troubles = venue.place.visits.troubles
    assert troubles
    assert all("oops" in trouble for trouble in troubles), json.dumps(troubles)
    troubles.clear()
