"""The story in a real browser, against a real server: staff sign in, save and switch, and the customers' page shows it.

With and without JavaScript, with the keyboard alone, and when something typed is wrong.
"""

from __future__ import annotations

from typing import Final

import httpx
import pytest
from playwright.async_api import Page, expect

from mpesa_sync.identity.people import Role
from mpesa_sync.web.texts import text
from tests.support.chromium import keep
from tests.support.pages import HOSTILE
from tests.support.people import PASSWORD
from tests.support.premises import Premises, fill_credentials, sign_in, until_offers
from tests.support.venues import SECRETS

pytestmark = pytest.mark.asyncio(loop_scope="module")
THREE: Final = dict(zip(("consumer_key", "consumer_secret", "passkey"), (s.reveal() for s in SECRETS), strict=True))
SECRET_FIELDS: Final = tuple(f"#mpesa_{name}" for name in THREE)
NUMBER: Final = "#mpesa_business_shortcode"
BASICS: Final = """() => {
  const found = [];
  const all = (what) => [...document.querySelectorAll(what)];
  for (const field of all("input:not([type=hidden]), select")) {
    if (!field.labels.length || !field.labels[0].textContent.trim()) found.push(`no label: ${field.outerHTML}`);
  }
  for (const one of all("a, button")) if (!one.textContent.trim()) found.push(`no name: ${one.outerHTML}`);
  for (const one of all("img:not([alt])")) found.push(`no alt: ${one.outerHTML}`);
  for (const one of all("[aria-describedby], [aria-labelledby]")) {
    for (const id of `${one.getAttribute("aria-describedby") ?? ""} ${one.getAttribute("aria-labelledby") ?? ""}`
      .split(" ").filter(Boolean)) if (!document.getElementById(id)) found.push(`no element ${id}`);
  }
  if (!document.documentElement.lang) found.push("no language");
  if (!document.title.trim()) found.push("no title");
  if (all("h1").length !== 1) found.push(`${all("h1").length} times h1`);
  if (all("main").length !== 1) found.push("not one main");
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) found.push("scrolls sideways");
  return found;
}"""
FOCUS: Final = """() => {
  const one = document.activeElement;
  return [one, one.closest("label")].filter(Boolean).some((seen) => {
    const style = getComputedStyle(seen);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  });
}"""


async def test_staff_switch_in_one_window_and_the_customers_window_follows(place: Premises) -> None:
    """Issue 3, R3.2: signed in, saved, switched on and off; the other window changes without a reload, and says so."""
    bar = await place.bar(name="Mama Njeri's Kitchen")
    account = await place.owner(bar)
    customer = await place.menu(bar)
    await until_offers(customer, "cash")
    await customer.evaluate("window.kept = 'since the page was opened'")
    staff = await place.visits.open("/staff")
    await expect(staff).to_have_url(f"{place.origin}/staff/sign-in?to=/staff")
    await sign_in(staff, account.name)
    await staff.get_by_role("link", name="Mama Njeri's Kitchen").click()
    await expect(staff.locator("#switch")).to_contain_text("M-Pesa cannot be switched on yet")
    await fill_credentials(staff, business_shortcode="600123", **THREE)
    await staff.get_by_role("button", name="Save credentials").click()
    await expect(staff.locator(".said.good")).to_have_text(text("notice.saved.off"))
    await until_offers(customer, "cash")
    await staff.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(staff.locator(".said.good")).to_have_text(text("notice.on"))
    await until_offers(customer, "mpesa", "cash")
    news = customer.get_by_role("status").filter(has_text="M-Pesa is possible now.")
    await expect(news).to_have_id("news")
    await staff.get_by_role("button", name="Switch M-Pesa off").click()
    await expect(staff.locator(".said.good")).to_have_text(text("notice.off"))
    await until_offers(customer, "cash")
    await expect(customer.locator("#news")).to_have_text("M-Pesa is not possible any more.")
    assert await customer.evaluate("window.kept") == "since the page was opened"
    await expect(staff.locator("#changes li")).to_have_count(3)
    await keep(staff, "staff-switched")
    await keep(customer, "menu-switched")


@pytest.mark.parametrize(
    ("shown", "row", "reason"),
    [(True, True, ""), (False, False, "switched_off"), (False, True, "drift_hidden"), (True, False, "drift_exposed")],
)
async def test_without_javascript_a_page_says_what_the_api_says(
    place: Premises, shown: bool, row: bool, reason: str
) -> None:
    """R3.1, R3.4: on, off and both kinds of drift; staff read why, and what to do."""
    bar = await place.bar(shown=shown, row=row)
    async with httpx.AsyncClient(base_url=place.origin) as client:
        answer = (await client.get(f"/api/bars/{bar}/payment-methods")).json()
    told = [method["id"] for method in answer["methods"]]
    assert told == (["cash"] if reason else ["mpesa", "cash"])
    menu = await place.menu(bar, script=False)
    await until_offers(menu, *told)
    await expect(menu.locator("#status")).to_have_text(text("menu.plain"))
    staff = await place.staff_page(bar, script=False)
    await expect(staff.locator("[data-part=word]")).to_have_text("Hidden" if reason else "Shown")
    if reason:
        await expect(staff.locator("[data-part=meaning]")).to_have_text(text(f"reason.{reason}"))
        await expect(staff.locator("[data-part=remedy]")).to_have_text(text(f"remedy.{reason}"))


async def test_without_javascript_staff_sign_in_save_switch_and_sign_out(place: Premises) -> None:
    """Issue 3: every step is a form; what is wrong is said at its field, the number stays and no secret does."""
    bar = await place.bar(name="Nyali Beach Bar")
    account = await place.owner(bar)
    page = await place.visits.open(f"/staff/bars/{bar}/mpesa", script=False)
    await sign_in(page, account.name)
    await expect(page).to_have_url(f"{place.origin}/staff/bars/{bar}/mpesa")
    await fill_credentials(page, business_shortcode="60012", **{**THREE, "passkey": "short"})
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.locator("#mpesa_passkey-error")).to_have_text("Must have at least 10 characters.")
    await _kept_but_no_secret(page, "60012")
    await fill_credentials(page, **THREE)
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.locator(".said.good")).to_have_text(text("notice.saved.off"))
    for button, notice, offered in (("on", "notice.on", ["mpesa", "cash"]), ("off", "notice.off", ["cash"])):
        await page.get_by_role("button", name=f"Switch M-Pesa {button}").click()
        await expect(page.locator(".said.good")).to_have_text(text(notice))
        await until_offers(await place.menu(bar, script=False), *offered)
    await page.get_by_role("button", name="Sign out").click()
    await page.goto(f"{place.origin}/staff/bars/{bar}/mpesa")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


async def _kept_but_no_secret(page: Page, number: str) -> None:
    """Check that a form that was refused has the number, and nowhere a secret."""
    await expect(page.locator(NUMBER)).to_have_value(number)
    for field in SECRET_FIELDS:
        await expect(page.locator(field)).to_have_value("")
    html = await page.content()
    assert not [name for name, secret in THREE.items() if secret in html]


async def test_a_rejected_save_leads_to_every_wrong_field(place: Premises) -> None:
    """R4.4: the summary has the focus, its lines lead to the fields, each of which says what is wrong with it."""
    bar = await place.bar(name="Uhuru Gardens")
    page = await place.staff_page(bar)
    await page.get_by_text("Till (Buy Goods)").click()
    typed = {"business_shortcode": "12x", "till_number": "7", "consumer_key": "your-key", "consumer_secret": "a b"}
    await fill_credentials(page, **typed, passkey=THREE["passkey"])
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.locator("#errors")).to_be_focused()
    await expect(page.locator("[aria-invalid=true]")).to_have_count(4)
    await expect(page.locator("#errors li")).to_have_count(4)
    for name in typed:
        field = page.locator(f"#mpesa_{name}")
        about = (await field.get_attribute("aria-describedby") or "").split()
        await expect(page.locator(f"#{about[1]}")).to_be_visible()
    await expect(page.locator("#mpesa_till_number")).to_have_value("7")
    await _kept_but_no_secret(page, "12x")
    await keep(page, "staff-rejected")
    await page.locator("#errors a").first.click()
    await expect(page.locator(NUMBER)).to_be_focused()


async def test_the_keyboard_alone_is_enough_and_its_focus_is_seen(place: Premises) -> None:
    """Issue 3: sign in, open the venue and switch by Tab and Enter; every stop on the way is outlined."""
    bar = await place.bar(row=False, name="Rift Valley Grill")
    account = await place.owner(bar)
    page = await place.visits.open("/staff")
    await expect(page.get_by_label("Name")).to_be_focused()
    await page.keyboard.type(account.name)
    await tab_to(page, "#password")
    await page.keyboard.type(PASSWORD.reveal())
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Your venues")
    await tab_to(page, f"a[href='/staff/bars/{bar}/mpesa']")
    await page.keyboard.press("Enter")
    await expect(page.locator("#feed")).to_have_text("Live")
    await tab_to(page, "#switch button")
    await page.keyboard.press("Enter")
    await expect(page.locator(".said.good")).to_have_text(text("notice.on"))
    await tab_to(page, "#credentials button")
    menu = await place.menu(bar)
    await tab_to(menu, "#methods input")
    await menu.keyboard.press("Space")
    await expect(menu.locator("#choice")).to_have_text("Your choice: M-Pesa.")


async def tab_to(page: Page, selector: str) -> None:
    """Press Tab until an element has the focus; wherever it stops it is seen."""
    for _ in range(40):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement === document.body"):
            continue  # the browser's own bar lies between the last element and the first
        assert await page.evaluate(FOCUS), await page.evaluate("document.activeElement.outerHTML")
        if await page.evaluate("what => document.activeElement.matches(what)", selector):
            return
    raise AssertionError(f"no way to {selector}")


async def test_a_script_in_a_bars_name_is_text_on_every_page(place: Premises) -> None:
    """Issue 3: it does not run, and nothing is asked for it, with JavaScript on."""
    bar = await place.bar(shown=True, row=True, name=HOSTILE)
    menu = await place.menu(bar)
    await expect(menu.locator("#status")).to_have_attribute("data-state", "live")
    staff = await place.staff_page(bar)
    await expect(staff.locator("#feed")).to_have_text("Live")
    for page in (menu, staff):
        assert await page.locator(".venue bdi").text_content() == HOSTILE
    await staff.get_by_role("link", name="Your venues").click()
    assert await staff.locator("#venues bdi").text_content() == HOSTILE


async def test_what_must_not_happen_is_noticed(place: Premises) -> None:
    """These tests would see it: an inline script, an error of a script, a request to another place."""
    page = await place.visits.open("/staff/sign-in")
    told = page.context.expect_event
    async with told("console"):
        await page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'let a = 1'}))"
        )
    async with told("weberror"):
        await page.evaluate("() => { setTimeout(() => { throw new Error('a mistake') }) }")
    async with told("request"):
        await page.evaluate("() => { location.href = 'http://127.0.0.1:1/' }")
    troubles = " ".join(place.visits.troubles)
    for said in ("Security Policy: script-src-elem", "a mistake", "asked http://127.0.0.1:1/"):
        assert said in troubles
    place.visits.troubles.clear()


async def test_every_page_has_the_basics_and_its_picture_is_kept(place: Premises) -> None:
    """Issue 3: names, labels, a language, one heading, live regions, no scrolling sideways; pictures as artefacts."""
    on = await place.bar(shown=True, row=True, name="Karibu Café & Grill")
    hidden = await place.bar(shown=False, row=True, name="Baraka Lounge")
    exposed = await place.bar(shown=True, row=False, name="Club 99")
    fresh = await place.bar(name="Mama Njeri's Kitchen")
    owner, looker = await place.owner(on, hidden, exposed, fresh), await place.owner(on, role=Role.STAFF)
    for name, bar in (("menu-on", on), ("menu-off", fresh)):
        page = await place.menu(bar)
        await expect(page.locator("#status")).to_have_text(text("feed.live"))
        assert await page.locator("[role=status]").count() == 5
        await _looked_at(page, name)
    await _looked_at(await place.visits.open("/menu/no-such-bar"), "menu-unknown")
    page = await place.visits.open("/staff/sign-in")
    await _looked_at(page, "sign-in")
    await page.get_by_label("Name").fill("asha")
    await page.get_by_label("Password").fill("not the password")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text(text("sign_in.refused"))
    await _looked_at(page, "sign-in-refused")
    for name, bar, who in (
        *(("staff-on", on, owner), ("staff-drift-hidden", hidden, owner), ("staff-drift-exposed", exposed, owner)),
        *(("staff-new", fresh, owner), ("staff-looks-only", on, looker)),
    ):
        page = await place.staff_page(bar, who)
        await expect(page.locator("#feed")).to_have_text("Live")
        await expect(page.locator("#now [role=status]")).to_be_visible()
        await _looked_at(page, name)
    await page.goto(f"{place.origin}/staff/bars/{fresh}/mpesa")
    await _looked_at(page, "staff-not-mine")
    page = await place.staff_page(on, owner)
    await page.get_by_role("link", name="Your venues").click()
    await expect(page.locator("#venues .card")).to_have_count(4)
    await _looked_at(page, "venues")


async def _looked_at(page: Page, name: str) -> None:
    """Check the basics of a page and keep its picture."""
    await page.set_viewport_size({"width": 320, "height": 640})
    assert await page.evaluate(BASICS) == [], name
    await keep(page, name)
