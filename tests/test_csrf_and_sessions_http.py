"""Sessions and forged requests over real HTTP: whose form it was, what a cookie is worth, where a sign-in leads."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from mpesa_sync.identity import accounts
from mpesa_sync.identity.people import Role
from mpesa_sync.identity.sign_in import PER_ACCOUNT_AND_ADDRESS
from mpesa_sync.web.auth import COOKIE, CSRF_HEADER
from tests.support.browsing import Visitor, with_session
from tests.support.observer import database_hash, see
from tests.support.people import PASSWORD, WRONG, quick_hashing
from tests.support.venues import add_bar
from tests.support.web import OTHER_SITES, Site

SIGN_IN: Final = "/staff/sign-in"
API: Final = "/api/mpesa-settings"
HTML: Final = {"accept": "text/html"}
HTTPS: Final = {"x-forwarded-proto": "https"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hashing(monkeypatch)


async def owner_of(site: Site, sql: Any, *bars: UUID) -> Visitor:
    """Return the browser of a new owner."""
    return await with_session(site, await site.person(sql, *bars))


async def signs_in(site: Site, name: str, headers: Mapping[str, str] = {}, **fields: str) -> httpx.Response:
    """Post the form of the sign-in page."""
    client = site.client
    data = {"name": name, "password": PASSWORD.reveal(), **fields}
    answer = await client.post(SIGN_IN, data=data, headers={**HTML, **headers})
    client.cookies.clear()
    return answer


async def member(site: Site, name: str, *bars: UUID) -> None:
    """Add an account that can sign in."""
    await accounts.add(site.context.database, name, PASSWORD, memberships=dict.fromkeys(bars, Role.OWNER))


def cookie_of(answer: httpx.Response, name: str = COOKIE) -> Any:
    """Return the session's cookie that an answer sets, as it is on the wire."""
    found = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        found.load(line)
    return found[name]


async def change(site: Site, target: str, bar: UUID, who: Visitor, csrf: str | None, **headers: str) -> httpx.Response:
    """Switch on through one of the ways in, with a CSRF token of the test's choice."""
    everything = {**who.headers, **headers}
    if target == API:
        extra = {} if csrf is None else {CSRF_HEADER: csrf}
        return await site.client.post(API, headers=everything | extra, json={"barId": str(bar), "mpesa_enabled": True})
    fields = {"mpesa_enabled": "true", "is_active": "true", **({} if csrf is None else {"csrf": csrf})}
    return await site.client.post(target.format(bar), headers=everything | HTML, data=fields)


TARGETS: Final = (API, "/staff/bars/{}/mpesa", "/staff/bars/{}/mpesa/switch", "/staff/sign-out")


async def test_a_change_needs_the_csrf_token_of_this_very_session(site: Site, sql: Any) -> None:
    """Issue 3: another session's token, of the same person too, none, an empty and a cut one are refused everywhere."""
    bar = await add_bar(sql, production=False)
    person = await site.person(sql, bar)
    mine, my_other = await with_session(site, person), await with_session(site, person)
    stranger = await owner_of(site, sql, bar)
    before = await database_hash(sql)
    for target in TARGETS:
        for csrf in (stranger.csrf, my_other.csrf, None, "", mine.csrf[:-1], mine.csrf + "=", "é" * 43):
            answer = await change(site, target, bar, mine, csrf if csrf is None else _wire(target, csrf))
            assert answer.status_code == 403, (target, csrf)
    assert await database_hash(sql) == before
    answer = await change(site, "/staff/bars/{}/mpesa/switch", bar, mine, mine.csrf)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/staff/bars/{bar}/mpesa?done=on")
    off = await site.client.post(
        API, headers={**mine.headers, CSRF_HEADER: mine.csrf}, json={"barId": str(bar), "mpesa_enabled": False}
    )
    assert off.status_code == 200
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])


def _wire(target: str, csrf: str) -> str:
    """A header carries no é as such: for the API the token is another text of the same length."""
    return csrf if csrf.isascii() or target != API else "x" * len(csrf)


async def test_another_site_cannot_send_a_form_even_with_the_right_token(site: Site, sql: Any) -> None:
    """Issue 3: Sec-Fetch-Site and Origin are looked at besides the token, also for signing in (login CSRF)."""
    bar = await add_bar(sql, production=False)
    mine = await owner_of(site, sql, bar)
    await member(site, "asha", bar)
    before = await database_hash(sql)
    for headers in OTHER_SITES:
        for target in TARGETS:
            assert (await change(site, target, bar, mine, mine.csrf, **headers)).status_code == 403, (target, headers)
        assert (await signs_in(site, "asha", headers)).status_code == 403, headers
    assert await database_hash(sql) == before
    own = {"sec-fetch-site": "same-origin", "origin": site.url}
    assert (await change(site, TARGETS[2], bar, mine, mine.csrf, **own)).status_code == 303


async def test_the_cookie_is_out_of_reach_and_secure_behind_https(site: Site, sql: Any) -> None:
    """Issues 3, 6: HttpOnly, SameSite=Lax, Path=/, no Domain; behind https Secure and __Host-: a neighbour plants none.

    The cookie of one way is worth nothing on the other, and signing out takes it away as it was set.
    """
    await member(site, "asha")
    for proto, secure, name in (({}, "", COOKIE), (HTTPS, True, f"__Host-{COOKIE}")):
        answer = await signs_in(site, "asha", proto)
        assert answer.status_code == 303
        cookie = cookie_of(answer, name)
        for sent, status in ((name, 200), (COOKIE if secure else f"__Host-{COOKIE}", 303)):
            page = await site.client.get("/staff", headers={**proto, "cookie": f"{sent}={cookie.value}"})
            assert page.status_code == status, sent
        assert (cookie["httponly"], cookie["samesite"].lower(), cookie["path"]) == (True, "lax", "/")
        assert (cookie["secure"], cookie["domain"]) == (secure, "")
        assert len(cookie.value) == 43
    assert COOKIE not in (await signs_in(site, "asha", {}, password=WRONG.reveal())).headers.get("set-cookie", "")
    schemes = (await site.client.get("/api/openapi.json")).json()["components"]["securitySchemes"]
    assert schemes["session"]["name"] == f"__Host-{COOKIE}"


async def test_signing_in_never_keeps_a_cookie_that_was_there(site: Site, sql: Any) -> None:
    """Session fixation: a planted cookie is worth nothing afterwards; an older session of this browser is ended."""
    await member(site, "asha")
    planted = "p" * 43
    answer = await signs_in(site, "asha", {"cookie": f"{COOKIE}={planted}"})
    first = cookie_of(answer).value
    assert first != planted
    assert await is_signed_in(site, first)
    assert not await is_signed_in(site, planted)
    second = cookie_of(await signs_in(site, "asha", {"cookie": f"{COOKIE}={first}"})).value
    assert second not in (first, planted)
    assert await is_signed_in(site, second)
    assert not await is_signed_in(site, first)


async def is_signed_in(site: Site, token: str) -> bool:
    """Whether a cookie of this value opens the staff page."""
    answer = await site.client.get("/staff", headers={"cookie": f"{COOKIE}={token}"})
    return answer.status_code == 200


async def test_signing_out_ends_the_session_on_the_server(site: Site, sql: Any) -> None:
    """Issue 3: whoever kept the cookie has nothing; the API says 401 as well."""
    bar = await add_bar(sql)
    mine = await owner_of(site, sql, bar)
    assert (await site.client.get("/staff", headers=mine.headers)).status_code == 200
    answer = await change(site, "/staff/sign-out", bar, mine, mine.csrf)
    assert (answer.status_code, answer.headers["location"]) == (303, SIGN_IN)
    assert cookie_of(answer).value == ""
    assert (await site.client.get("/staff", headers=mine.headers)).status_code == 303
    settings = await site.client.get(API, headers=mine.headers, params={"barId": str(bar)})
    assert settings.status_code == 401
    assert await sql.fetchval("select count(*) from mpesa_sync.sessions") == 0
    mine = await owner_of(site, sql, bar)
    headers = {**HTTPS, "cookie": mine.headers["cookie"].replace(COOKIE, f"__Host-{COOKIE}")}
    answer = await site.client.post("/staff/sign-out", headers=headers, data={"csrf": mine.csrf})
    gone = cookie_of(answer, f"__Host-{COOKIE}")
    assert (gone.value, gone["max-age"], gone["path"], gone["secure"], gone["domain"]) == ("", "0", "/", True, "")
    assert await sql.fetchval("select count(*) from mpesa_sync.sessions") == 0


ELSEWHERE: Final = (
    "https://evil.example/staff",
    "//evil.example",
    "/\\evil.example",
    "/staff//evil.example",
    "/staff/../..//evil.example",
    "/staff\\..\\evil",
    "/staff@evil.example",
    "/staff.evil.example",
    "/staffx",
    "/menu/x",
    "javascript:alert(1)",
    "/staff\r\nset-cookie: a=b",
    "/staff?x=1#y",
    "/stäff",
    "",
)


async def test_signing_in_leads_to_our_own_pages_only(site: Site, sql: Any) -> None:
    """No open redirect by `to`, in the form and in the address, signed in before or not."""
    bar = await add_bar(sql)
    await member(site, "asha", bar)
    mine = await owner_of(site, sql, bar)
    for to in ELSEWHERE:
        by_form = await signs_in(site, "asha", to=to)
        by_address = await site.client.get(SIGN_IN, headers=mine.headers, params={"to": to})
        for answer in (by_form, by_address):
            assert answer.status_code == 303
            place = httpx.URL(site.url).join(answer.headers["location"])
            assert place.host == httpx.URL(site.url).host
            assert place.path.startswith("/staff"), (to, answer.headers["location"])
        shown = await site.client.get(SIGN_IN, params={"to": to})
        assert 'name="to" value="/staff' in shown.text, to
    page = f"/staff/bars/{bar}/mpesa"
    assert (await signs_in(site, "asha", to=page)).headers["location"] == page
    away = await site.client.get(page, headers=HTML)
    assert away.headers["location"] == f"{SIGN_IN}?to={page}"


async def test_a_membership_that_was_revoked_while_the_page_was_open_writes_nothing(site: Site, sql: Any) -> None:
    """Issue 3: the form is still on the screen, the role is gone or has become one that only reads."""
    bar = await add_bar(sql, production=False)
    person = await site.person(sql, bar)
    mine = await with_session(site, person)
    shown = await site.client.get(f"/staff/bars/{bar}/mpesa", headers=mine.headers)
    assert mine.csrf in shown.text
    for statement, status in (
        ("update mpesa_sync.memberships set role = 'staff' where account_id = $1", 403),
        ("delete from mpesa_sync.memberships where account_id = $1", 404),
    ):
        await sql.execute(statement, person.id)
        before = await database_hash(sql)
        for target in TARGETS[:3]:
            assert (await change(site, target, bar, mine, mine.csrf)).status_code == status, target
        assert await database_hash(sql) == before


async def test_too_many_wrong_passwords_are_told_to_wait(site: Site, sql: Any) -> None:
    """Issue 3: 429 with Retry-After and a page that says so, also for the right password; no session begins."""
    await member(site, "asha")
    for _ in range(PER_ACCOUNT_AND_ADDRESS):
        assert (await signs_in(site, "asha", {}, password=WRONG.reveal())).status_code == 401
    answer = await signs_in(site, "asha")
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert "minute" in answer.text
    assert 'value="asha"' in answer.text
    assert PASSWORD.reveal() not in answer.text
    assert "set-cookie" not in answer.headers
    assert await sql.fetchval("select count(*) from mpesa_sync.sessions") == 0
    elsewhere = await signs_in(site, "asha", {"x-forwarded-for": "198.51.100.7"})
    assert elsewhere.status_code == 303, "from a trusted proxy another address has a budget of its own"
