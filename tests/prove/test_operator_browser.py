"""The pages for operators in a real browser: on a phone and a desk, without JavaScript, with nothing blocked."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid4

import pytest
from playwright.async_api import Page, expect

from mpesa_sync.identity import accounts, sessions
from mpesa_sync.sync import alert_actions
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.web.auth import COOKIE
from tests.support.alerts import raised, told
from tests.support.chromium import keep
from tests.support.people import PASSWORD
from tests.support.premises import Premises

pytestmark = [pytest.mark.prove, pytest.mark.asyncio(loop_scope="module")]
PATH: Final = "/operator/alerts"
_CHANNEL: Final = """
insert into mpesa_sync.alert_channels (audience, channel, failures, fault, failing_since, delivered_at)
values ($1, $2, $3, $4, case when $3 > 0 then now() end, now()) on conflict do nothing
"""
WIDER: Final = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
SMALL: Final = """
() => [...document.querySelectorAll("main a:not(article a), main button, main input:not([type=hidden])")]
  .filter((one) => one.getBoundingClientRect().height < 43).map((one) => one.outerHTML)
"""


async def fits(page: Page, name: str) -> None:
    """Expect that a page needs no scrolling sideways and has targets for thumbs at every width; keep pictures of it."""
    for width in (320, 390, 1280):
        await page.set_viewport_size({"width": width, "height": 800})
        assert await page.evaluate(WIDER) <= 0, (name, width)
        assert await page.evaluate(SMALL) == [], (name, width)
    await keep(page, name)


async def open_page(place: Premises, path: str, *, script: bool = True) -> Page:
    """Open a page as an operator who has signed in already."""
    name = f"juma-{uuid4().hex[:8]}"
    account = await accounts.add(place.database, name, PASSWORD, is_operator=True, memberships={})
    session = await sessions.create(place.database, account)
    return await place.visits.open(path, script=script, cookie={"name": COOKIE, "value": session.token.reveal()})


async def some_alerts(place: Premises) -> UUID:
    """Store alerts of every kind; return one that fires."""
    long = "Mama Njeri’s Kitchen, Bar & Nyama Choma at the Corner of Moi Avenue and Biashara Street"
    bar = await place.bar(name=long)
    firing = await raised(place.database, bar, count=1_234, minute=50)
    refused = await raised(
        place.database, await place.bar(), AlertKind.DATABASE_REFUSED, cause="constraint_refused", minute=40
    )
    unreadable = await raised(
        place.database, await place.bar(), AlertKind.SECRETS_UNREADABLE, cause="credentials_unusable", minute=30
    )
    await alert_actions.acknowledge(place.database, refused, actor="operator:asha")
    await alert_actions.resolve(place.database, unreadable, actor="cli:root", note="The key was the old one.")
    await told(place.sql, firing, "slack-3fa2")
    await told(place.sql, firing, "mailto-77aa", state="pending", attempts=3, fault="timed_out")
    for channel in (("operators", "slack-3fa2", 0, ""), ("operators", "mailto-77aa", 3, "timed_out")):
        await place.sql.execute(_CHANNEL, *channel)
    return firing


async def test_the_pages_fit_a_phone_and_a_desk(place: Premises) -> None:
    """Issue 4: no page is wider than its window at 320, 390 and 1280 pixels, and targets are large enough."""
    alert = await some_alerts(place)
    for path, name in (
        (f"{PATH}?state=all", "operator-alerts"),
        (f"{PATH}/{alert}", "operator-alert"),
        ("/runbook/sync_failed", "runbook"),
        ("/staff", "operator-start"),
    ):
        await fits(await open_page(place, path), name)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
async def test_an_alert_is_taken_on_and_resolved_in_a_browser(place: Premises, script: bool) -> None:
    """R5.2: from the operator's first page to the resolved alert, by links and buttons alone."""
    alert = await some_alerts(place)
    page = await open_page(place, "/staff", script=script)
    await page.get_by_role("link", name="Alerts").click()
    await page.locator(f'[data-alert="{alert}"]').get_by_role("link").click()
    await page.get_by_role("button", name="Acknowledge").click()
    await expect(page.get_by_role("status")).to_contain_text("Nobody is reminded any more")
    await expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    await page.get_by_label("What was found or done").fill("The disk was full.")
    await page.get_by_role("button", name="Resolve").click()
    await expect(page.get_by_role("status")).to_have_text("Resolved.")
    await expect(page.get_by_text("Note: The disk was full.")).to_be_visible()
    if script:
        await expect(page).to_have_url(f"{place.origin}{PATH}/{alert}")
    await page.get_by_role("link", name="How to mend it").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("A change could not be saved")
