"""Open pages in a real browser while things go wrong: other writers, lost connections, a server that is stopped.

Times are printed, and bounded generously: what is asserted is that a page is right in the end, and honest until then.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Final
from uuid import UUID

import pytest
from playwright.async_api import Page, Route, expect

from mpesa_sync.web.texts import text
from tests.support.chromium import keep
from tests.support.faults import until
from tests.support.live_hub import OFF, SHOWN, kill_listener, switch
from tests.support.premises import Premises, until_offers

pytestmark = pytest.mark.asyncio(loop_scope="module")
ALL: Final = ("mpesa", "cash")
SOON_MS: Final = 9_000
"""For what facts/live.md promises within milliseconds, on a machine that has other things to do."""
QUICK_RETRIES: Final = "Math.random = () => 0.05"
"""The page's tries to connect again are spread at random over some seconds; here they come early."""
WATCH: Final = """() => { window.offered = []; new MutationObserver(() => offered.push(!!document.querySelector(
'#methods input[value=mpesa]'))).observe(document.querySelector('main'), {subtree: true, childList: true}) }"""
_END_SESSIONS: Final = """
delete from mpesa_sync.sessions s using mpesa_sync.memberships m where m.account_id = s.account_id and m.bar_id = $1
"""
_FLAGS: Final = """
select mpesa_enabled, is_active from public.bars b join public.mpesa_credentials c on c.tenant_id = b.id where b.id = $1
"""


async def until_state(page: Page, state: str) -> None:
    """Wait until a customers' page is in this state, in its data and in words."""
    await expect(page.locator("main")).to_have_attribute("data-state", state)
    await expect(page.locator("#status")).to_contain_text(text(f"feed.{state}"))


async def live_menu(place: Premises, bar: UUID) -> Page:
    """Open the customers' page and wait until it is live; mark it, so that a reload would be noticed."""
    page = await place.menu(bar)
    await until_state(page, "live")
    await page.evaluate(f"() => {{ window.kept = true; {QUICK_RETRIES} }}")
    return page


async def test_a_plain_sql_write_changes_both_open_pages(place: Premises) -> None:
    """L2, spec 5: another program writes one field; customers lose M-Pesa, staff read what is wrong and the remedy."""
    bar = await place.bar(shown=True, row=True)
    menu, staff = await live_menu(place, bar), await place.staff_page(bar)
    await expect(staff.locator("#feed")).to_have_text("Live")
    await until_offers(menu, *ALL)
    for statement, value, reason in (
        *((SHOWN, False, "drift_hidden"), (SHOWN, True, "")),
        *((OFF, False, "drift_exposed"), (SHOWN, False, "switched_off")),
    ):
        await place.sql.execute(statement, bar, value)
        await until_offers(menu, *(("cash",) if reason else ALL))
        await expect(staff.locator("[data-part=word]")).to_have_text("Hidden" if reason else "Shown")
        if reason:
            await expect(staff.locator("[data-part=meaning]")).to_have_text(text(f"reason.{reason}"))
            await expect(staff.locator("[data-part=remedy]")).to_have_text(text(f"remedy.{reason}"))
        else:
            await expect(staff.locator("[data-part=why]")).to_be_hidden()
    await expect(staff.locator("[data-field='bars.mpesa_enabled']")).to_have_text("false")
    assert await menu.evaluate("window.kept")


async def test_the_listener_is_killed_and_then_something_changes(place: Premises) -> None:
    """Issue 3: the page is right before a sweep, every ten seconds, could find it."""
    bar = await place.bar(shown=True, row=True)
    menu = await live_menu(place, bar)
    for is_on in (False, True, False):
        assert await until(lambda: kill_listener(place.sql)) == 1
        began = time.monotonic()
        await switch(place.sql, bar, is_on)
        await expect(menu.locator("input[value=mpesa]")).to_have_count(int(is_on), timeout=SOON_MS)
        print(f"listener killed, then a change: shown after {(time.monotonic() - began) * 1000:.0f} ms")
    await until_state(menu, "live")


async def test_a_change_between_render_and_connect_is_shown(place: Premises) -> None:
    """L5, facts/live.md render | connect: the page is held before its stream is asked for, and a commit falls there."""
    bar = await place.bar(shown=True, row=True)
    page = await place.visits.open("")
    waiting, going_on = asyncio.Event(), asyncio.Event()

    async def hold(route: Route) -> None:
        waiting.set()
        await going_on.wait()
        await route.continue_()

    await page.route("**/payment-methods/events*", hold)
    await page.goto(f"{place.origin}/menu/{bar.hex}")
    await asyncio.wait_for(waiting.wait(), 20)
    await until_offers(page, *ALL)
    await switch(place.sql, bar, False)
    going_on.set()
    await until_offers(page, "cash")
    await until_state(page, "live")


async def test_offline_withdraws_mpesa_and_online_is_right_again(place: Premises) -> None:
    """R3.4: said in words; what changed meanwhile is shown afterwards."""
    bar = await place.bar(shown=True, row=True)
    menu, staff = await live_menu(place, bar), await place.staff_page(bar)
    await expect(staff.locator("#feed")).to_have_text("Live")
    for page in (menu, staff):
        await page.context.set_offline(True)
    await until_state(menu, "offline")
    await until_offers(menu, "cash")
    await expect(menu.locator("#status")).to_contain_text(text("feed.cash_is_fine"))
    await expect(staff.locator("#feed")).to_have_text(text("now.not_live"))
    await keep(menu, "menu-offline")
    await keep(staff, "staff-offline")
    await switch(place.sql, bar, False)
    for page in (menu, staff):
        await page.context.set_offline(False)
    await until_state(menu, "live")
    await until_offers(menu, "cash")
    await expect(staff.locator("[data-part=word]")).to_have_text("Hidden")
    await switch(place.sql, bar, True)
    await until_offers(menu, *ALL)
    await expect(staff.locator("[data-part=word]")).to_have_text("Shown")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_server_is_stopped_and_comes_back(place: Premises, number: signal.Signals) -> None:
    """Drain and crash: the page says that it connects again; then it is live, and right about what changed."""
    bar = await place.bar(shown=True, row=True)
    menu, staff = await live_menu(place, bar), await place.staff_page(bar)
    await expect(staff.locator("#feed")).to_have_text("Live")
    await staff.evaluate(f"() => {{ {QUICK_RETRIES} }}")
    try:
        await place.end(number)
        await until_state(menu, "reconnecting")
        await expect(staff.locator("#feed")).to_have_text(text("now.connecting"))
        await keep(menu, f"menu-reconnecting-{number.name.lower()}")
        await switch(place.sql, bar, False)
    finally:
        await place.serve()
    await until_offers(menu, "cash")
    await until_state(menu, "live")
    await expect(staff.locator("#feed")).to_have_text("Live")
    await expect(staff.locator("[data-part=word]")).to_have_text("Hidden")
    await switch(place.sql, bar, True)
    await until_offers(menu, *ALL)
    await expect(staff.locator("[data-part=word]")).to_have_text("Shown")
    assert await menu.evaluate("window.kept")


async def test_the_database_is_out_of_reach(place: Premises) -> None:
    """L6: not confirmed is not offered, said in words, on a page that opens then too; it heals by itself."""
    bar = await place.bar(shown=True, row=True)
    menu, staff = await live_menu(place, bar), await place.staff_page(bar)
    await expect(staff.locator("#feed")).to_have_text("Live")
    place.proxy.black_hole()
    try:
        began = time.monotonic()
        await until_state(menu, "stale")
        print(f"PostgreSQL out of reach: said after {time.monotonic() - began:.1f} s")
        await until_offers(menu, "cash")
        await expect(menu.locator("#status")).to_contain_text(text("feed.cash_is_fine"))
        await expect(staff.locator("#feed")).to_have_text(text("now.not_live"))
        await keep(menu, "menu-stale")
        late = await place.menu(bar)
        await until_offers(late, "cash")
        await until_state(late, "stale")
        await keep(late, "menu-unsure")
        for page in (menu, late):
            await page.evaluate(WATCH)
        await switch(place.sql, bar, False)
    finally:
        place.proxy.disarm()
    for page in (menu, late):
        await until_state(page, "live")
        await until_offers(page, "cash")
        assert await page.evaluate("window.offered.includes(true)") is False
    await switch(place.sql, bar, True)
    for page in (menu, late):
        await until_offers(page, *ALL)
    await expect(staff.locator("[data-part=word]")).to_have_text("Shown")


async def test_a_status_that_could_not_be_read_is_asked_for_again(place: Premises) -> None:
    """L6: staff are told that what they see is not sure; without another change the page is sure again by itself."""
    bar = await place.bar(shown=True, row=True)
    staff = await place.staff_page(bar)
    await expect(staff.locator("#feed")).to_have_text("Live")
    await staff.route("**/status", lambda route: route.fulfill(status=503), times=1)
    await switch(place.sql, bar, False)
    await expect(staff.locator("#feed")).to_have_text(text("now.not_live"))
    await expect(staff.locator("[data-part=word]")).to_have_text("Hidden")
    await expect(staff.locator("#feed")).to_have_text("Live")


async def test_a_session_that_has_ended_is_said_and_leads_to_the_sign_in_page(place: Premises) -> None:
    """Issue 3: the open page says so as soon as it asks; a press leads to the sign-in page and changes nothing."""
    bar = await place.bar(shown=True, row=True)
    menu, staff = await live_menu(place, bar), await place.staff_page(bar)
    await expect(staff.locator("#feed")).to_have_text("Live")
    assert await place.sql.execute(_END_SESSIONS, bar) == "DELETE 1"
    await switch(place.sql, bar, False)
    await expect(staff.locator("#feed")).to_have_text(text("now.signed_out"))
    await keep(staff, "staff-signed-out")
    await until_offers(menu, "cash")
    before = await place.sql.fetch(_FLAGS, bar)
    await staff.locator("#switch button").click()
    await expect(staff.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert await place.sql.fetch(_FLAGS, bar) == before
