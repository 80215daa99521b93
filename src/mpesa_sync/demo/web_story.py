"""Steps of the story over real HTTP: signing in, saving through the form and the API, refusals, a rollback."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

from mpesa_sync.demo import legacy, observer, venues
from mpesa_sync.demo.browser import Answer, Browser
from mpesa_sync.demo.site import NAME, Site
from mpesa_sync.demo.stage import STAFF, Stage, StoryBroken
from mpesa_sync.demo.venues import Venue
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.identity import accounts, passwords
from mpesa_sync.identity.people import Role
from mpesa_sync.secret import MASK

SETTINGS: Final = "/api/mpesa-settings"
PROBLEM: Final = "application/problem+json"
_CSRF: Final = re.compile(r'name="csrf" value="([^"]+)"')
_WRONG: Final[Mapping[str, Any]] = {
    "mpesa_environment": "prod",
    "mpesa_business_shortcode": "12",
    "mpesa_consumer_key": "two words of it",
    "mpesa_passkey": 12345,
    "mpesa_enabled": "true",
    "mpesa_pin": "1234",
}
"""Six wrong fields: an unknown environment, a short number, a key with spaces, numbers and texts mixed up, a typo."""


def site_of(stage: Stage) -> Site:
    """Return where the stage's database is served.

    Raises:
        StoryBroken: it is not.
    """
    if stage.site is None:
        raise StoryBroken("not so: the web application is served")
    return stage.site


def bearer(stage: Stage) -> dict[str, str]:
    """Return the headers of a program that acts as the staff member."""
    return {"authorization": f"Bearer {site_of(stage).token.reveal()}"}


async def signed_in(stage: Stage, name: str = "", password: str = "") -> Browser:
    """Return a browser in which somebody, the demo's staff member where nobody is named, has signed in."""
    site = site_of(stage)
    browser = Browser(site.url)
    fields = {"name": name or NAME, "password": password or site.password.reveal()}
    await browser.post_form("/staff/sign-in", fields)
    return browser


def page_of(venue: Venue) -> str:
    """Return the path of a venue's M-Pesa page for its staff."""
    return f"/staff/bars/{venue.id}/mpesa"


async def csrf_of(browser: Browser, venue: Venue) -> str:
    """Return the token that the forms of a venue's page carry."""
    found = _CSRF.search((await browser.get(page_of(venue), accept="text/html")).text)
    return found[1] if found else ""


async def sign_in(stage: Stage) -> None:
    """Issue 3: a session on PostgreSQL in a cookie, and forms that only our own page can send."""
    site, venue = site_of(stage), venues.NYALI
    browser = Browser(site.url)
    stage.say(f"{site.account.name} opens the staff app on her phone, over HTTP, and is not known yet:")
    asked = await browser.get(page_of(venue), accept="text/html")
    stage.check(
        "she is sent to sign in", (asked.status, asked.headers["location"].partition("?")[0]) == (303, "/staff/sign-in")
    )
    wrong = await browser.post_form("/staff/sign-in", {"name": NAME, "password": "not this one"})
    stage.check("a wrong password is refused, without a cookie", wrong.status == 401 and not browser.cookie)
    right = await browser.post_form("/staff/sign-in", {"name": NAME, "password": site.password.reveal()})
    flags = right.headers.get("set-cookie", "").lower()
    stage.check(
        "the right one gives a cookie that no script can read and no other site can send",
        right.status == 303 and "httponly" in flags and "samesite=lax" in flags,
    )
    listed = (await browser.get("/staff", accept="text/html")).text
    names = sum(str(one.id) in listed for one in venues.VENUES)
    stage.check(f"her list has all {names} venues", names == len(venues.VENUES))
    before, other = await stage.see(venue), await signed_in(stage)
    forged = await browser.post_form(f"{page_of(venue)}/switch", {"is_active": "false"})
    strange = await browser.post_form(
        f"{page_of(venue)}/switch", {"is_active": "false", "csrf": await csrf_of(other, venue)}
    )
    stage.check(
        "a form without the page's token, or with that of another session, is refused",
        (forged.status, strange.status) == (403, 403),
    )
    stage.check("and nothing was changed", await stage.see(venue) == before)


async def save_form(stage: Stage) -> None:
    """R4.1: the staff's form stores credentials and both fields in one transaction, with its audit entry."""
    venue = venues.MAASAI
    browser, before = await signed_in(stage), await stage.see(venue)
    typed = {name: secrets.token_urlsafe(24) for name in ("consumer_key", "consumer_secret", "passkey")}
    stage.say(f"{venue.name} never had credentials. Its owner types them into the form and ticks the switch:")
    answer = await browser.post_form(
        page_of(venue),
        {
            **{f"mpesa_{name}": value for name, value in typed.items()},
            "mpesa_environment": "production",
            "mpesa_account_type": "paybill",
            "mpesa_business_shortcode": "600104",
            "mpesa_enabled": "true",
            "csrf": await csrf_of(browser, venue),
        },
    )
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("saved", (answer.status, answer.headers.get("location", "")) == (303, f"{page_of(venue)}?done=saved"))
    stage.check("both fields say: on", after.mpesa_enabled is True and after.active == ["production"])
    audit = await stage.plain.fetchrow(observer.LAST_OPERATION, venue.id)
    stage.check(
        f"one transaction, number {audit['transaction']}, wrote both rows and the audit entry: a save by "
        f"{audit['actor']}",
        audit["actor"] == STAFF
        and audit["moved_the_version"]
        and {after.transaction} == set(after.credentials_transactions),
    )
    shown = (await browser.get(page_of(venue), accept="text/html")).text
    stage.check(
        "her page, read again, holds none of the three secrets", not any(value in shown for value in typed.values())
    )
    stage.check("nor does the audit", not any(value in audit["line"] for value in typed.values()))


async def save_api(stage: Stage) -> None:
    """R4.1, R4.3: the API, with the answer that was read back; the mask means unchanged."""
    venue, program = venues.MAASAI, Browser(site_of(stage).url)
    before, stored = await stage.see(venue), await observer.stored_secrets(stage.plain, venue.id)
    stage.say("A program posts what it was shown, masks and all, and switches off:")
    found = await program.get(f"{SETTINGS}?barId={venue.id}", **bearer(stage))
    settings = found.json["settings"]
    stage.check("what it was shown: masks in the place of secrets", settings["mpesa_passkey"] == MASK)
    fields = {name: settings[name] for name in ("mpesa_consumer_key", "mpesa_consumer_secret", "mpesa_passkey")}
    answer = await program.post_json(
        SETTINGS, {"barId": str(venue.id), "mpesa_enabled": False, **fields}, **bearer(stage)
    )
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("both fields say: off", answer.status == 200 and after.mpesa_enabled is False and not after.active)
    stage.check(
        "read back inside the transaction: sync_status says true for both",
        answer.json["sync_status"] == {"credentials_updated": True, "bar_status_updated": True},
    )
    kept = await observer.stored_secrets(stage.plain, venue.id)
    stage.check("the mask was not saved: the stored secrets are the same, byte for byte", kept == stored)
    operation = await program.get(f"/api/operations/{answer.json['operation_id']}", **bearer(stage))
    stage.check("asked for by its id later: applied", operation.json["outcome"] == "applied")


async def save_rejected(stage: Stage) -> None:
    """R4.4: every wrong field is named with its remedy, and nothing is changed."""
    venue, program = venues.NYALI, Browser(site_of(stage).url)
    before = await stage.digests()
    stage.say(f"A save with {len(_WRONG)} wrong fields:")
    answer = await program.post_json(SETTINGS, {"barId": str(venue.id), **_WRONG}, **bearer(stage))
    for detail in answer.json["details"]:
        stage.narrator.say(detail, indent=6, style="yellow")
    named = [error["field"] for error in answer.json["errors"]]
    stage.check(
        "refused with 400 and a problem document, which names exactly these",
        _is_problem(answer, 400) and sorted(named) == sorted(_WRONG),
    )
    stage.check("nothing that was posted is repeated in it", _WRONG["mpesa_consumer_key"] not in answer.text)
    stage.check("nothing was changed in any table (digest of every row)", await stage.digests() == before)
    browser = await signed_in(stage)
    fields = {"mpesa_environment": "production", "mpesa_business_shortcode": "60", "mpesa_passkey": "two words"}
    token = await csrf_of(browser, venue)
    before = await stage.digests()
    page = await browser.post_form(page_of(venue), {**fields, "csrf": token})
    stage.check(
        "the form says it beside the field, keeps what was typed, and forgets the secret",
        page.status == 400 and 'value="60"' in page.text and "two words" not in page.text,
    )
    stage.check("and again nothing was changed", await stage.digests() == before)


async def rollback(stage: Stage) -> None:
    """R4.2: a database error rolls all of it back; the answer says so in words that are safe to show."""
    venue, program = venues.NYALI, Browser(site_of(stage).url)
    before, digests = await stage.see(venue), await stage.digests()
    stage.say(f"The platform's trigger again, which refuses every change of the bars row of {venue.name}:")
    body = {"barId": str(venue.id), "mpesa_enabled": False}
    async with legacy.stock_taking(stage.plain):
        answer = await program.post_json(SETTINGS, body, **bearer(stage))
    problem, after = answer.json, await stage.see(venue)
    stage.narrator.say(f'{answer.status} "{problem["error"]}"', indent=6, style="yellow")
    stage.show(venue, before, after)
    stage.check(
        f"a problem document: {problem['code']}, outcome {problem['outcome']}, operation {problem['operation_id']}",
        _is_problem(answer, answer.status) and answer.status >= 500 and problem["outcome"] == "failed",
    )
    stage.check("not the database's own words", "stock-taking" not in answer.text)
    now = await stage.digests()
    stage.check(
        "every table of the platform is as it was (digest of every row)",
        all(now[name] == digest for name, digest in digests.items() if name != "mpesa_sync"),
    )
    stage.say("The trigger goes; the same request once more, and back:")
    for on in (False, True):
        again = await program.post_json(SETTINGS, {**body, "mpesa_enabled": on}, **bearer(stage))
        stage.check(f"switched {'on' if on else 'off'}", again.status == 200 and again.json["mpesa_enabled"] is on)
    states = {found["state"] for found in await stage.alerts(venue)}
    stage.check("the alert about it is resolved", states == {"resolved"})


async def foreign_bar(stage: Stage) -> None:
    """Issue 3: a bar of others looks like one that does not exist."""
    site, theirs, absent = site_of(stage), venues.NYALI, uuid4()
    password = passwords.generate()
    stranger = await accounts.add(stage.database, "otieno", password, memberships={venues.KISUMU.id: Role.OWNER})
    try:
        browser = await signed_in(stage, stranger.name, password.reveal())
        before = await stage.see(theirs)
        stage.say(f"{stranger.name} owns {venues.KISUMU.name} only. He asks for {theirs.name}, and for no bar at all:")
        token = {"x_csrf_token": await csrf_of(browser, venues.KISUMU)}
        for what, path in (("settings", f"{SETTINGS}?barId={{}}"), ("page", "/staff/bars/{}/mpesa")):
            answers = [await browser.get(path.format(bar), accept="text/html") for bar in (theirs.id, absent)]
            stage.check(f"{what}: 404 both times, the same answer", _alike(answers))
        answers = [
            await browser.post_json(SETTINGS, {"barId": str(bar), "mpesa_enabled": False}, **token)
            for bar in (theirs.id, absent)
        ]
        stage.check("a save: 404 both times, the same answer", _alike(answers))
        stage.check("and nothing was changed", await stage.see(theirs) == before)
    finally:
        try:
            await accounts.remove(stage.database, stranger)
        except MpesaSyncError:
            stage.say(f"{stranger.name} could not be removed from {site.url}.")


def _is_problem(answer: Answer, status: int) -> bool:
    return answer.status == status and answer.headers["content-type"].startswith(PROBLEM)


def _alike(answers: list[Answer]) -> bool:
    texts = {re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", answer.text) for answer in answers}
    return [answer.status for answer in answers] == [404, 404] and len(texts) == 1
