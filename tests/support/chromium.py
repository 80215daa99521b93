"""The one way in which tests start a browser, and look: who visits, what broke on the way, and pictures of pages.

Chromium is the system's, never downloaded. Where there is none the test is skipped; with `CI` set it fails instead.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request, async_playwright, expect

PHONE: Final = (390, 844)
DESKTOP: Final = (1280, 900)
PICTURES: Final = Path(__file__).parents[2] / "test-artefacts"
"""Where `keep` puts its pictures; each run overwrites those of the one before."""
ALL_PICTURES: Final = os.environ.get("MPESA_TEST_PICTURES") == "all"
SCHEMES: Final = ("light", "dark")
_ARGS: Final = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
_VIOLATIONS: Final = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`Security Policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""
_NETWORK: Final = "Failed to load resource"
"""An answer that is no success, or none: what many of these tests are about."""
expect.set_options(timeout=20_000)


def program() -> str:
    """Return the path of the browser; without one the test is skipped, with `CI` set it fails."""
    found = shutil.which("chromium")
    if found is None:
        missing = "no Chromium on this machine; on Debian: apt-get install chromium"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Give a browser without a window."""
    executable = program()
    async with async_playwright() as play:
        found = await play.chromium.launch(executable_path=executable, args=_ARGS)
        try:
            yield found
        finally:
            await found.close()


class Visits:
    """Opens pages, each in a window with its own cookies, and keeps what must not happen on any of them.

    Arguments:
        chromium: the browser.
        origin: the address of the server; a request to anything else is kept as a trouble.
        also: another server that the pages may ask.
    """

    def __init__(self, chromium: Browser, origin: str, *, also: str = "") -> None:
        self._chromium = chromium
        self.origin = origin
        self._also = also
        self.troubles: list[str] = []
        """Errors of scripts, what the policy blocked, requests to other places."""
        self._contexts: list[BrowserContext] = []

    async def open(self, path: str, *, script: bool = True, cookie: dict[str, Any] | None = None) -> Page:
        """Open a page in a new window.

        Arguments:
            path: on the server; "" opens nothing yet.
            script: False: JavaScript is off.
            cookie: one to begin with, as Playwright takes it.
        """
        context = await self._chromium.new_context(
            java_script_enabled=script, viewport={"width": PHONE[0], "height": PHONE[1]}, color_scheme="light"
        )
        self._contexts.append(context)
        context.on("request", self._asked)
        context.on("console", self._said)
        context.on("weberror", lambda error: self.troubles.append(str(error.error)))
        if script:
            await context.add_init_script(_VIOLATIONS)
        if cookie is not None:
            await context.add_cookies([{**cookie, "url": self.origin}])  # type: ignore[typeddict-item]  # as httpx gives it
        page = await context.new_page()
        if path:
            await page.goto(self.origin + path)
        return page

    async def close(self) -> None:
        """Close every window; fail if anything went wrong in one of them."""
        for context in self._contexts:
            await context.close()
        assert not self.troubles

    def _asked(self, request: Request) -> None:
        scheme, host = urlsplit(request.url)[:2]
        if scheme != "data" and f"{scheme}://{host}" not in (self.origin, self._also):
            self.troubles.append(f"asked {request.url}")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and _NETWORK not in message.text:
            self.troubles.append(message.text)


async def keep(page: Page, name: str) -> None:
    """Keep pictures of a page, as long as it is: phone and desktop width, light and dark.

    A day's run keeps the phone's in light and the desk's in dark, with `MPESA_TEST_PICTURES=all` it keeps all four.
    """
    before = page.viewport_size
    for width, (across, down), scheme in (("phone", PHONE, "light"), ("desktop", DESKTOP, "dark")):
        await page.set_viewport_size({"width": across, "height": down})
        await keep_as_it_is(page, f"{name}-{width}", *(SCHEMES if ALL_PICTURES else (scheme,)))
    if before is not None:
        await page.set_viewport_size(before)


async def keep_as_it_is(page: Page, name: str, *schemes: str) -> None:
    """Keep pictures of a page in its window, as long as it is: in these schemes, or in light and dark."""
    PICTURES.mkdir(exist_ok=True)
    for scheme in schemes or SCHEMES:
        await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
        # The caret as it is: to hide it, Playwright would change elements, and a page's script takes that for news.
        path = PICTURES / f"{name}-{scheme}.png"
        await page.screenshot(path=path, full_page=True, animations="disabled", caret="initial")
    await page.emulate_media(color_scheme="light")
