"""The drop-in on a venue's own page, of another origin, in a real browser, as its how-to shows it (R3.2)."""

from __future__ import annotations

import signal
from typing import Final

import pytest
from playwright.async_api import expect

from mpesa_sync.web.customer_texts import ENGLISH
from tests.support.chromium import keep
from tests.support.drop_in import Venue, live_element, until_offered, until_state
from tests.support.fake_feed import until
from tests.support.host_site import host_site, shown_in_guide
from tests.support.live_hub import OFF, SHOWN, switch

pytestmark = pytest.mark.asyncio(loop_scope="module")
UNSURE: Final = ENGLISH["drop-in.unsure"]
SLUG: Final = "update public.bars set slug = $2 where id = $1"


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
