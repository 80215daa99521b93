"""The staff app in a real browser: a list that follows, fields that fit the account, words that are heard, no mouse."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.async_api import expect

from mpesa_sync.web.texts import text
from tests.support.people import PASSWORD
from tests.support.premises import Premises
from tests.test_browser_story import THREE, tab_to

pytestmark = pytest.mark.asyncio(loop_scope="module")
_SPOIL: Final = "update public.mpesa_credentials set passkey_enc = '\\x00' where tenant_id = $1"
VENUES_MS: Final = 15_000
_OTHER: Final = """
insert into public.mpesa_credentials
select (jsonb_populate_record(c, jsonb_build_object('id', gen_random_uuid(), 'environment', 'sandbox',
    'business_shortcode', '600987', 'is_active', false))).*
from public.mpesa_credentials c where c.tenant_id = $1
"""
_SWITCH: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_END_SESSIONS: Final = "delete from mpesa_sync.sessions where account_id = $1"


async def test_the_list_of_venues_follows_and_says_when_it_does_not(place: Premises) -> None:
    """Issue 6: my venues as they are; a change of another program shows by itself, and the focus stays where it was."""
    bar = await place.bar(shown=True, row=True, name="Karibu Café & Grill")
    account = await place.owner(bar)
    page = await place.staff_page(bar, account)
    await page.clock.install()
    await page.goto(f"{place.origin}/staff")
    await expect(page.locator("#feed")).to_have_text(text("venues.live"))
    await expect(page.locator("#venues .state")).to_have_text("Shown")
    link = page.get_by_role("link", name="Karibu Café & Grill")
    await link.focus()
    await place.sql.execute(_SWITCH, bar, False)
    await page.clock.fast_forward(VENUES_MS)
    await expect(page.locator("#venues .state")).to_have_text("Hidden")
    await expect(link).to_be_focused()
    await place.sql.execute(_END_SESSIONS, account.id)
    await page.clock.fast_forward(VENUES_MS)
    await expect(page.locator("#feed")).to_have_text(text("venues.not_live"))
    await expect(page.locator("#venues .state")).to_have_text("Hidden")
    plain = await place.staff_page(bar, account, script=False)
    await plain.get_by_role("link", name="Your venues").click()
    await expect(plain.locator("#feed")).to_have_text(text("venues.not_live"))


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
async def test_a_paybill_and_a_till_have_their_own_fields(place: Premises, script: bool) -> None:
    """Issue 6: the fields are called as M-Pesa calls them, each says where to find it; the till's go with the till."""
    page = await place.staff_page(await place.bar(), script=script)
    await expect(page.get_by_role("textbox", name="Paybill number")).to_be_visible()
    await expect(page.locator("#mpesa_till_number")).to_be_hidden()
    await expect(page.get_by_text(text("form.paybill_number.hint"))).to_be_visible()
    await expect(page.get_by_text(text("form.store_number.hint"))).to_be_hidden()
    await page.get_by_text("Till (Buy Goods)").click()
    await expect(page.get_by_role("textbox", name="Store number")).to_be_visible()
    await expect(page.get_by_role("textbox", name="Till number")).to_be_visible()
    await expect(page.get_by_text(text("form.store_number.hint"))).to_be_visible()
    await expect(page.get_by_text(text("form.paybill_number.hint"))).to_be_hidden()
    await expect(page.get_by_text(text("form.mpesa_till_number.hint"))).to_be_visible()


async def test_without_a_script_the_form_has_the_numbers_of_the_other_environment_too(place: Premises) -> None:
    """Issue 6: what is stored for one environment is not posted for the other one."""
    bar = await place.bar(row=True)
    await place.sql.execute(_OTHER, bar)
    page = await place.staff_page(bar, script=False)
    number = page.locator("#mpesa_business_shortcode")
    await expect(number).to_have_value("600123")
    await page.get_by_role("link", name=text("form.fill.sandbox")).click()
    await expect(number).to_have_value("600987")
    await expect(page.locator("[name=mpesa_environment][value=sandbox]")).to_be_checked()
    await page.get_by_role("link", name=text("form.fill.production")).click()
    await expect(number).to_have_value("600123")
    await expect(page.locator("[name=mpesa_environment][value=production]")).to_be_checked()


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
async def test_what_was_done_or_could_not_be_has_the_focus(place: Premises, script: bool) -> None:
    """Issue 6: announced; a page that has just come is read from what matters."""
    bar = await place.bar(row=False)
    page = await place.staff_page(bar, script=script)
    await page.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(page.get_by_text(text("notice.on"), exact=True)).to_be_focused()
    off = await place.bar(row=False)
    page = await place.staff_page(off, script=script)
    await page.route("**/events*", lambda route: route.abort())  # the page must not learn of what comes
    await page.reload()
    await place.sql.execute(_SPOIL, off)
    await page.evaluate("document.querySelector('#switch input[name=etag]').remove()")
    await page.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(page.locator("#failed")).to_be_focused()
    await expect(page.locator("#failed")).to_contain_text("Save them again, then switch on.")
    wrong = await place.staff_page(await place.bar(row=False), script=False)
    await wrong.evaluate("document.querySelector('#switch input[name=is_active]').value = 'perhaps'")
    await wrong.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(wrong.locator("#errors")).to_be_focused()
    await expect(wrong.locator("#errors li")).to_have_count(1)
    await expect(wrong.locator("#failed")).to_have_count(0)


async def test_the_whole_story_needs_no_mouse(place: Premises) -> None:
    """Issue 6: sign in, a till, a refusal, the save, on, off and out, by keyboard alone; every stop is seen."""
    bar = await place.bar(name="Rift Valley Grill")
    account = await place.owner(bar)
    page = await place.visits.open("/staff")
    press, type_ = page.keyboard.press, page.keyboard.type
    await expect(page.get_by_label("Name")).to_be_focused()
    await type_(account.name)
    await tab_to(page, "#password")
    await type_(PASSWORD.reveal())
    await press("Enter")
    await expect(page.locator("#feed")).to_have_text(text("venues.live"))
    await tab_to(page, f"a[href='/staff/bars/{bar}/mpesa']")
    await press("Enter")
    await expect(page.locator("#feed")).to_have_text(text("now.live"))
    await tab_to(page, "[name=mpesa_account_type]")
    await press("ArrowRight")
    for name, value in (("business_shortcode", "600123"), ("till_number", "7"), *THREE.items()):
        await tab_to(page, f"#mpesa_{name}")
        await type_(value)
    await press("Enter")
    await expect(page.locator("#errors")).to_be_focused()
    await tab_to(page, "#errors a")
    await press("Enter")
    await expect(page.locator("#mpesa_till_number")).to_be_focused()
    await press("ControlOrMeta+a")
    await type_("5123456")
    for name, value in THREE.items():
        await tab_to(page, f"#mpesa_{name}")
        await type_(value)
    await tab_to(page, "#credentials .button")
    await press("Enter")
    await expect(page.locator("#done")).to_have_text(text("notice.saved.off"))
    for way in ("on", "off"):
        await expect(page.locator("#feed")).to_have_text(text("now.live"))
        await tab_to(page, "#switch button")
        await press("Enter")
        await expect(page.locator("#done")).to_have_text(text(f"notice.{way}"))
        await expect(page.locator("#done")).to_be_focused()
    await tab_to(page, "form[action='/staff/sign-out'] button")
    await press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
