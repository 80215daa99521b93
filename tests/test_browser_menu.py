"""The customers' page in a real browser: every state that a person meets, on a phone and on a desk, and paying.

What other writers and lost connections do to it stands in `test_browser_live`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import pytest
from playwright.async_api import Page, Route, expect

from mpesa_sync.web.customer_texts import ENGLISH
from tests.support.chromium import DESKTOP, keep
from tests.support.live_hub import switch
from tests.support.premises import Premises, until_offers

pytestmark = pytest.mark.asyncio(loop_scope="module")
_DESK: Final = pytest.param("desktop", DESKTOP, marks=pytest.mark.prove)  # customers hold a phone: a longer proof
WIDTHS: Final = pytest.mark.parametrize(("wide", "size"), [("phone", (360, 740)), _DESK])
FIRST_VIEW_BYTES: Final = 60 * 1024
QUICK_RETRIES: Final = "Math.random = () => 0.05"
_CLOSE: Final = "update public.bars set active = $2 where id = $1"
LOOKS: Final = """() => {
  const seen = (one) => one.getClientRects().length > 0 && one.getBoundingClientRect().width > 1;
  const found = [];
  for (const one of [...document.querySelectorAll("a, button, input, label.choice")].filter(seen)) {
    const target = one.closest("label.choice") ?? one;
    const { height, width, left } = target.getBoundingClientRect();
    if (left >= 0 && Math.min(height, width) < 44) found.push(`small: ${one.outerHTML}`);
  }
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth > clientWidth) found.push(`scrolls sideways: ${scrollWidth} > ${clientWidth}`);
  if (document.querySelectorAll("h1").length !== 1) found.push("not one heading");
  return found;
}"""


async def opened(place: Premises, bar: UUID, size: tuple[int, int], *, script: bool = True) -> Page:
    """Open the customers' page of a bar at this size; its tries to connect again come early."""
    page = await place.visits.open("", script=script)
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    if script:
        await page.add_init_script(QUICK_RETRIES)
    await page.goto(f"{place.origin}/menu/{bar.hex}")
    return page


async def until_says(page: Page, *keys: str) -> None:
    """Wait until the line about the connection says all of these texts."""
    for key in keys:
        await expect(page.locator("#status")).to_contain_text(ENGLISH[key])


async def looks(page: Page, name: str, wide: str) -> None:
    """Check that everything can be hit and nothing is cut off; the phone's run keeps the pictures, of both widths."""
    assert await page.evaluate(LOOKS) == [], name
    if wide == "phone":
        await keep(page, name)


@WIDTHS
async def test_loading_live_reconnecting_and_offline(place: Premises, wide: str, size: tuple[int, int]) -> None:
    """Issue 6, states: what the server rendered until the stream is there, live, cut, without network, live again."""
    bar = await place.bar(shown=True, row=True)
    page = await place.visits.open("")
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await page.add_init_script(QUICK_RETRIES)
    going_on = asyncio.Event()

    async def hold(route: Route) -> None:
        await going_on.wait()
        await route.continue_()

    await page.route("**/payment-methods/events*", hold)
    await page.goto(f"{place.origin}/menu/{bar.hex}")
    await until_says(page, "feed.connecting")
    await until_offers(page, "mpesa", "cash")
    await looks(page, "menu-loading", wide)
    going_on.set()
    await until_says(page, "feed.live")
    await looks(page, "menu-live", wide)
    await page.context.set_offline(True)
    await until_says(page, "feed.offline", "feed.cash_is_fine")
    await until_offers(page, "cash")
    await looks(page, "menu-offline", wide)
    await page.context.set_offline(False)
    await until_says(page, "feed.live")
    await until_offers(page, "mpesa", "cash")
    await place.end()
    try:
        await until_says(page, "feed.reconnecting")
        await looks(page, "menu-reconnecting", wide)
    finally:
        await place.serve()
    await until_says(page, "feed.live")


@WIDTHS
async def test_stale(place: Premises, wide: str, size: tuple[int, int]) -> None:
    """Issue 6, L6: M-Pesa is withdrawn and cash stays, in words; whoever wants to pay all the same is told, too."""
    bar = await place.bar(shown=True, row=True)
    page = await opened(place, bar, size)
    plain = await opened(place, bar, size, script=False)
    await until_says(page, "feed.live")
    place.proxy.black_hole()
    try:
        await until_says(page, "feed.stale", "feed.cash_is_fine")
        await until_offers(page, "cash")
        await page.get_by_role("button", name="Pay with Cash").click()
        await expect(page.locator("#answer")).to_have_text(ENGLISH["pay.unsure.cash"])
        await looks(page, "menu-stale", wide)
        await plain.get_by_role("button", name="Pay").click()
        await expect(plain.locator("#answer")).to_contain_text("please do not pay with M-Pesa yet")
        await until_offers(plain, "cash")
        await looks(plain, "menu-unsure-without-javascript", wide)
    finally:
        place.proxy.disarm()
    await until_offers(page, "mpesa", "cash")


@WIDTHS
async def test_unknown_closed_and_nothing_offered(place: Premises, wide: str, size: tuple[int, int]) -> None:
    """Issue 6, states: no such venue, a venue marked as closed (which changes live), and no way to pay at all."""
    bar = await place.bar(shown=True, row=True)
    page = await place.visits.open("/menu/no-such-bar")
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await expect(page.get_by_role("heading", level=1)).to_have_text(ENGLISH["problem.404.title.customer"])
    await looks(page, "menu-unknown", wide)
    page, plain = await opened(place, bar, size), await opened(place, bar, size, script=False)
    await until_says(page, "feed.live")
    for closed in (True, False, True):
        await place.sql.execute(_CLOSE, bar, not closed)
        await expect(page.locator("#closed")).to_be_visible(visible=closed)
        await until_offers(page, *(("cash",) if closed else ("mpesa", "cash")))
        await plain.get_by_role("link", name=ENGLISH["menu.again"]).click()
        await expect(plain.locator("#closed")).to_be_visible(visible=closed)
    await looks(page, "menu-closed", wide)
    await looks(plain, "menu-closed-without-javascript", wide)
    await place.sql.execute("update public.bars set payment_cash_enabled = false where id = $1", bar)
    await until_offers(page)
    await expect(page.locator("#button")).to_be_hidden()
    await looks(page, "menu-nothing", wide)


@WIDTHS
async def test_paying_asks_the_server_again(place: Premises, wide: str, size: tuple[int, int]) -> None:
    """Issue 6: allowed; then refused though this page has not heard of the change, which it shows at once."""
    bar = await place.bar(shown=True, row=True)
    page = await place.visits.open("")
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    await page.route("**/payment-methods*", lambda route: route.abort())
    await page.route("**/payment-methods/events*", lambda route: route.abort())
    await page.goto(f"{place.origin}/menu/{bar.hex}")
    pay = page.get_by_role("button", name="Pay with M-Pesa")
    answer, phone = page.locator("#answer"), page.locator("#phone")
    await phone.fill("0712 345")
    await pay.click()
    await expect(page.locator("#phone-wrong")).to_have_text(ENGLISH["pay.wrong.phone.malformed"])
    await expect(phone).to_be_focused()
    await expect(phone).to_have_attribute("aria-invalid", "true")
    await looks(page, "menu-wrong", wide)
    await phone.fill("0712 345 678")
    await page.locator("#amount").fill("1,250")
    await pay.click()
    await expect(answer).to_have_text(ENGLISH["pay.allowed.mpesa"])
    await expect(page.locator("#phone-wrong")).to_be_hidden()
    await looks(page, "menu-allowed", wide)
    await switch(place.sql, bar, False)
    await pay.click()
    await expect(answer).to_have_text("M-Pesa is not possible here right now. Possible: Cash.")
    await until_offers(page, "cash")
    await expect(phone).to_have_value("0712 345 678")
    await looks(page, "menu-refused", wide)
    await page.context.set_offline(True)
    await page.get_by_label("Cash").check()
    await page.get_by_role("button", name="Pay with Cash").click()
    await expect(answer).to_have_text(ENGLISH["pay.failed"])
    await page.context.set_offline(False)


@WIDTHS
async def test_paying_without_javascript(place: Premises, wide: str, size: tuple[int, int]) -> None:
    """Issue 6, R3.4: a form and a page with the answer in view; what is typed stays, what is wrong is marked."""
    bar = await place.bar(shown=True, row=True)
    page = await opened(place, bar, size, script=False)
    answer, phone, pay = page.locator("#answer"), page.locator("#phone"), page.locator("#button")
    await looks(page, "menu-without-javascript", wide)
    await phone.fill("12")
    await pay.click()
    await expect(page.locator("#phone-wrong")).to_have_text(ENGLISH["pay.wrong.phone.malformed"])
    await expect(phone).to_have_value("12")
    await phone.fill("0712 345 678")
    await pay.click()
    await expect(answer).to_have_text(ENGLISH["pay.allowed.mpesa"])
    await expect(answer).to_be_in_viewport()
    await expect(phone).to_have_value("0712 345 678")
    await switch(place.sql, bar, False)
    await pay.click()
    await expect(answer).to_have_text("M-Pesa is not possible here right now. Possible: Cash.")
    await expect(page.locator("#methods input:checked")).to_have_count(0)
    await until_offers(page, "cash")
    await looks(page, "menu-refused-without-javascript", wide)
    await pay.click()
    await expect(page.locator("#method-wrong")).to_have_text(ENGLISH["pay.wrong.method.missing"])
    await page.get_by_label("Cash").check()
    await pay.click()
    await expect(answer).to_have_text(ENGLISH["pay.allowed.cash"])


async def test_a_choice_and_what_was_typed_outlive_a_withdrawal(place: Premises) -> None:
    """Issue 6: never left on what has vanished, said so; the number stays, and the own choice comes back with it."""
    bar = await place.bar(shown=True, row=True)
    page = await place.menu(bar)
    await until_says(page, "feed.live")
    await page.get_by_label("M-Pesa", exact=False).first.click()
    await page.locator("#phone").fill("0712 345 678")
    await switch(place.sql, bar, False)
    await until_offers(page, "cash")
    await expect(page.locator("#news")).to_have_text("M-Pesa is not possible any more. Please choose again.")
    await expect(page.locator("#methods input:checked")).to_have_count(0)
    await expect(page.locator("#phone")).to_be_hidden()
    await expect(page.locator("#button")).to_have_text("Pay")
    await page.locator("#button").click()
    await expect(page.locator("#method-wrong")).to_have_text(ENGLISH["pay.wrong.method.missing"])
    await switch(place.sql, bar, True)
    await until_offers(page, "mpesa", "cash")
    await expect(page.locator("#methods input:checked")).to_have_value("mpesa")
    await expect(page.locator("#phone")).to_have_value("0712 345 678")
    await expect(page.locator("#choice")).to_have_text("Your choice: M-Pesa.")


async def test_who_chose_nothing_gets_the_first_that_is_possible(place: Premises) -> None:
    """Issue 6: the default follows what is offered, and is announced."""
    bar = await place.bar(shown=True, row=True)
    page = await place.menu(bar)
    await until_says(page, "feed.live")
    for on in (False, True):
        await switch(place.sql, bar, on)
        await expect(page.locator("#methods input:checked")).to_have_value("mpesa" if on else "cash")
        await expect(page.locator("#button")).to_have_text(f"Pay with {'M-Pesa' if on else 'Cash'}")
        await expect(page.locator("#choice")).to_have_text(f"Your choice: {'M-Pesa' if on else 'Cash'}.")


async def test_the_first_view_is_at_most_sixty_kilobytes(place: Premises) -> None:
    """Issue 6: all bytes of all answers, headers too, until the page is live; no fonts, seven requests."""
    bar = await place.bar(shown=True, row=True)
    page = await place.visits.open("")
    devtools = await page.context.new_cdp_session(page)
    asked: dict[str, str] = {}
    got: dict[str, float] = {}

    def answered(told: dict[str, Any]) -> None:
        asked[told["requestId"]] = told["type"]
        got[told["requestId"]] = told["response"]["encodedDataLength"]

    def came(told: dict[str, Any]) -> None:
        got[told["requestId"]] = got.get(told["requestId"], 0) + told["encodedDataLength"]

    def ended(told: dict[str, Any]) -> None:
        got[told["requestId"]] = told["encodedDataLength"]

    devtools.on("Network.responseReceived", answered)
    devtools.on("Network.dataReceived", came)
    devtools.on("Network.loadingFinished", ended)
    await devtools.send("Network.enable")
    await page.goto(f"{place.origin}/menu/{bar.hex}", wait_until="load")
    await until_says(page, "feed.live")
    total = sum(got.values())
    print(f"first view: {total:.0f} bytes in {len(asked)} answers: {sorted(asked.values())}")
    assert 10_000 < total <= FIRST_VIEW_BYTES
    assert "Font" not in asked.values()
    assert len(asked) <= 7


async def test_who_wants_less_motion_gets_none(place: Premises) -> None:
    """Issue 6, prefers-reduced-motion: a method that appears is shown without a fade."""
    bar = await place.bar(shown=True, row=True)
    for motion, animated in (("reduce", "none"), ("no-preference", "fresh")):
        page = await place.menu(bar)
        await page.emulate_media(reduced_motion="reduce" if motion == "reduce" else "no-preference")
        await until_says(page, "feed.live")
        await switch(place.sql, bar, False)
        await until_offers(page, "cash")
        await switch(place.sql, bar, True)
        await until_offers(page, "mpesa", "cash")
        name = "() => getComputedStyle(document.querySelector('[data-method=mpesa] .choice')).animationName"
        assert await page.evaluate(name) == animated


async def test_a_venue_that_is_deleted_says_so_and_offers_no_mpesa(place: Premises) -> None:
    """R3.4: an open page of a venue that is gone."""
    bar = await place.bar(shown=True, row=True)
    page = await opened(place, bar, (360, 740))
    await until_says(page, "feed.live")
    await place.sql.execute("delete from public.bars where id = $1", bar)
    await until_says(page, "feed.gone")
    await until_offers(page, "cash")
