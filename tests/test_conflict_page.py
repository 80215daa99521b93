"""A form on the staff page that met another change (R4): both sides, who and when, and the two ways on."""

from __future__ import annotations

import html
import re
from typing import Any, Final
from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.web.texts import text
from tests.support.chromium import keep
from tests.support.premises import Premises, fill_credentials
from tests.support.venues import KEYS

pytestmark = pytest.mark.asyncio(loop_scope="module")
PASSKEY: Final = "another-passkey-9f2c"
_ROW: Final = "select * from public.mpesa_credentials where tenant_id = $1"
_BY_A_PROGRAM: Final = "update public.mpesa_credentials set business_shortcode = '600999' where tenant_id = $1"
_SAVES: Final = "select count(*) from mpesa_sync.operations where bar_id = $1 and kind = 'settings'"
SIDEWAYS: Final = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


async def saves(page: Page, **values: str) -> None:
    """Type into the credentials form and send it."""
    await fill_credentials(page, **values)
    await page.get_by_role("button", name="Save credentials").click()


async def side(page: Page, title: str) -> str:
    """Return one side of the comparison as text."""
    return " ".join(
        (await page.locator(".sides > div").filter(has=page.get_by_role("heading", name=title)).inner_text()).split()
    )


async def number(place: Premises, bar: UUID) -> str:
    """Return the stored paybill number."""
    row = await place.sql.fetchrow(_ROW, bar)
    return str(row["business_shortcode"])


async def test_a_stale_form_shows_both_sides_and_saves_anyway(place: Premises) -> None:
    """R4: a colleague was faster; what was typed and what is stored stand side by side, announced; one press saves."""
    bar = await place.bar(row=False, name="Mama Njeri's Kitchen")
    baraka = await place.owner(bar)
    mine, theirs = await place.staff_page(bar), await place.staff_page(bar, baraka, script=False)
    await saves(theirs, business_shortcode="600222")
    await expect(theirs.locator(".said.good")).to_be_visible()
    await saves(mine, business_shortcode="600111")
    alert = mine.get_by_role("alert")
    await expect(alert).to_contain_text("Somebody was faster")
    await expect(alert).to_contain_text(f"changed by {baraka.name} at ")
    await expect(alert.locator("time")).to_have_attribute("datetime", re.compile(r"^20\d\d-"))
    await expect(alert).to_be_focused()
    asked, stored = await side(mine, "What you asked for"), await side(mine, "What is stored now")
    assert "Paybill or store number 600111 differs" in asked
    assert "Paybill or store number 600222" in stored
    assert "Passkey as stored" in asked
    assert "Passkey stored (not shown)" in stored
    assert await mine.locator("#switch, #credentials").count() == 0
    assert not await mine.evaluate(SIDEWAYS)
    assert await number(place, bar) == "600222"
    await mine.get_by_role("button", name="Save mine anyway").click()
    await expect(mine.locator(".said.good")).to_have_text(text("notice.saved.off"))
    assert await number(place, bar) == "600111"


async def test_what_is_stored_can_be_kept(place: Premises) -> None:
    """R4: the other way on writes nothing; another program has no name."""
    bar = await place.bar(row=False)
    page = await place.staff_page(bar)
    await place.sql.execute(_BY_A_PROGRAM, bar)
    await saves(page, business_shortcode="600111")
    await expect(page.get_by_role("alert")).to_contain_text("changed by another program at ")
    await page.get_by_role("link", name="Keep what is stored").click()
    await expect(page.locator("#mpesa_business_shortcode")).to_have_value("600999")
    await expect(page.locator("#conflict")).to_have_count(0)
    assert await place.sql.fetchval(_SAVES, bar) == 0


async def test_a_typed_secret_is_not_sent_back_and_can_be_entered_again(place: Premises) -> None:
    """R4.2: said to be new, never shown, in no field; entered again it is saved with the rest. Without JavaScript."""
    bar = await place.bar(row=False)
    page = await place.staff_page(bar, script=False)
    await place.sql.execute(_BY_A_PROGRAM, bar)
    await saves(page, business_shortcode="600111", passkey=PASSKEY)
    await expect(page.get_by_role("alert")).to_be_visible()
    assert "Passkey a new one (not shown) differs" in await side(page, "What you asked for")
    assert PASSKEY not in html.unescape(await page.content())
    await expect(page.locator("input[type=password]")).to_have_count(1)
    await keep(page, "mpesa-conflict")
    await place.sql.execute(_BY_A_PROGRAM.replace("600999", "600888"), bar)
    await page.get_by_label("Passkey").fill(PASSKEY)
    await page.get_by_role("button", name="Save mine anyway").click()
    assert "Paybill or store number 600888" in await side(page, "What is stored now")
    await page.get_by_label("Passkey").fill(PASSKEY)
    await page.get_by_role("button", name="Save mine anyway").click()
    await expect(page.locator(".said.good")).to_be_visible()
    row = await place.sql.fetchrow(_ROW, bar)
    assert row["business_shortcode"] == "600111"
    assert open_stored(KEYS, row["passkey_enc"]).secret.reveal() == PASSKEY


async def test_a_stale_switch_asks_before_it_switches(place: Premises) -> None:
    """R4: the page was made before the credentials changed: the switch, too, says so, and goes on when told to."""
    bar = await place.bar(row=False)
    page = await place.staff_page(bar, script=False)
    await place.sql.execute(_BY_A_PROGRAM, bar)
    await page.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(page.get_by_role("alert")).to_contain_text("another program")
    assert "M-Pesa on differs" in await side(page, "What you asked for")
    assert "M-Pesa off" in await side(page, "What is stored now")
    await page.get_by_role("button", name="Switch M-Pesa on anyway").click()
    await expect(page.locator(".said.good")).to_have_text(text("notice.on"))


async def test_whoever_asks_for_what_is_so_already_is_not_asked_back(place: Premises) -> None:
    """R4: two people press the same switch, or one presses it twice: it is on, and nobody has to decide anything."""
    bar = await place.bar(row=False)
    account = await place.owner(bar)
    first, second = await place.staff_page(bar, script=False), await place.staff_page(bar, account, script=False)
    await first.get_by_role("button", name="Switch M-Pesa on").click()
    await second.get_by_role("button", name="Switch M-Pesa on").click()
    await expect(second.locator(".said.good")).to_have_text(text("notice.on"))
    assert await place.sql.fetchval(_SAVES, bar) == 1


async def test_the_same_form_sent_twice_is_one_save(place: Premises) -> None:
    """R4: a second press on Save does not conflict with the first; other values from the same form are another save."""
    bar = await place.bar(row=False)
    page = await place.staff_page(bar, script=False)
    fields: dict[str, Any] = {
        name: await page.locator(f"#credentials [name={name}]").input_value() for name in ("csrf", "etag", "once")
    }
    values = {"mpesa_environment": "production", "mpesa_account_type": "paybill", "mpesa_passkey": PASSKEY}
    address = f"{place.origin}/staff/bars/{bar}/mpesa"

    async def sent(**more: str) -> tuple[int, str]:
        answer = await page.request.post(address, form={**fields, **values, **more}, max_redirects=0)
        return answer.status, answer.headers.get("location", "")

    there = f"/staff/bars/{bar}/mpesa?done=saved-off"
    assert await sent(mpesa_business_shortcode="600111") == (303, there)
    assert await sent(mpesa_business_shortcode="600111") == (303, there)
    assert await place.sql.fetchval(_SAVES, bar) == 1
    assert (await sent(mpesa_business_shortcode="600222"))[0] == 409
    assert await number(place, bar) == "600111"
    # A page without them, such as one from before they came, is saved as it always was.
    fields = {"csrf": fields["csrf"]}
    assert await sent(mpesa_business_shortcode="600222") == (303, there)


async def test_what_was_done_is_said_only_while_it_is_so(place: Premises) -> None:
    """Issue 3: an address that says "on" after a colleague switched off says nothing."""
    bar = await place.bar(row=False)
    page = await place.staff_page(bar, script=False)
    address = f"{place.origin}/staff/bars/{bar}/mpesa"
    for done, count in (("on", 0), ("off", 1), ("nonsense", 0)):
        await page.goto(f"{address}?done={done}")
        await expect(page.locator(".said.good")).to_have_count(count)
