"""axe-core over a page that a browser shows: what people with other senses or tools would stumble over."""

from __future__ import annotations

from typing import Any, Final

from axe_playwright_python.base import AXE_SCRIPT
from playwright.async_api import Page

from tests.support.chromium import DESKTOP, PHONE

GRAVE: Final = frozenset({"serious", "critical"})
_RUN: Final = "() => axe.run(document, {resultTypes: ['violations']})"


async def findings(page: Page) -> list[str]:
    """Return what axe finds on a page as it is: how grave, which rule, what it says, and the element."""
    if not await page.evaluate("typeof axe === 'object'"):
        await page.evaluate(AXE_SCRIPT)
    found: dict[str, Any] = await page.evaluate(_RUN)
    return [
        f"{one['impact']} {one['id']}: {node['failureSummary']} {node['html']}"
        for one in found["violations"]
        for node in one["nodes"]
    ]


async def grave_findings(page: Page) -> list[str]:
    """Return what axe finds serious or critical, on a phone and a desk, light and dark; the window is put back."""
    found: list[str] = []
    before = page.viewport_size
    for across, down in (PHONE, DESKTOP):
        await page.set_viewport_size({"width": across, "height": down})
        for scheme in ("light", "dark"):
            await page.emulate_media(color_scheme="light" if scheme == "light" else "dark", reduced_motion="reduce")
            said = await findings(page)
            found += [f"{across} {scheme}: {one}" for one in said if one.split()[0] in GRAVE]
    await page.emulate_media(color_scheme="light", reduced_motion="no-preference")
    if before is not None:
        await page.set_viewport_size(before)
    return found
