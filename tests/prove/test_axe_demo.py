"""axe-core over the demo's page, before and after something was broken in it."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import expect

from tests.support.axe import grave_findings
from tests.support.chromium import browser
from tests.support.demo import staged

pytestmark = pytest.mark.prove


async def test_nothing_serious_is_found_on_the_demos_page(database_url: str, sql: Any) -> None:
    """Issue 6: the cockpit with its frames, signed in, and with a result over it."""
    async with staged(database_url, sql) as stage, browser() as chromium:
        assert stage.site is not None
        page = await chromium.new_page()
        await page.goto(f"{stage.site.url}/demo")
        assert await grave_findings(page) == []
        await page.get_by_role("button", name="Sign in as wanjiku").click()
        await page.locator('#controls form:has(input[name="control"][value^="repair:"]) button').click()
        await expect(page.locator("#result")).to_contain_text("mpesa_enabled now follows is_active")
        assert await grave_findings(page) == []
        await page.close()
