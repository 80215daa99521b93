"""The overview of all venues in a real browser: on a phone and a desk, with and without JavaScript, any names."""

from __future__ import annotations

from typing import Final

import pytest
from playwright.async_api import expect

from mpesa_sync.web.operator import fleet_page
from mpesa_sync.web.operator_texts import text
from tests.prove.test_operator_browser import fits, open_page
from tests.support.alerts import raised
from tests.support.pages import HOSTILE
from tests.support.premises import Premises

pytestmark = [pytest.mark.prove, pytest.mark.asyncio(loop_scope="module")]
PATH: Final = "/operator"
LONG: Final = "Mama Njeri’s Kitchen, Bar & Nyama Choma at the Corner of Moi Avenue and Biashara Street, Mombasa"
NAMES: Final = (LONG, HOSTILE, "Nyali Beach Bar", "حانة السلام", "ã" * 120)


async def fleet(place: Premises) -> None:
    """Add venues in several states, more than a page shows."""
    for number, name in enumerate(NAMES):
        bar = await place.bar(name=name, shown=number % 2 == 0, row=(True, False, "absent")[number % 3])
        await raised(place.database, bar, minute=number)
    for number in range(fleet_page.PAGE):
        await place.bar(name=f"Kibanda {number}", shown=True, row=True)


async def test_the_overview_fits_a_phone_and_a_desk(place: Premises) -> None:
    """Issue 6: no page is wider than its window at 320, 390 and 1280 pixels, and targets are large enough."""
    await fleet(place)
    bar = await place.bar(name=LONG, shown=True, row=False)
    await raised(place.database, bar)
    for path, name in (
        (PATH, "operator-fleet"),
        (f"{PATH}?q=mombasa", "operator-search"),
        (f"{PATH}/bars/{bar}", "bar"),
    ):
        await fits(await open_page(place, path), name)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
async def test_an_operator_finds_a_drifted_venue_and_what_to_do(place: Premises, script: bool) -> None:
    """Issue 6: from the first page by links, a filter and a search to the remedy of one venue."""
    await fleet(place)
    name = f"Savanna Terrace {script}"
    bar = await place.bar(name=name, shown=True, row=False)
    page = await open_page(place, "/staff", script=script)
    await page.get_by_role("link", name="All venues").click()
    await page.locator("#counts").get_by_role("link", name="Drifted: exposed").click()
    await expect(page).to_have_url(f"{place.origin}{PATH}?state=exposed#list")
    await page.get_by_label("Name, slug or id").fill("terrace")
    await page.get_by_role("button", name="Show").click()
    await page.get_by_role("link", name=name).click()
    await expect(page.get_by_role("heading", level=1)).to_have_text(name)
    await expect(page.locator("#verdict .sentence")).to_have_text(text("bar.verdict.hidden", reason="drift_exposed"))
    await expect(page.locator("#remedy")).to_contain_text(f"mpesa-sync repair {bar.hex}")
    await page.get_by_role("link", name="All venues").first.click()
    await page.get_by_role("link", name="Next venues").click()
    await expect(page.locator("#list")).to_contain_text(text("fleet.list.first"))
