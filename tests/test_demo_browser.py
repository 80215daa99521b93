"""The /demo page in a real browser: one press signs in, a control changes both frames without a reload of either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Browser, FrameLocator, Page, expect

from mpesa_sync.demo import legacy
from mpesa_sync.demo.stage import Stage
from mpesa_sync.demo.venues import BARAKA, KARIBU
from tests.support.chromium import browser
from tests.support.demo import staged


@pytest.fixture
async def stage(database_url: str, sql: Any) -> AsyncIterator[Stage]:
    """The demo on a database of the tests' server."""
    async with staged(database_url, sql) as found:
        yield found


@pytest.fixture
async def chromium() -> AsyncIterator[Browser]:
    """A real browser."""
    async with browser() as found:
        yield found


def frame(page: Page, title: str) -> FrameLocator:
    """Return one of the two frames."""
    return page.frame_locator(f'iframe[title="{title}"]')


def button(page: Page, control: str) -> Any:
    """Return the button of a control, whatever it says now."""
    return page.locator(f'#controls form:has(input[name="control"][value^="{control}:"]) button')


@pytest.mark.parametrize("width", [390, 1280])
async def test_what_is_broken_and_mended_shows_in_both_frames(stage: Stage, chromium: Browser, width: int) -> None:
    """Issue 3: staff and customers side by side; nothing is loaded again; no error, and the policy is kept."""
    assert stage.site is not None
    page = await chromium.new_page(viewport={"width": width, "height": 900})
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    await page.goto(f"{stage.site.url}/demo")
    await page.get_by_role("button", name="Sign in as wanjiku").click()
    staff, customer = frame(page, "Staff"), frame(page, "Customer")
    await expect(staff.locator("#now .state")).to_have_text("Hidden")
    await expect(customer.locator('#methods [data-method="mpesa"]')).to_have_count(0)
    await expect(customer.locator("#status")).to_have_attribute("data-state", "live")
    for one in (staff, customer):
        await one.locator("body").evaluate("body => { body.dataset.same = 'yes' }")
    await button(page, "repair").click()
    await expect(page.locator("#result")).to_contain_text("mpesa_enabled now follows is_active")
    await page.locator("#result").get_by_role("button", name="Close").click()
    await expect(page.locator("#result")).to_be_empty()
    await expect(page.locator("#values .state")).to_have_text("alike")
    await expect(staff.locator("#now .state")).to_have_text("Shown")
    await expect(customer.locator('#methods [data-method="mpesa"]')).to_have_count(1)
    await expect(button(page, "staff-app")).to_have_text("Set is_active = false")
    await button(page, "staff-app").click()
    await expect(page.locator("#values .state")).to_have_text("drifted: exposed")
    await expect(button(page, "staff-app")).to_have_text("Set is_active = true")
    await expect(customer.locator('#methods [data-method="mpesa"]')).to_have_count(0)
    for one in (staff, customer):
        assert await one.locator("body").get_attribute("data-same") == "yes"
    overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0
    await page.close()
    assert wrong == []


async def test_a_write_from_elsewhere_shows_without_a_press(stage: Stage, chromium: Browser) -> None:
    """The raw values follow every program, of the venue shown and of the others in the list."""
    assert stage.site is not None
    page = await chromium.new_page()
    await page.goto(f"{stage.site.url}/demo?venue={BARAKA.slug}")
    await expect(page.locator("#values .state")).to_have_text("drifted: hidden")
    await legacy.support_script_sets(stage.plain, BARAKA, True)
    await legacy.support_script_sets(stage.plain, KARIBU, False)
    await expect(page.locator("#values .state")).to_have_text("alike")
    await expect(page.locator(f'#venues tr:has-text("{KARIBU.name}") .state')).to_have_text("alike")
    await page.close()


async def test_an_answer_that_does_not_come_is_said_and_nothing_is_sent_twice(stage: Stage, chromium: Browser) -> None:
    """A control may have been carried out when its answer is lost: it is never repeated by itself."""
    assert stage.site is not None
    page = await chromium.new_page()
    sent: list[str] = []

    async def lose(route: Any) -> None:
        sent.append(route.request.method)
        await route.abort()

    await page.goto(f"{stage.site.url}/demo")
    await page.route("**/demo/control", lose)
    await button(page, "repair").click()
    await expect(page.locator("#result")).to_contain_text("The demo did not answer")
    await expect(button(page, "repair")).to_be_enabled()
    await page.close()
    assert sent == ["POST"]


async def test_without_a_script_the_controls_are_plain_forms(stage: Stage, chromium: Browser) -> None:
    """JavaScript off: the page says what happened, and shows what is stored."""
    assert stage.site is not None
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{stage.site.url}/demo")
    await button(page, "repair").click()
    await expect(page.locator("#result")).to_contain_text("mpesa_enabled now follows is_active")
    await expect(page.locator("#values .state")).to_have_text("alike")
    await context.close()
