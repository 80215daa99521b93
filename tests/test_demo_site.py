"""The /demo page: its links, and that every control does what it says and says what happened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import httpx
import pytest

from mpesa_sync.demo import controls, venues
from mpesa_sync.demo.browser import Browser
from mpesa_sync.demo.stage import Stage
from mpesa_sync.demo.venues import BARAKA, KARIBU, NJERI, NYALI, RIFT, UHURU, VENUES, Venue
from tests.support.demo import staged
from tests.support.observer import changed_tables, database_hash, see, see_all
from tests.support.venues import add_bar
from tests.support.web import NO_TLS, Site


@dataclass
class Page:
    """The demo in a browser, and the observer."""

    stage: Stage
    browser: httpx.AsyncClient
    sql: Any

    async def press(self, control: str, venue: Venue) -> str:
        """Press a button; return what the page says then."""
        answer = await self.browser.post("/demo/control", data={"control": control, "venue": venue.slug})
        assert answer.status_code == 200, answer.text
        _, _, rest = answer.text.partition('id="result"')
        return rest.partition("</p>")[0]

    async def flags(self, venue: Venue) -> tuple[list[str], bool | None]:
        """Return the active environments and the customers' flag."""
        seen = await see(self.sql, venue.id)
        assert seen is not None
        return seen.active, seen.mpesa_enabled


@pytest.fixture
async def page(database_url: str, sql: Any) -> AsyncIterator[Page]:
    """The demo on a database of the tests' server."""
    async with staged(database_url, sql) as stage:
        assert stage.site is not None
        url = stage.site.url
        async with httpx.AsyncClient(
            base_url=url, headers={"origin": url}, follow_redirects=True, verify=NO_TLS
        ) as browser:
            yield Page(stage, browser, sql)


async def test_the_page_shows_every_venue_as_stored(page: Page) -> None:
    """Issue 3: staff and customers side by side, the raw values of both fields of all venues."""
    for venue in VENUES:
        answer = await page.browser.get("/demo", params={"venue": venue.slug})
        assert answer.status_code == 200
        assert f'src="/staff/bars/{venue.id}/mpesa"' in answer.text
        assert f'src="/menu/{venue.slug}"' in answer.text
    first = (await page.browser.get("/demo")).text
    assert "Demo: <bdi>Baraka Lounge" in first
    assert first.count("drifted: hidden") == 3  # the venue shown, and two of the list
    assert first.count("drifted: exposed") == 2
    assert all(control.title in first.replace("&#39;", "'") for control in controls.CONTROLS)
    state = (await page.browser.get("/demo/state")).json()
    assert {slug: values["mpesa_enabled"] for slug, values in state.items()} == {
        venue.slug: venue.mpesa_enabled for venue in VENUES
    }
    assert (await page.browser.get("/demo", params={"venue": "nowhere"})).status_code == 404
    assert (await page.browser.get("/demo/control")).status_code == 405
    assert (await page.browser.get("/")).url.path == "/demo"


async def test_the_customers_page_has_a_sample_tab_and_says_that_it_is_one(page: Page) -> None:
    """Issue 6: made up, in the demo only; no table of the platform holds it, and another bar has none."""
    answer = await page.browser.get(f"/menu/{NYALI.slug}")
    for said in ("Your tab", "Nyama choma, half a kilo", "KSh 2,320", "Sample tab and menu of the demo."):
        assert said in answer.text, said
    assert 'name="amount" value="2320"' in answer.text
    other = await page.browser.get(f"/menu/{await add_bar(page.sql)}")
    assert other.status_code == 200
    assert "Your tab" not in other.text
    assert "Nyama choma" not in other.text


async def test_each_of_both_fields_can_be_written_alone(page: Page) -> None:
    """The legacy staff app and a plain SQL write, both directions; a button that is out of date does what it says."""
    said = await page.press("staff-app:off", BARAKA)
    assert await page.flags(BARAKA) == ([], False)
    assert "is_active (production): true → false" in said
    assert "They agree" in said
    await page.press("staff-app:off", BARAKA)
    assert await page.flags(BARAKA) == ([], False)
    said = await page.press("staff-app:on", BARAKA)
    assert await page.flags(BARAKA) == (["production"], False)
    assert "not offered it (hidden)" in said
    assert "UPDATE 0" in await page.press("staff-app:on", KARIBU)
    said = await page.press("plain-sql:on", NJERI)
    assert await page.flags(NJERI) == ([], True)
    assert "(exposed)" in said
    await page.press("plain-sql:off", NJERI)
    assert await page.flags(NJERI) == ([], False)


async def test_a_save_that_is_killed_once_is_done_once(page: Page) -> None:
    """After the first update, and with COMMIT under way: two attempts, one change."""
    for venue in (NJERI, NYALI, UHURU, RIFT):
        await _killed_once(page, venue)


async def _killed_once(page: Page, venue: Venue) -> None:
    """Press both controls of a kill at one venue."""
    for control, part in (("save-cut", "Attempt 2 did all of it"), ("commit-cut", "written down once")):
        before, _ = await page.flags(venue)
        said = await page.press(f"{control}:on", venue)
        assert part in said
        assert "(1 cut)" in said
        active, shown = await page.flags(venue)
        assert (active, shown) == (([], False) if before else (["production"], True))
    kinds = await page.sql.fetch("select kind, outcome from mpesa_sync.operations where bar_id = $1", venue.id)
    assert [(row["kind"], row["outcome"]) for row in kinds if row["kind"] == "settings"] == [
        ("settings", "applied"),
        ("settings", "applied"),
    ]


async def test_a_save_that_is_killed_every_time_changes_nothing_and_calls_a_person(page: Page) -> None:
    """R5.1, R5.2: four attempts, an alert, and not a byte in the platform's tables."""
    before = await database_hash(page.sql)
    said = await page.press("every-time:on", NJERI)
    assert "4 attempts, 4 cuts" in said
    assert "Not a byte was changed" in said
    changed = changed_tables(before, await database_hash(page.sql))
    assert {table for table in changed if table.startswith("public.")} == set()
    assert await page.sql.fetchval("select state from mpesa_sync.alerts where bar_id = $1", NJERI.id) == "firing"
    await page.press("switch:on", NJERI)
    assert await page.sql.fetchval("select state from mpesa_sync.alerts where bar_id = $1", NJERI.id) == "resolved"


async def test_open_pages_survive_the_end_of_every_connection(page: Page) -> None:
    """The stream of a customer's page goes on, and shows what is changed afterwards (L6, facts/live.md)."""
    assert page.stage.site is not None
    customer = Browser(page.stage.site.url)
    async with customer.stream(f"/api/bars/{NYALI.slug}/payment-methods/events") as stream:
        assert await stream.until(lambda frame: frame.name == "payment-methods", after=0, within_s=15)
        said = await page.press("kill-connections:on", NYALI)
        assert "connections ended by the database" in said
        assert ">0 connections" not in said
        await page.press("plain-sql:off", NYALI)
        assert await stream.until(
            lambda frame: frame.name == "payment-methods" and "mpesa" not in frame.methods, after=1, within_s=15
        )


async def test_one_venue_is_mended_or_all_of_them_or_everything_is_put_back(page: Page) -> None:
    """Repair, migrate, and the start again; no version goes back (L3), so that open pages follow."""
    start = {bar: (seen.flags, seen.mpesa_enabled) for bar, seen in (await see_all(page.sql)).items()}
    said = await page.press("repair:on", BARAKA)
    assert await page.flags(BARAKA) == (["production"], True)
    assert "mpesa_enabled now follows is_active" in said
    assert "agree already" in await page.press("repair:on", BARAKA)
    said = await page.press("migrate:on", BARAKA)
    assert "3 corrected" in said
    assert not any(seen.drifted for seen in (await see_all(page.sql)).values())
    await page.press("save-cut:on", NJERI)
    versions = "select bar_id, version from mpesa_sync.bar_state"
    before = dict(await page.sql.fetch(versions))
    assert "4 of them drifted" in await page.press("put-back:on", BARAKA)
    assert start == {bar: (seen.flags, seen.mpesa_enabled) for bar, seen in (await see_all(page.sql)).items()}
    after = dict(await page.sql.fetch(versions))
    assert all(after[bar] >= version for bar, version in before.items())
    assert all(after[venue.id] > before[venue.id] for venue in (BARAKA, NJERI, KARIBU))


async def test_what_is_refused_is_said(page: Page) -> None:
    """A venue whose secrets do not open cannot be switched on; an unknown control and venue are errors."""
    before = await page.flags(RIFT)
    assert "Refused: " in await page.press("switch:on", RIFT)
    assert await page.flags(RIFT) == before
    await page.press("switch:on", NJERI)
    assert await page.flags(NJERI) == (["production"], True)
    await page.press("switch:off", NJERI)
    assert await page.flags(NJERI) == ([], False)
    for data, status in (
        ({"control": "nothing:on", "venue": NJERI.slug}, 400),
        ({"control": "switch:maybe", "venue": NJERI.slug}, 400),
        ({"control": "switch:on", "venue": "nowhere"}, 404),
    ):
        assert (await page.browser.post("/demo/control", data=data)).status_code == status


async def test_two_presses_at_once_take_turns(page: Page) -> None:
    """Both are done, one after the other."""
    said = await asyncio.gather(page.press("save-cut:on", NJERI), page.press("save-cut:on", NJERI))
    assert all("Attempt 2 did all of it" in text for text in said)
    assert await page.flags(NJERI) == ([], False)


async def test_other_sites_cannot_press(page: Page) -> None:
    """A page of another site sends neither controls nor sign-ins."""
    before = await database_hash(page.sql)
    others: tuple[dict[str, str], ...] = ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"})
    for path, headers in product(("/demo/control", "/demo/sign-in"), others):
        answer = await page.browser.post(path, data={"control": "switch:on", "venue": NJERI.slug}, headers=headers)
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert await database_hash(page.sql) == before


async def test_one_press_signs_in_and_the_frames_work(page: Page) -> None:
    """The demo's account, a session like any other; the staff's page may stand in a frame of this site only."""
    page_of = f"/staff/bars/{BARAKA.id}/mpesa"
    shown = await page.browser.get("/demo")
    assert "Sign in as wanjiku" in shown.text
    shown = await page.browser.post("/demo/sign-in", data={"venue": BARAKA.slug})
    assert "Demo: <bdi>Baraka Lounge" in shown.text
    assert "Sign in as wanjiku" not in shown.text
    framed = await page.browser.get(page_of)
    assert "What customers see now" in framed.text
    assert "frame-ancestors 'self'" in framed.headers["content-security-policy"]
    assert framed.headers["x-frame-options"] == "SAMEORIGIN"
    await page.browser.post("/demo/sign-in", data={"venue": BARAKA.slug})
    assert await page.sql.fetchval("select count(*) from mpesa_sync.sessions") == 1


async def test_the_password_is_on_no_page_and_in_no_log(page: Page) -> None:
    """It is printed on the terminal, and nowhere else; the token likewise."""
    assert page.stage.site is not None
    await page.browser.post("/demo/sign-in", data={"venue": BARAKA.slug})
    texts = [str(page.stage.events), repr(page.stage.site), repr(page.stage)]
    for path in ("/demo", "/demo/state", "/staff", f"/staff/bars/{BARAKA.id}/mpesa", f"/menu/{BARAKA.slug}"):
        texts.append((await page.browser.get(path)).text)
    texts += [await page.press(f"{control.id}:on", NJERI) for control in controls.CONTROLS]
    for secret in (page.stage.site.password, page.stage.site.token, page.stage.key, page.stage.token_key):
        assert not any(secret.reveal() in text for text in texts)


async def test_the_demo_is_in_the_demo_only(site: Site) -> None:
    """The served application has no such routes, and no page of it may be framed."""
    for path in ("/demo", "/demo/state"):
        answer = await site.client.get(path)
        assert answer.status_code == 404
        assert answer.headers["x-frame-options"] == "DENY"
    for path in ("/demo/control", "/demo/sign-in"):
        assert (await site.client.post(path, data={"control": "switch:on", "venue": NJERI.slug})).status_code == 404


def test_every_control_says_what_to_look_at_or_mends() -> None:
    """Issue 3: each says what it does, what to look at, how to mend it."""
    for control in controls.CONTROLS:
        assert control.mends or ("Look at: " in control.text and "mend" in control.text.lower()), control.id
    assert len({control.id for control in controls.CONTROLS}) == len(controls.CONTROLS)
    assert venues.named("nowhere") is None
