"""/operator/alerts: what an operator sees and does in a browser without JavaScript, and what others are told (R5.2)."""

from __future__ import annotations

import re
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync.db.pool import Database
from mpesa_sync.sync import alert_actions
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.web import operator_texts
from mpesa_sync.web.operator import alerts_page
from tests.support.alerts import raised, told
from tests.support.browsing import with_session
from tests.support.observer import database_hash
from tests.support.overview import operator, seen
from tests.support.pages import HOSTILE, Page
from tests.support.people import PASSWORD, add_account, quick_hashing
from tests.support.venues import add_bar
from tests.support.web import Site

PATH: Final = "/operator/alerts"
_CHANNEL: Final = """
insert into mpesa_sync.alert_channels (audience, channel, failures, fault, failing_since, delivered_at)
values ($1, $2, $3, $4, case when $3 > 0 then now() end, now())
"""


def listed(page: Page) -> list[str]:
    """Return the ids of the alerts on a list, in its order."""
    return [found["data-alert"] for found in page.all("section") if "data-alert" in found]


def words(page: Page) -> str:
    """Return all that is read in the content of a page."""
    return page.text("main")


async def test_the_list_says_what_needs_a_person(site: Site, db: Database, sql: Any) -> None:
    """R5.2: open ones first seen last, with venue, count, since, last, cause in words, what to do."""
    bar, other = await add_bar(sql), await add_bar(sql)
    await sql.execute("update public.bars set name = 'Mama Njeri' where id = $1", bar)
    first = await raised(db, bar, minute=1, count=12)
    second = await raised(db, other, AlertKind.SECRETS_UNREADABLE, cause="credentials_unusable", minute=7)
    third = await raised(db, None, AlertKind.CHANNEL_FAILING, cause="timed_out", minute=9)
    await alert_actions.resolve(db, third, actor="operator:asha")
    who = await operator(site, sql)
    page = await seen(site, who, PATH)
    assert listed(page) == [str(second), str(first)]
    for text in (
        "Mama Njeri",
        "A change could not be saved",
        "The database was away or busy, also after several tries.",
        "Look at the database, then switch again.",
        "Seen 12 times",
        "Stored M-Pesa secrets cannot be opened",
        "Open 2 Firing 2 Acknowledged 0 Resolved 1 All 3",
    ):
        assert text in words(page), text
    assert page.all("time", datetime="2026-11-24T12:01:00+00:00")
    resolved = await seen(site, who, f"{PATH}?state=resolved")
    assert listed(resolved) == [str(third)]
    assert "Resolved by asha (operator)" in words(resolved)
    assert "No single venue" in words(resolved)
    one = await seen(site, who, f"{PATH}?state=all&bar={bar}")
    assert listed(one) == [str(first)]
    assert "Nothing is open." not in words(one)


async def test_pages_of_the_list_follow_each_other(site: Site, db: Database, sql: Any) -> None:
    """Issue 4, keyset paging: every alert once, by the links alone, also where new ones come meanwhile."""
    alerts = {str(await raised(db, await add_bar(sql), minute=number)) for number in range(alerts_page.PAGE + 3)}
    who = await operator(site, sql)
    page = await seen(site, who, PATH)
    first = listed(page)
    (older,) = page.all("a", rel="next")
    await raised(db, await add_bar(sql), minute=200)
    last = await seen(site, who, older["href"])
    assert len(first) == alerts_page.PAGE
    assert {*first, *listed(last)} == alerts
    assert len(listed(last)) == 3
    assert not last.all("a", rel="next")
    one = await seen(site, who, f"{PATH}/{first[0]}")
    links = {found["href"] for shown in (page, last, one) for found in shown.all("a")}
    for link in sorted(link for link in links if link.startswith(PATH)):
        await seen(site, who, link)  # each is an address that the list itself takes
    assert [found for found in last.all("a") if found["href"] == f"{PATH}?state=open"]
    await seen(site, who, f"{PATH}?after=nothing", 400)


async def test_an_alert_is_acknowledged_and_resolved_with_plain_forms(site: Site, db: Database, sql: Any) -> None:
    """R5.2: each form says before what it will do, and the page says after what was done, and who did it."""
    alert = await raised(db, await add_bar(sql))
    who = await operator(site, sql)
    page = await seen(site, who, f"{PATH}/{alert}")
    actions = [found["action"] for found in page.all("form") if found["action"].startswith(PATH)]
    assert actions == [f"{PATH}/{alert}/acknowledge", f"{PATH}/{alert}/resolve"]
    assert [found["value"] for found in page.all("input", name="csrf")] == [who.csrf] * 3
    assert page.all("a", href="/runbook/sync_failed")

    for act, form, said in (
        ("acknowledge", {}, "Acknowledged. Nobody is reminded any more; it stays open."),
        ("resolve", {"note": "disk was full"}, "Resolved."),
    ):
        answer = await site.client.post(f"{PATH}/{alert}/{act}", headers=who.headers, data={"csrf": who.csrf, **form})
        assert answer.status_code == 303
        page = await seen(site, who, answer.headers["location"])
        assert page.all("p", role="status")
        assert said in words(page)
        assert f"{PATH}/{alert}/acknowledge" not in [found["action"] for found in page.all("form")]
    assert "Note: disk was full" in words(page)
    for done in ("acknowledged", "firing", "nonsense"):
        page = await seen(site, who, f"{PATH}/{alert}?done={done}")
        assert not page.all("p", role="status"), "an address is not believed what is not so (any more)"
    assert [found["action"] for found in page.all("form")] == ["/staff/sign-out"]
    row = await sql.fetchrow("select state, note, resolved_by = acknowledged_by as same from mpesa_sync.alerts")
    assert tuple(row) == ("resolved", "disk was full", True)


async def test_what_cannot_be_done_is_said_on_the_page(site: Site, db: Database, sql: Any) -> None:
    """R5.2: a colleague was quicker: 409 with who; a note that cannot be kept: 400, and it stays as typed."""
    alert = await raised(db, await add_bar(sql))
    who = await operator(site, sql)
    wrong = await site.client.post(
        f"{PATH}/{alert}/resolve", headers=who.headers, data={"csrf": who.csrf, "note": "x" * 501}
    )
    assert wrong.status_code == 400
    page = Page(wrong.text)
    assert page.text("error") == "The note cannot be kept: must have 0 to 500 characters. Nothing was changed."
    assert page.all("input", name="note")[0]["value"] == "x" * 500
    await alert_actions.resolve(db, alert, actor="operator:juma")
    for act in ("acknowledge", "resolve"):
        late = await site.client.post(f"{PATH}/{alert}/{act}", headers=who.headers, data={"csrf": who.csrf})
        assert late.status_code == 409
        page = Page(late.text)
        assert page.all("p", role="alert")
        assert "juma" in page.text("error")
    await seen(site, who, f"{PATH}/{uuid4()}", 404)
    await seen(site, who, f"{PATH}/nothing", 404)


async def test_only_operators_are_let_in(site: Site, db: Database, sql: Any) -> None:
    """Roles: nobody is led to sign in, an owner of the very venue gets 403 in words; nothing is changed."""
    bar = await add_bar(sql)
    alert = await raised(db, bar)
    owner = await with_session(site, await site.person(sql, bar))
    before = await database_hash(sql)
    html = {"accept": "text/html"}
    for method, path in (
        ("GET", PATH),
        ("GET", f"{PATH}/{alert}"),
        ("POST", f"{PATH}/{alert}/acknowledge"),
        ("POST", f"{PATH}/{alert}/resolve"),
    ):
        nobody = await site.client.request(method, path, headers=html, data={"csrf": ""} if method == "POST" else None)
        assert nobody.status_code == 303
        back = path if method == "GET" else "/staff"
        assert nobody.headers["location"] == f"/staff/sign-in?to={back}"
        refused = await site.client.request(
            method, path, headers={**owner.headers, **html}, data={"csrf": owner.csrf} if method == "POST" else None
        )
        assert refused.status_code == 403
        assert "This page is for operators." in refused.text
        assert str(bar) not in refused.text
    assert await database_hash(sql) == before


async def test_a_form_needs_the_token_of_this_session(site: Site, db: Database, sql: Any) -> None:
    """CSRF: without it, with another session's, or from another site nothing is done."""
    alert = await raised(db, await add_bar(sql))
    who, other = await operator(site, sql), await operator(site, sql)
    for act in ("acknowledge", "resolve"):
        for form, more in (
            ({}, {}),
            ({"csrf": other.csrf}, {}),
            ({"csrf": who.csrf}, {"origin": "https://evil.example"}),
        ):
            sent = {**form, "note": "x"}
            answer = await site.client.post(f"{PATH}/{alert}/{act}", headers={**who.headers, **more}, data=sent)
            assert answer.status_code == 403, (act, form, more)
    assert await sql.fetchval("select state from mpesa_sync.alerts") == "firing"


async def test_who_signs_in_gets_to_the_page_that_was_asked_for(
    site: Site, db: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 4: a link in a message leads to the alert; an operator's first page links to all; an owner's does not."""
    quick_hashing(monkeypatch)
    alert = await raised(db, await add_bar(sql))
    await add_account(db, "juma", is_operator=True)
    form = {"name": "juma", "password": PASSWORD.reveal(), "to": f"{PATH}/{alert}"}
    answer = await site.client.post("/staff/sign-in", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{PATH}/{alert}")
    site.client.cookies.clear()
    for foreign in ("/operators", "//operator/alerts", "/operator/../api", "https://evil.example/operator/alerts"):
        answer = await site.client.post("/staff/sign-in", data={**form, "to": foreign})
        assert answer.headers["location"] == "/staff", foreign
        site.client.cookies.clear()
    assert (await seen(site, await operator(site, sql), "/staff")).all("a", href=PATH)
    owner = await with_session(site, await site.person(sql, await add_bar(sql)))
    assert not (await seen(site, owner, "/staff")).all("a", href=PATH)


async def test_channels_are_shown_with_what_is_wrong(site: Site, db: Database, sql: Any) -> None:
    """R5.2: a channel that fails is itself visible: its last fault and since when; owners' only where they fail."""
    for channel in (
        ("operators", "slack-3fa2", 0, ""),
        ("operators", "mailto-77aa", 4, "timed_out"),
        ("owner", "json-0001", 0, ""),
        ("owner", "json-0002", 1, "refused"),
    ):
        await sql.execute(_CHANNEL, *channel)
    page = await seen(site, await operator(site, sql), PATH)
    text = page.text("channels")
    assert "mailto-77aa Fails operators The channel did not answer in time. since" in text
    assert "slack-3fa2 Works" in text
    assert "json-0002 Fails the venue’s owner The channel answered no, or nobody listens at its address." in text
    assert "json-0001" not in text


async def test_an_alert_shows_who_was_told(site: Site, db: Database, sql: Any) -> None:
    """R5.2: every message with its channel, what became of it, and how often it was tried."""
    alert = await raised(db, await add_bar(sql))
    await told(sql, alert, "slack-3fa2")
    await told(sql, alert, "slack-3fa2", notice="reminder", number=2, state="failed", attempts=30, fault="refused")
    await told(sql, alert, "json-0002", audience="owner", state="pending", attempts=0)
    text = (await seen(site, await operator(site, sql), f"{PATH}/{alert}")).text("deliveries")
    assert "slack-3fa2, operators: told Delivered" in text
    assert (
        "slack-3fa2, operators: reminded (2) Given up The channel answered no, or nobody listens at its address."
        in text
    )
    assert "30 tries" in text
    assert "json-0002, the venue’s owner: told Waiting" in text


async def test_a_hostile_name_stays_text(site: Site, db: Database, sql: Any) -> None:
    """Odd input: a venue's name, an operator's note and cause add no element and are in no title unseen."""
    who = await operator(site, sql)
    pages = []
    for name in ("Mama Njeri", HOSTILE):
        bar = await add_bar(sql)
        await sql.execute("update public.bars set name = $2 where id = $1", bar, name)
        alert = await raised(db, bar, cause=name, minute=1)
        note = name.replace("\u202e", "")
        await alert_actions.resolve(db, alert, actor="operator:asha", note=note)
        for path in (f"{PATH}?state=all&bar={bar}", f"{PATH}/{alert}"):
            answer = await site.client.get(path, headers=who.headers)
            assert "<script>alert" not in answer.text
            assert "<img src=x" not in answer.text
            title = re.search("<title>(.*)</title>", answer.text)
            assert title
            assert "\u202e" not in title[1]
            pages.append(Page(answer.text))
    tags = [[tag for tag, _ in page.elements] for page in pages]
    assert tags[:2] == tags[2:]


async def test_every_control_has_a_name_and_nothing_is_inline(site: Site, db: Database, sql: Any) -> None:
    """Screen readers and CSP: labels, one main heading, no style, no handler, files of this site alone."""
    alert = await raised(db, await add_bar(sql))
    who = await operator(site, sql)
    for path in (PATH, f"{PATH}/{alert}", f"{PATH}?state=resolved"):
        page = await seen(site, who, path)
        assert len(page.ids) == len(set(page.ids))
        assert (len(page.all("h1")), len(page.all("main"))) == (1, 1)
        for tag, found in page.elements:
            assert not {name for name in found if name == "style" or name.startswith("on")}, (tag, found)
            assert tag != "style"
            assert re.match(r"[/#]", found.get("src", found.get("href", "/")))
            assert all(id_ in page.ids for id_ in found.get("aria-describedby", "").split())
        labels = {found["for"] for found in page.all("label")}
        assert {found["id"] for found in page.all("input", type_="text")} <= labels
        if path != f"{PATH}/{alert}":
            assert len(page.all("a", aria_current="page")) == 1


def test_every_text_of_the_pages_can_be_put_together() -> None:
    """Issue 3, translation: one catalogue for operators, no key twice in two catalogues' clothes, places by name."""
    places = {"count": 1, "id": UUID(int=0), "who": "a", "note": "b", "name": "c", "reason": "d", "number": 2}
    more = [
        "state",
        "age",
        "bars",
        "drifted",
        "spent",
        "budget",
        "streams",
        "watched",
        "authority",
        "shown",
        "environment",
        "sampled",
        "unusable",
    ]
    for key in operator_texts.TEXTS:
        assert operator_texts.text(key, **places, **dict.fromkeys(more, "e"))
