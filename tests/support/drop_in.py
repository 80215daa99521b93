"""A venue's own site with our drop-in, in a browser: the site is listed by our server, and of another origin."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from playwright.async_api import Page, expect

from tests.support.chromium import Visits
from tests.support.host_site import HostSite, host_site, shown_in_guide
from tests.support.premises import Premises, premises

QUICK_RETRIES: Final = "Math.random = () => 0.05;"
KEEP_ALL: Final = "window.all = []; addEventListener('mpesa-methods', ({ detail }) => all.push(detail));"


@dataclass
class Venue:
    """What the tests share: our server, and a site that it lists."""

    place: Premises
    site: HostSite

    def add(self, path: str, content: str, bar: UUID | str) -> None:
        """Add something to the site as the how-to shows it."""
        self.site.add(path, content, server=self.place.origin, bar=str(bar))

    @asynccontextmanager
    async def visited(self) -> AsyncIterator[None]:
        """Let a test open pages; nothing may go wrong on one of them, nor break its policy, nor ask a third place."""
        self.place.visits = Visits(self.place.chromium, self.site.origin, also=self.place.origin)
        self.site.policy = ""
        yield
        await self.place.visits.close()

    async def open(self, path: str, *, before: str = "") -> Page:
        """Open a page of the site; `before` is a script that runs first."""
        page = await self.place.visits.open("")
        await page.add_init_script(QUICK_RETRIES + KEEP_ALL + before)
        await page.goto(self.site.origin + path)
        return page

    async def element(self, bar: UUID | str, *, before: str = "") -> Page:
        """Open a page with the element, under the strict policy of the how-to."""
        self.site.allow(self.place.origin)
        self.add("/element", shown_in_guide("html"), bar)
        return await self.open("/element", before=before)


@asynccontextmanager
async def venue_with_site(home: Path, server_url: str, template: str) -> AsyncIterator[Venue]:
    """Serve a site, and a database for the site's pages, until the block ends."""
    async with host_site() as site:
        allowed = {"MPESA_SYNC_ALLOWED_ORIGINS": site.origin}
        async with premises(home, server_url, template, **allowed) as place:
            yield Venue(place, site)


async def until_offered(page: Page, *methods: str) -> None:
    """Wait until the element lets choose exactly this, in this order."""
    inputs = page.locator("mpesa-methods input[type=radio]:visible")
    await expect(inputs).to_have_count(len(methods))
    for place, method in enumerate(methods):
        await expect(inputs.nth(place)).to_have_value(method)


async def until_state(page: Page, state: str) -> None:
    """Wait until the element is in this state."""
    await expect(page.locator("mpesa-methods")).to_have_attribute("data-state", state)


async def live_element(venue: Venue) -> tuple[UUID, Page]:
    """Open a page with a bar that is offered M-Pesa, and wait until it is live."""
    bar = await venue.place.bar(shown=True, row=True)
    page = await venue.element(bar)
    await until_state(page, "live")
    await until_offered(page, "mpesa", "cash")
    return bar, page
