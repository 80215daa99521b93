"""/operator: what an operator sees of all venues without JavaScript, and who is not let in."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote
from uuid import UUID, uuid4

from mpesa_sync.db.pool import Database
from mpesa_sync.web import operator_texts
from mpesa_sync.web.operator import fleet_page
from tests.support.alerts import raised
from tests.support.browsing import with_session
from tests.support.observer import database_hash
from tests.support.overview import OVERVIEW, listed, operator, seen
from tests.support.pages import HOSTILE, Page
from tests.support.venues import SEALED, SECRETS, add_bar
from tests.support.web import Site

BAD: Final = b"\x01" * 60
_LOCK: Final = "begin; lock table public.bars in access exclusive mode"


def words(page: Page) -> str:
    """Return all that is read in the content of a page."""
    return page.text("main")


async def test_the_overview_counts_by_reason_and_drift(site: Site, db: Database, sql: Any) -> None:
    """Issue 6: venues, on, hidden by reason, drift by direction, guards, reconciler, feed, alerts; on one page."""
    for _ in range(3):
        await add_bar(sql, mpesa_enabled=True, production=True)
    await add_bar(sql)
    drifted = await add_bar(sql, mpesa_enabled=True, production=False)
    await add_bar(sql, active=False, production=True)
    unreadable = await add_bar(sql, mpesa_enabled=True, production=True, sealed=(BAD, SEALED[1], SEALED[2]))
    await raised(db, drifted)
    page = await seen(site, await operator(site, sql))
    for said in (
        "7 venues",
        "M-Pesa on 4",
        "No credentials 1",
        "Off, and shown elsewhere (drift) 1",
        "Venue is closed 1",
        "Switched off 0",
        "Drifted: hidden 1",
        "Drifted: exposed 1",
    ):
        assert said in page.text("counts"), said
    assert page.text("alerts") == "Open alerts 1"
    assert "Off" in page.text("guards")
    assert "Repairs what stays drifted." in page.text("reconciler")
    assert "Live" in page.text("feed")
    links = {found["href"] for found in page.all("a", class_="figure")}
    assert f"{OVERVIEW}?state=drift_exposed#list" in links
    assert f"{OVERVIEW}?state=switched_off#list" not in links, "what there is none of has no list"
    (line,) = (found for found in page.all("li") if found.get("data-bar") == str(unreadable))
    assert line["data-tone"] == "trouble", "on the list secrets are opened"
    assert operator_texts.text("fleet.state.secrets_unreadable") in words(page)


async def test_pages_of_the_list_follow_each_other(site: Site, sql: Any) -> None:
    """Issue 6, keyset paging: every venue once, by the links alone, also where new ones come and old ones go."""
    bars = sorted([await add_bar(sql) for _ in range(2 * fleet_page.PAGE + 2)])
    who = await operator(site, sql)
    page = await seen(site, who)
    found = listed(page)
    assert found == bars[: fleet_page.PAGE]
    await sql.execute("delete from public.bars where id = $1", found[-1])
    await add_bar(sql, bar_id=UUID(int=1))
    while following := page.all("a", rel="next"):
        page = await seen(site, who, following[0]["href"].partition("#")[0])
        found += listed(page)
    assert found == bars
    assert [one for one in page.all("a") if one["href"] == f"{OVERVIEW}#list"]
    await seen(site, who, f"{OVERVIEW}?after=nothing", 400)
    await seen(site, who, f"{OVERVIEW}?offset=3", 400)


async def test_a_filter_and_words_stay_with_the_next_pages(site: Site, sql: Any) -> None:
    """Issue 6: filterable by state; the form shows what is chosen, and the next page is of the same."""
    for _ in range(fleet_page.PAGE + 1):
        await add_bar(sql, mpesa_enabled=True, production=True)
    off = await add_bar(sql, production=False)
    who = await operator(site, sql)
    page = await seen(site, who, f"{OVERVIEW}?state=switched_off")
    assert listed(page) == [off]
    assert page.all("option", value="switched_off", selected="")
    page = await seen(site, who, f"{OVERVIEW}?state=on&q=Bar+")
    (following,) = page.all("a", rel="next")
    assert following["href"].startswith(f"{OVERVIEW}?state=on&q=Bar&after=")
    assert len(listed(await seen(site, who, following["href"].partition("#")[0]))) == 1
    for nobody in ("zzzz", str(uuid4())):
        page = await seen(site, who, f"{OVERVIEW}?q={nobody}")
        assert listed(page) == []
        assert operator_texts.text("fleet.list.none") in words(page)
    assert len(listed(await seen(site, who, f"{OVERVIEW}?state=nonsense"))) == fleet_page.PAGE


async def test_words_that_nobody_can_see_are_refused_at_their_field(site: Site, sql: Any) -> None:
    """R4.4 in spirit: the field is named, nothing is searched for, the rest of the page is there."""
    await add_bar(sql)
    page = await seen(site, await operator(site, sql), f"{OVERVIEW}?q={quote('a' + chr(0x202E) + 'b')}", 400)
    assert page.text("q-error").startswith("What you search for holds control or invisible characters")
    assert page.all("input", id="q")[0]["aria-invalid"] == "true"
    assert listed(page) == []
    assert "1 venue" in page.text("counts")


async def test_hostile_names_are_text(site: Site, sql: Any) -> None:
    """Security: names of venues and words of a search are text, wherever they stand."""
    bar = await add_bar(sql)
    await sql.execute("update public.bars set name = $2 where id = $1", bar, HOSTILE)
    who = await operator(site, sql)
    for path in (f"{OVERVIEW}/bars/{bar}", OVERVIEW, f"{OVERVIEW}?q={quote('<script>alert(1)</script>')}"):
        page = await seen(site, who, path)
        assert not [one for one in page.all("script") if "src" not in one], path
        assert not page.all("img", onerror="alert(2)"), path


async def test_a_list_that_takes_too_long_is_given_up_in_words(site: Site, sql: Any) -> None:
    """faults.md: what cannot be had within its limits is said to be missing, and the other parts are there."""
    await add_bar(sql)
    who = await operator(site, sql)
    await sql.execute(_LOCK)
    try:
        page = await seen(site, who)
    finally:
        await sql.execute("rollback")
    assert operator_texts.text("fleet.list.fault") in words(page)
    assert operator_texts.text("fleet.counts.fault") in words(page)
    assert page.text("guards")


async def test_only_operators_are_let_in_and_nothing_is_written(site: Site, db: Database, sql: Any) -> None:
    """Roles: nobody is led to sign in, an owner of the very venue gets 403 in words; a look changes no row."""
    bar = await add_bar(sql, mpesa_enabled=True, production=False)
    owner = await with_session(site, await site.person(sql, bar))
    who = await operator(site, sql)
    before = await database_hash(sql)
    for path in (OVERVIEW, f"{OVERVIEW}/bars/{bar}"):
        nobody = await site.client.get(path, headers={"accept": "text/html"})
        assert (nobody.status_code, nobody.headers["location"]) == (303, f"/staff/sign-in?to={path}")
        refused = await site.client.get(path, headers={**owner.headers, "accept": "text/html"})
        assert refused.status_code == 403
        assert "This page is for operators." in refused.text
        assert str(bar) not in refused.text
        answer = await site.client.get(path, headers=who.headers)
        assert answer.status_code == 200
        assert answer.headers["cache-control"] == "no-store"
        assert (await site.client.post(path, headers=who.headers)).status_code == 405
    assert await database_hash(sql) == before


EXPLAINED: Final[list[tuple[dict[str, Any], str, str]]] = [
    ({"mpesa_enabled": True, "production": True}, "", "None is needed."),
    ({"mpesa_enabled": True, "production": False}, "drift_exposed", "mpesa-sync repair"),
    ({"production": True}, "drift_hidden", "mpesa-sync repair"),
    ({"production": False}, "switched_off", "Nothing is wrong."),
    ({}, "no_credentials", "Have the venue save its M-Pesa credentials"),
    ({"mpesa_enabled": True, "production": True, "sealed": (BAD, *SEALED[1:])}, "secrets_unreadable", "MPESA_KMS"),
]


async def test_one_venue_is_explained(site: Site, sql: Any) -> None:
    """Issue 6: facts, rule, verdict, remedy and last changes, as `explain` says them; no secret among them."""
    desk = await operator(site, sql)
    for venue, reason, remedy in EXPLAINED:
        page = await seen(site, desk, f"{OVERVIEW}/bars/{await add_bar(sql, **venue)}")
        said = f"Customers are not offered M-Pesa ({reason})." if reason else "Customers are offered M-Pesa."
        assert said in page.text("verdict")
        assert remedy in page.text("remedy"), venue
        assert ("Both agree." in page.text("rule")) is not reason.startswith("drift"), venue
        assert f"bars.mpesa_enabled{str(venue.get('mpesa_enabled', False)).lower()}" in page.text("facts")
        assert operator_texts.text("bar.history.known") in page.text("changes")
        for secret in SECRETS:
            assert secret.reveal() not in words(page)


async def test_the_last_changes_of_a_venue_are_told(site: Site, db: Database, sql: Any) -> None:
    """Issue 6: who, when, before and after; and that another program has been there since."""
    bar = await add_bar(sql, production=False)
    who = await operator(site, sql)
    owner = await site.person(sql, bar)
    answer = await site.client.post(
        "/api/mpesa-settings", headers=owner.headers, json={"barId": str(bar), "mpesa_enabled": True}
    )
    assert answer.status_code == 200, answer.text
    page = await seen(site, who, f"{OVERVIEW}/bars/{bar}")
    assert f"by {owner.name}" in page.text("changes")
    assert "Shown to customers: off → on" in page.text("changes")
    assert operator_texts.text("bar.changed_since") not in words(page)
    await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
    await raised(db, bar)
    page = await seen(site, who, f"{OVERVIEW}/bars/{bar}")
    assert operator_texts.text("bar.changed_since") in page.text("changes")
    assert "A change could not be saved" in page.text("alerts")
    assert operator_texts.text("bar.remedy.alerts") in page.text("remedy")
    await seen(site, who, f"{OVERVIEW}/bars/{uuid4()}", 404)
