"""axe-core over every page in its main states, on a phone and a desk, light and dark: nothing serious (WCAG 2.2 AA)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
from playwright.async_api import Page, expect

from mpesa_sync.identity import accounts, sessions
from mpesa_sync.identity.people import Role
from mpesa_sync.web.auth import COOKIE
from mpesa_sync.web.texts import text
from tests.support.alerts import raised
from tests.support.axe import findings, grave_findings
from tests.support.people import PASSWORD
from tests.support.premises import Premises, fill_credentials, until_offers

pytestmark = [pytest.mark.prove, pytest.mark.asyncio(loop_scope="module")]
_BY_A_PROGRAM: Final = "update public.mpesa_credentials set business_shortcode = '600999' where tenant_id = $1"
_OPERATOR: Final = "odhiambo"
State = Callable[[Premises], Awaitable[Page]]


async def as_operator(place: Premises, path: str) -> Page:
    """Open a page as an operator."""
    account = await accounts.find(place.database, _OPERATOR)
    if account is None:
        account = await accounts.add(place.database, _OPERATOR, PASSWORD, is_operator=True, memberships={})
    session = await sessions.create(place.database, account)
    return await place.visits.open(path, cookie={"name": COOKIE, "value": session.token.reveal()})


async def live(page: Page) -> Page:
    """Wait until a staff page follows the feed."""
    await expect(page.locator("#feed")).to_have_text(text("now.live"))
    return page


async def menu_with_mpesa(place: Premises) -> Page:
    """The customers' page that offers M-Pesa, which has been chosen."""
    page = await place.menu(await place.bar(shown=True, row=True))
    await until_offers(page, "mpesa", "cash")
    await page.locator("#methods input").first.check()
    return page


async def menu_that_lost_mpesa(place: Premises) -> Page:
    """The customers' page from which M-Pesa has just gone."""
    bar = await place.bar(shown=True, row=True)
    page = await place.menu(bar)
    await until_offers(page, "mpesa", "cash")
    await place.sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
    await until_offers(page, "cash")
    return page


async def menu_offline(place: Premises) -> Page:
    """The customers' page of a phone that has lost its network."""
    page = await menu_with_mpesa(place)
    await page.context.set_offline(True)
    await until_offers(page, "cash")
    return page


async def menu_of_nothing(place: Premises) -> Page:
    """No such venue."""
    return await place.visits.open("/menu/no-such-venue")


async def sign_in(place: Premises) -> Page:
    """The sign-in page."""
    return await place.visits.open("/staff/sign-in")


async def sign_in_refused(place: Premises) -> Page:
    """The sign-in page after a wrong password."""
    page = await sign_in(place)
    await page.get_by_label("Name").fill("asha")
    await page.get_by_label("Password").fill("not the password")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text(text("sign_in.refused"))
    return page


async def venues(place: Premises) -> Page:
    """The venues of a person, shown and hidden."""
    bars = [await place.bar(shown=True, row=True), await place.bar(shown=False, row=True), await place.bar()]
    page = await place.staff_page(bars[0], await place.owner(*bars))
    await page.goto(f"{place.origin}/staff")
    await expect(page.locator("#venues .card")).to_have_count(3)
    return page


async def mpesa_shown(place: Premises) -> Page:
    """An M-Pesa page whose customers see it, with a history."""
    page = await live(await place.staff_page(await place.bar(row=False)))
    await page.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(page.locator(".said.good")).to_have_text(text("notice.on"))
    return await live(page)


async def mpesa_drifted(place: Premises) -> Page:
    """An M-Pesa page whose two fields disagree."""
    return await live(await place.staff_page(await place.bar(shown=False, row=True)))


async def mpesa_new(place: Premises) -> Page:
    """An M-Pesa page where nothing is stored."""
    return await live(await place.staff_page(await place.bar()))


async def mpesa_to_look_at(place: Premises) -> Page:
    """An M-Pesa page for who may not change anything."""
    bar = await place.bar(shown=True, row=True)
    return await live(await place.staff_page(bar, await place.owner(bar, role=Role.STAFF)))


async def mpesa_refused(place: Premises) -> Page:
    """An M-Pesa page whose form was refused at every field."""
    page = await mpesa_new(place)
    await page.get_by_text("Till (Buy Goods)").click()
    await fill_credentials(page, business_shortcode="12x", till_number="7", consumer_key="your-key")
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.locator("#errors")).to_be_focused()
    return page


async def mpesa_conflict(place: Premises) -> Page:
    """An M-Pesa page where somebody else was faster."""
    bar = await place.bar(row=False)
    page = await place.staff_page(bar)
    await place.sql.execute(_BY_A_PROGRAM, bar)
    await fill_credentials(page, business_shortcode="600111")
    await page.get_by_role("button", name="Save credentials").click()
    await expect(page.get_by_role("alert")).to_be_focused()
    return page


async def not_mine(place: Premises) -> Page:
    """The page of somebody else's venue."""
    page = await place.staff_page(await place.bar())
    await page.goto(f"{place.origin}/staff/bars/{await place.bar()}/mpesa")
    return page


async def start_of_an_operator(place: Premises) -> Page:
    """The first page of an operator."""
    return await as_operator(place, "/staff")


async def alerts(place: Premises) -> Page:
    """The list of alerts."""
    await raised(place.database, await place.bar())
    return await as_operator(place, "/operator/alerts")


async def alert(place: Premises) -> Page:
    """One alert."""
    return await as_operator(place, f"/operator/alerts/{await raised(place.database, await place.bar())}")


async def fleet(place: Premises) -> Page:
    """All venues."""
    await place.bar(shown=True, row=False)
    return await as_operator(place, "/operator")


async def fleet_refused(place: Premises) -> Page:
    """All venues, with a search that cannot be."""
    return await as_operator(place, "/operator?q=a%00b")


async def one_venue(place: Premises) -> Page:
    """One venue explained."""
    bar = await place.bar(shown=True, row=False)
    await raised(place.database, bar)
    return await as_operator(place, f"/operator/bars/{bar}")


async def runbook(place: Premises) -> Page:
    """A page of the runbook."""
    return await place.visits.open("/runbook/guard_broken")


async def for_operators_only(place: Premises) -> Page:
    """An operators' page that somebody else has asked for."""
    page = await place.staff_page(await place.bar())
    await page.goto(f"{place.origin}/operator")
    return page


CUSTOMERS: Final[tuple[State, ...]] = (menu_with_mpesa, menu_that_lost_mpesa, menu_offline, menu_of_nothing)
STAFF: Final[tuple[State, ...]] = (
    *(sign_in, sign_in_refused, venues, mpesa_shown, mpesa_drifted, mpesa_new, mpesa_to_look_at, mpesa_refused),
    *(mpesa_conflict, not_mine),
)
OPERATORS: Final[tuple[State, ...]] = (
    *(start_of_an_operator, alerts, alert, fleet, fleet_refused, one_venue, runbook, for_operators_only),
)


@pytest.mark.parametrize("state", [*CUSTOMERS, *STAFF, *OPERATORS], ids=lambda state: state.__name__)
async def test_nothing_serious_is_found(place: Premises, state: State) -> None:
    """Issue 6: every page in every main state, on a phone and a desk, light and dark."""
    assert await grave_findings(await state(place)) == []


async def test_what_is_wrong_is_found(place: Premises) -> None:
    """A test that cannot fail is a defect: a field without a label and a text nobody can read are found."""
    page = await sign_in(place)
    spoil: Any = """() => {
      document.querySelector("label[for=name]").remove();
      document.querySelector("h1").style.color = "#e0e0e0";
    }"""
    await page.evaluate(spoil)
    found = await findings(page)
    assert {one.split()[1] for one in found if one.split()[0] in ("serious", "critical")} == {
        "label:",
        "color-contrast:",
    }
