"""The main stories of staff and operators in a real browser, on a phone and at a desk; pictures of each step."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.async_api import Page, expect

from mpesa_sync.web.operator_texts import text as op
from mpesa_sync.web.texts import text
from tests.prove.test_operator_browser import open_page
from tests.support.alerts import raised
from tests.support.chromium import DESKTOP, PHONE, keep_as_it_is
from tests.support.premises import Premises, fill_credentials, sign_in, until_offers
from tests.test_browser_story import THREE

pytestmark = [pytest.mark.prove, pytest.mark.asyncio(loop_scope="module")]
WIDTHS: Final = {"phone": PHONE, "desktop": DESKTOP}
_BY_A_PROGRAM: Final = "update public.mpesa_credentials set business_shortcode = '600999' where tenant_id = $1"


async def sized(page: Page, width: str) -> Page:
    """Give the window its size."""
    across, down = WIDTHS[width]
    await page.set_viewport_size({"width": across, "height": down})
    return page


@pytest.mark.parametrize("width", WIDTHS)
async def test_staff_set_up_mpesa_and_customers_see_it(place: Premises, width: str) -> None:
    """Issue 6, the staff story: sign in, a refusal, the save, on, a colleague who was faster, off, the history."""
    bar = await place.bar(name="Mama Njeri's Kitchen")
    account = await place.owner(bar, await place.bar(shown=True, row=True, name="Nyali Beach Bar"))
    customer = await sized(await place.menu(bar), width)
    await until_offers(customer, "cash")
    page = await sized(await place.visits.open("/staff"), width)
    await sign_in(page, account.name)
    await expect(page.locator("#feed")).to_have_text(text("venues.live"))
    await keep_as_it_is(page, f"story-staff-1-venues-{width}")
    await page.get_by_role("link", name="Mama Njeri's Kitchen").click()
    await expect(page.locator("#now [data-part=meaning]")).to_have_text(text("reason.no_credentials"))
    await keep_as_it_is(page, f"story-staff-2-new-{width}")
    await page.get_by_text("Till (Buy Goods)").click()
    await fill_credentials(page, business_shortcode="600123", till_number="12", **THREE)
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.locator("#errors")).to_be_focused()
    await expect(page.locator("#mpesa_business_shortcode")).to_have_value("600123")
    await keep_as_it_is(page, f"story-staff-3-refused-{width}")
    await fill_credentials(page, till_number="5123456", **THREE)
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.locator("#done")).to_have_text(text("notice.saved.off"))
    await expect(page.locator("#switch")).to_contain_text(text("switch.on.then"))
    await until_offers(customer, "cash")
    await page.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(page.locator("#done")).to_have_text(text("notice.on"))
    await until_offers(customer, "mpesa", "cash")
    await keep_as_it_is(page, f"story-staff-4-on-{width}")
    await keep_as_it_is(customer, f"story-staff-5-customer-{width}")
    await place.sql.execute(_BY_A_PROGRAM, bar)
    await fill_credentials(page, business_shortcode="600111")
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.get_by_role("alert")).to_contain_text(text("stale.title"))
    await keep_as_it_is(page, f"story-staff-6-conflict-{width}")
    await page.get_by_role("link", name=text("stale.discard")).click()
    await expect(page.locator("#mpesa_business_shortcode")).to_have_value("600999")
    await page.get_by_role("button", name="Switch M-Pesa off").click()
    await expect(page.locator("#done")).to_have_text(text("notice.off"))
    await until_offers(customer, "cash")
    await expect(page.locator("#changes li")).to_have_count(3)
    await expect(page.locator("#changes")).to_contain_text(f"by {account.name}")
    await keep_as_it_is(page, f"story-staff-7-off-{width}")


@pytest.mark.parametrize("width", WIDTHS)
async def test_an_operator_looks_after_the_fleet(place: Premises, width: str) -> None:
    """Issue 6, the operator's story: the overview, the drifted ones, one explained, its alert acknowledged, mended."""
    name = f"Savanna Terrace {width}"
    bar = await place.bar(name=name, shown=True, row=False)
    for number in range(30):
        await place.bar(name=f"Kibanda {number}", shown=True, row=True)
    await raised(place.database, bar)
    page = await sized(await open_page(place, "/operator"), width)
    await keep_as_it_is(page, f"story-operator-1-overview-{width}")
    await page.locator("#counts").get_by_role("link", name=op("fleet.drift.exposed")).click()
    await page.get_by_label(op("fleet.search.words")).fill(name)
    await page.get_by_role("button", name="Show").click()
    await keep_as_it_is(page, f"story-operator-2-found-{width}")
    await page.get_by_role("link", name=name).click()
    await expect(page.locator("#verdict .state")).to_have_text(op("fleet.hidden"))
    await keep_as_it_is(page, f"story-operator-3-venue-{width}")
    await page.get_by_role("link", name=op("bar.alerts.all")).click()
    await page.locator("[data-alert] a").first.click()
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.get_by_role("status")).to_contain_text("Nobody is reminded any more")
    await keep_as_it_is(page, f"story-operator-4-alert-{width}")
    await place.sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
    await page.get_by_role("link", name=name).click()
    await expect(page.locator("#rule")).to_contain_text(op("bar.consistent"))
    await keep_as_it_is(page, f"story-operator-5-mended-{width}")
