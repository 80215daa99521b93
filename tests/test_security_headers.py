"""What every answer carries for browsers, whoever made it, and that a name can never become markup."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync.web.context import Context
from tests.support.browsing import Visitor, choices_on, with_session
from tests.support.venues import add_bar
from tests.support.web import Site

POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
ALERT: Final = """
insert into mpesa_sync.alerts (bar_id, kind, cause, what_to_do) values ($1, 'sync_failed', 'database_busy', 'Look.')
"""
NAMES: Final = (
    "<script>alert(1)</script>",
    "</title><script src=//evil.example></script>",
    "\"'><img src=x onerror=alert(1)>",
    "</script><!--<script>",
    "{{ 7 * 7 }} {% raw %}",
    "&lt;script&gt;",
    "\u202egnp.exe\u200b",
    "<b>" + "Very long " * 2_000,
)


async def owner(site: Site, sql: Any, bar: UUID) -> Visitor:
    """The browser of an owner."""
    return await with_session(site, await site.person(sql, bar))


async def test_every_kind_of_answer_carries_the_security_headers(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: page, JSON, stream, file, redirect, 304, 4xx, 500; no answer names its server."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    mine = await owner(site, sql, bar)
    offer = f"/api/bars/{bar}/payment-methods"
    etag = (await site.client.get(offer)).headers["etag"]
    html = {"accept": "text/html"}
    kinds: list[tuple[int, str, str, dict[str, str]]] = [
        (200, "GET", f"/menu/{bar}", html),
        (200, "GET", f"/staff/bars/{bar}/mpesa", mine.headers),
        (200, "GET", "/staff/sign-in", html),
        (200, "GET", offer, {}),
        (304, "GET", offer, {"if-none-match": etag}),
        (200, "GET", f"{offer}/events", {}),
        (200, "GET", "/static/site.css", {}),
        (200, "GET", "/api/openapi.json", {}),
        (200, "GET", "/livez", {}),
        (303, "GET", "/staff", html),
        (400, "POST", "/api/mpesa-settings", {}),
        (401, "GET", "/api/mpesa-settings", {}),
        (404, "GET", "/nothing", html),
        (404, "GET", "/nothing", {}),
        (404, "GET", f"/menu/{uuid4()}", html),
        (404, "GET", f"/api/bars/{uuid4()}/payment-methods/events", {}),
        (404, "GET", "/static/..%2f..%2fapp.py", {}),
        (405, "DELETE", "/staff", {}),
    ]
    for status, method, path, headers in kinds:
        await carries(site, status, method, path, headers)

    def broken(_self: Context, _bar: str) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(type(site.hub), "resolve", broken)
    await carries(site, 500, "GET", f"/menu/{bar}", html)
    await carries(site, 500, "GET", offer, {})
    await carries(site, 500, "GET", f"{offer}/events", {})


async def carries(site: Site, status: int, method: str, path: str, headers: dict[str, str]) -> None:
    """Ask, and look at the headers of the answer."""
    async with site.client.stream(method, path, headers=headers) as answer:
        assert answer.status_code == status, (method, path)
        found = answer.headers
    policy = dict(part.strip().split(" ", 1) for part in found["content-security-policy"].split(";"))
    assert policy | POLICY == policy, path
    assert "unsafe" not in found["content-security-policy"]
    assert found["x-content-type-options"] == "nosniff"
    assert found["referrer-policy"] == "same-origin"
    assert found["x-frame-options"] == "DENY"
    assert "server" not in found
    assert found.get("content-type", "").count("charset") <= 1, path
    if status != 303 and (path.startswith(("/staff", "/menu")) or status >= 400):
        assert "no-store" in found["cache-control"], path


async def test_a_name_of_a_bar_is_text_on_every_page(site: Site, sql: Any) -> None:
    """Script in a bar's name is shown as text: to customers, to staff in both their pages, to operators in theirs."""
    boss = await with_session(site, await site.person(sql, operator=True), operator=True)
    for name in NAMES:
        bar = await add_bar(sql, production=True, mpesa_enabled=True)
        await sql.execute("update public.bars set name = $2, slug = $3 where id = $1", bar, name, f"s{bar.hex}\"'<b>")
        mine = await owner(site, sql, bar)
        await sql.execute(ALERT, bar)
        theirs = (f"/operator/bars/{bar}", "/operator", "/operator/alerts")
        for path in (f"/menu/{bar}", "/staff", f"/staff/bars/{bar}/mpesa", *theirs):
            answer = await site.client.get(path, headers=(boss if path in theirs else mine).headers)
            assert answer.status_code == 200, (path, name)
            for raw in ("<script>alert", "<script src=//", "<img src=x", "<!--", "'<b>", "<b>Very"):
                assert raw not in answer.text, (path, name)
            outside = re.sub("<bdi[^>]*>[^<]*</bdi>", "", answer.text)
            assert "\u202e" not in outside, "what turns the text around stays within the name"
            assert "{{" not in name or path in theirs[1:] or "{{ 7 * 7 }} {% raw %}" in answer.text
        page = await site.client.get(f"/menu/{bar}")
        assert choices_on(page.text) == ["mpesa", "cash"]


async def test_no_page_has_inline_script_or_style(site: Site, sql: Any) -> None:
    """The policy forbids them, so a page that had some would be broken: scripts have a source or hold data."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    mine = await owner(site, sql, bar)
    for path in (f"/menu/{bar}", "/staff", f"/staff/bars/{bar}/mpesa", "/staff/sign-in", "/nothing"):
        html = (await site.client.get(path, headers={**mine.headers, "accept": "text/html"})).text
        for tag in html.split("<script")[1:]:
            opening = tag.partition(">")[0]
            assert 'src="/static/' in opening or 'type="application/json"' in opening, (path, opening)
        for forbidden in (" style=", "<style", " onclick=", " onload=", " onerror=", "javascript:"):
            assert forbidden not in html, (path, forbidden)
