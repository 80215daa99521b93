"""The drop-in on a venue's own page, of another origin, in a real browser, as its how-to shows it (R3.2)."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import pytest
import pytest_asyncio
from playwright.async_api import Page, Request, expect

from mpesa_sync.web.customer_texts import ENGLISH
from tests.support.chromium import Visits, keep
from tests.support.fake_feed import until
from tests.support.host_site import HostSite, host_site, shown_in_guide
from tests.support.live_hub import OFF, SHOWN, switch
from tests.support.premises import Premises, premises

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNSURE: Final = ENGLISH["drop-in.unsure"]
QUICK_RETRIES: Final = "Math.random = () => 0.05;"
KEEP_ALL: Final = "window.all = []; addEventListener('mpesa-methods', ({ detail }) => all.push(detail));"
REACT: Final = """
export const useState = (first) => [first, (next) => { window.offer = next; }];
export const useEffect = (effect) => { window.cleanup = effect(); };
"""
SLUG: Final = "update public.bars set slug = $2 where id = $1"


@dataclass
class Venue:
    """What the tests share: our server, and a site that it lists."""

    place: Premises
    site: HostSite

    def add(self, path: str, content: str, bar: UUID | str) -> None:
        """Add something to the site as the how-to shows it."""
        self.site.add(path, content, server=self.place.origin, bar=str(bar))

    async def open(self, path: str, *, before: str = "") -> Page:
        """Open a page of the site; `before` is a script that runs first."""
        page = await self.place.visits.open("")
        await page.add_init_script(QUICK_RETRIES + KEEP_ALL + before)
        await page.goto(self.site.origin + path)
        return page

    async def element(self, bar: UUID | str, *, before: str = "") -> Page:
        """Open a page with the element, under the strict policy of the how-to."""
        self.site.allow(self.place.origin)
        self.add("/element", shown_in_guide("html"), bar)
        return await self.open("/element", before=before)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def listed() -> AsyncIterator[HostSite]:
    """A site that our server lists."""
    async with host_site() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_premises(
    tmp_path_factory: pytest.TempPathFactory, server_url: str, greenfield_template: str, listed: HostSite
) -> AsyncIterator[Premises]:
    """Our server, which lists that site."""
    home = tmp_path_factory.mktemp("drop-in")
    allowed = {"MPESA_SYNC_ALLOWED_ORIGINS": listed.origin}
    async with premises(home, server_url, greenfield_template, **allowed) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def venue(place: Premises, listed: HostSite) -> AsyncIterator[Venue]:
    """The site and our server; nothing may go wrong on a page, nor break its policy, nor ask a third place."""
    place.visits = Visits(place.chromium, listed.origin, also=place.origin)
    listed.policy = ""
    yield Venue(place, listed)
    await place.visits.close()


async def until_offered(page: Page, *methods: str) -> None:
    """Wait until the element lets choose exactly this, in this order."""
    inputs = page.locator("mpesa-methods input[type=radio]:visible")
    await expect(inputs).to_have_count(len(methods))
    for place, method in enumerate(methods):
        await expect(inputs.nth(place)).to_have_value(method)


async def until_state(page: Page, state: str) -> None:
    """Wait until the element is in this state."""
    await expect(page.locator("mpesa-methods")).to_have_attribute("data-state", state)


async def live_element(venue: Venue) -> tuple[UUID, Page]:
    """Open a page with a bar that is offered M-Pesa, and wait until it is live."""
    bar = await venue.place.bar(shown=True, row=True)
    page = await venue.element(bar)
    await until_state(page, "live")
    await until_offered(page, "mpesa", "cash")
    return bar, page


async def test_what_anybody_writes_shows_on_the_page_that_a_venue_has(venue: Venue) -> None:
    """R3.2, R3.3: another program writes one field or the other; drift hides M-Pesa, as on our own page."""
    bar, page = await live_element(venue)
    await keep(page, "drop-in-live")
    sql = venue.place.sql
    for statement, value, offered in (
        *((SHOWN, False, ("cash",)), (SHOWN, True, ("mpesa", "cash"))),
        *((OFF, False, ("cash",)), (SHOWN, False, ("cash",))),
    ):
        await sql.execute(statement, bar, value)
        await until_offered(page, *offered)
    await switch(sql, bar, True)
    await until_offered(page, "mpesa", "cash")
    await until_state(page, "live")


async def test_a_slug_is_as_good_as_an_id_and_the_venue_may_change(venue: Venue) -> None:
    """Spec 6; an attribute that changes while the page is open is followed, and the one before is not any more."""
    bar, page = await live_element(venue)
    other = await venue.place.bar(shown=False, row=True)
    await venue.place.sql.execute(SLUG, other, "the-other bar ä")
    await page.evaluate("document.querySelector('mpesa-methods').setAttribute('bar', 'the-other bar ä')")
    await until_offered(page, "cash")
    await switch(venue.place.sql, bar, True)
    await switch(venue.place.sql, other, True)
    await until_offered(page, "mpesa", "cash")
    await switch(venue.place.sql, other, False)
    await until_offered(page, "cash")


async def test_a_choice_that_vanishes_is_taken_back_and_said(venue: Venue) -> None:
    """R3.4: nothing else is chosen instead; the keyboard is not lost; another choice stays."""
    bar, page = await live_element(venue)
    await page.check("mpesa-methods input[value=mpesa]")
    await switch(venue.place.sql, bar, False)
    await until_offered(page, "cash")
    line = page.locator("mpesa-methods [role=status]")
    await expect(line).to_have_text(ENGLISH["drop-in.gone"].format(method="M-Pesa"))
    await expect(page.locator("mpesa-methods input:checked")).to_have_count(0)
    await expect(page.get_by_role("radiogroup", name=ENGLISH["drop-in.label"])).to_be_focused()
    await keep(page, "drop-in-vanished")
    await page.check("mpesa-methods input[value=cash]")
    await switch(venue.place.sql, bar, True)
    await until_offered(page, "mpesa", "cash")
    await expect(page.locator("input[value=cash]")).to_be_checked()
    sent = "Object.fromEntries(new FormData(document.querySelector('form')))"
    assert await page.evaluate(sent) == {"payment-method": "cash"}
    await expect(line).to_have_text("")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_our_server_is_stopped_and_comes_back(venue: Venue, number: signal.Signals) -> None:
    """Drain and crash: the page goes on as it is, and is right about what changed meanwhile."""
    bar, page = await live_element(venue)
    try:
        await venue.place.end(number)
        await until_state(page, "reconnecting")
        await switch(venue.place.sql, bar, False)
    finally:
        await venue.place.serve()
    await until_offered(page, "cash")
    await until_state(page, "live")


async def test_a_page_that_opens_while_our_server_is_down_stays_what_it_was(venue: Venue) -> None:
    """Issue 6: it offers no M-Pesa, and nothing of it breaks; a page that has our script says cash."""
    bar, page = await live_element(venue)
    venue.add("/buttons", shown_in_guide("html", 1), bar)
    venue.add("/pay.js", shown_in_guide("js"), bar)
    script = await page.evaluate(f"fetch('{venue.place.origin}/drop-in/v1.js').then((answer) => answer.text())")
    venue.site.files["/drop-in/v1.js"] = script
    server = f"mpesaSync.watch({{ bar: '{bar}', server: '{venue.place.origin}', onChange: (one) => all.push(one) }})"
    venue.site.files["/watch.js"] = server
    venue.site.add(
        "/copy", '<script src="/drop-in/v1.js"></script><script src="/watch.js"></script>', server="", bar=""
    )
    await venue.place.end(signal.SIGKILL)
    try:
        late = await venue.open("/element")
        await expect(late.locator("mpesa-methods")).to_have_text("Please ask the staff how to pay.")
        buttons = await venue.open("/buttons")
        await expect(buttons.locator("#mpesa")).to_be_hidden()
        copy = await venue.open("/copy")
        await until(copy, "all.at(-1)?.state === 'stale'")
    finally:
        await venue.place.serve()
    told = await copy.evaluate("all.map(({ state, methods }) => [state, ...methods.map(({ id }) => id)])")
    assert told[:2] == [["connecting"], ["stale", "cash"]]
    await until(copy, "all.at(-1).mpesa && all.at(-1).state === 'live'")


async def test_the_database_is_out_of_reach(venue: Venue) -> None:
    """L6: not confirmed is not offered, said in words, on a page that opens then too; it heals by itself."""
    bar, page = await live_element(venue)
    venue.place.proxy.black_hole()
    try:
        await until_state(page, "stale")
        await until_offered(page, "cash")
        await expect(page.locator("mpesa-methods [role=status]")).to_have_text(UNSURE)
        await keep(page, "drop-in-stale")
        late = await venue.element(bar)
        await until_state(late, "stale")
        await until_offered(late, "cash")
        await switch(venue.place.sql, bar, False)
    finally:
        venue.place.proxy.disarm()
    for one in (page, late):
        await until_state(one, "live")
        await until_offered(one, "cash")
    assert not await late.evaluate("all.some(({ mpesa }) => mpesa)")


async def test_offline_withdraws_mpesa_and_online_is_right_again(venue: Venue) -> None:
    """R3.4."""
    bar, page = await live_element(venue)
    await page.context.set_offline(True)
    await until_state(page, "offline")
    await until_offered(page, "cash")
    await switch(venue.place.sql, bar, False)
    await page.evaluate("all.length = 0")
    await page.context.set_offline(False)
    await until_state(page, "live")
    await until_offered(page, "cash")
    assert not await page.evaluate("all.some(({ mpesa }) => mpesa)")


async def test_an_unknown_venue_is_offered_nothing(venue: Venue) -> None:
    """The texts are the page's own where it has some."""
    venue.site.allow(venue.place.origin)
    venue.add(
        "/element", shown_in_guide("html").replace("<mpesa-methods", '<mpesa-methods text-none="Uliza."'), "nowhere"
    )
    page = await venue.open("/element")
    await until_state(page, "gone")
    await until_offered(page)
    await expect(page.locator("mpesa-methods")).to_have_text("Uliza.")


async def test_a_site_that_is_not_listed_gets_nothing_from_its_browser(venue: Venue) -> None:
    """Spec 7: M-Pesa is not offered, and it is seen what the how-to says that one sees."""
    bar = await venue.place.bar(shown=True, row=True)
    async with host_site() as other:
        other.add("/element", shown_in_guide("html"), server=venue.place.origin, bar=str(bar))
        context = await venue.place.chromium.new_context()
        page = await context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        await page.goto(f"{other.origin}/element")
        await until_state(page, "stale")
        await until_offered(page, "cash")
        assert any("blocked by CORS policy" in line for line in said), said
        assert (
            await page.evaluate(f"fetch('{venue.place.origin}/api/bars/{bar}/payment-methods').catch(() => 'no')")
            == "no"
        )
        await context.close()


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
