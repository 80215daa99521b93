"""/api/alerts over real HTTP: what operators read, what they do, and what everybody else gets (R5.2)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from mpesa_sync.db.pool import Database, connect
from mpesa_sync.sync import alert_actions
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.web.auth import CSRF_HEADER
from tests.support import web
from tests.support.alerts import raised, told
from tests.support.browsing import with_session
from tests.support.observer import database_hash
from tests.support.venues import KEY, add_bar
from tests.support.web import Asker, Site

PATH: Final = "/api/alerts"


async def listed(site: Site, who: Asker, **asked: Any) -> Any:
    """Return the answer to a question for a list, which must be one."""
    answer = await site.client.get(PATH, headers=who.headers, params=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_an_alert_is_read_with_all_that_is_known(site: Site, db: Database, sql: Any) -> None:
    """R5.2: first and last seen, count, cause, what to do, the page of the runbook; and who was told, without URLs."""
    bar = await add_bar(sql)
    alert = await raised(db, bar, minute=1)
    assert await raised(db, bar, minute=5) == alert
    await told(sql, alert, "slack-3fa2", state="pending", attempts=2, fault="timed_out")
    operator = await site.person(sql, operator=True)
    (found,) = (await listed(site, operator))["alerts"]
    assert found["id"] == str(alert)
    assert found["bar"] == {"id": str(bar), "name": f"Bar {bar.hex[:6]}", "slug": bar.hex}
    assert (found["kind"], found["state"], found["count"], found["episode"]) == ("sync_failed", "firing", 2, 1)
    assert datetime.fromisoformat(found["first_seen"]).minute == 1
    assert datetime.fromisoformat(found["last_seen"]).minute == 5
    assert (found["cause"], found["sqlstate"]) == ("database_busy", "55P03")
    assert found["cause_text"] == "The database was away or busy, also after several tries."
    assert found["what_to_do"].startswith("Look at the database")
    assert (await site.client.get(found["runbook"])).status_code == 200
    one = (await site.client.get(f"{PATH}/{alert}", headers=operator.headers)).json()
    (delivery,) = one.pop("deliveries")
    assert one.pop("operation") == {"outcome": "failed", "at": None, "text": "It was not saved."}
    assert one == found
    assert (delivery["channel"], delivery["fault"], delivery["attempts"]) == ("slack-3fa2", "timed_out", 2)


async def test_acknowledging_keeps_an_alert_open_and_resolving_closes_it(site: Site, db: Database, sql: Any) -> None:
    """R5.2: firing → acknowledged → resolved, by whom and when; what comes after that is another episode."""
    bar = await add_bar(sql)
    alert = await raised(db, bar)
    asha, juma = [await site.person(sql, operator=True) for _ in range(2)]
    first = await site.client.post(f"{PATH}/{alert}/acknowledge", headers=asha.headers)
    assert (first.status_code, first.json()["state"]) == (200, "acknowledged")
    assert first.json()["acknowledged_by"] == f"operator:{asha.name}"
    again = await site.client.post(f"{PATH}/{alert}/acknowledge", headers=juma.headers)
    assert again.json()["acknowledged_by"] == f"operator:{asha.name}"
    assert [one["id"] for one in (await listed(site, juma))["alerts"]] == [str(alert)]
    closed = await site.client.post(f"{PATH}/{alert}/resolve", headers=juma.headers, json={"note": "disk was full"})
    assert (closed.status_code, closed.json()["state"]) == (200, "resolved")
    assert (closed.json()["resolved_by"], closed.json()["note"]) == (f"operator:{juma.name}", "disk was full")
    assert (await listed(site, juma))["alerts"] == []
    for act in ("acknowledge", "resolve"):
        late = await site.client.post(f"{PATH}/{alert}/{act}", headers=asha.headers)
        assert (late.status_code, late.json()["code"]) == (409, "alert_closed")
        assert juma.name in late.json()["error"]
    await raised(db, bar, minute=9)
    (anew,) = (await listed(site, asha))["alerts"]
    assert (anew["id"] != str(alert), anew["episode"], anew["state"]) == (True, 2, "firing")


async def test_two_who_resolve_at_once_are_one_who_did(site: Site, db: Database, sql: Any) -> None:
    """R5.2: exactly one gets 200, the others 409 naming the one."""
    alert = await raised(db, await add_bar(sql))
    people = [await site.person(sql, operator=True) for _ in range(6)]
    answers = await asyncio.gather(
        *(site.client.post(f"{PATH}/{alert}/resolve", headers=who.headers) for who in people)
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, *[409] * 5]
    (winner,) = (answer.json()["resolved_by"] for answer in answers if answer.status_code == 200)
    winner = f"{winner.removeprefix('operator:')} (operator)"
    assert all(winner in answer.json()["error"] for answer in answers if answer.status_code == 409)


async def test_the_list_is_filtered_by_state_kind_and_bar(site: Site, db: Database, sql: Any) -> None:
    """Issue 4: open ones unless asked for others; a bar by id or slug."""
    bar, other = await add_bar(sql), await add_bar(sql)
    busy = await raised(db, bar, minute=1)
    refused = await raised(db, bar, AlertKind.DATABASE_REFUSED, minute=2)
    elsewhere = await raised(db, other, minute=3)
    channel = await raised(db, None, AlertKind.CHANNEL_FAILING, minute=4)
    await alert_actions.acknowledge(db, refused, actor="operator:asha")
    await alert_actions.resolve(db, elsewhere, actor="operator:asha")
    operator = await site.person(sql, operator=True)

    async def ids(**asked: Any) -> list[str]:
        return [one["id"] for one in (await listed(site, operator, **asked))["alerts"]]

    def text(*alerts: Any) -> list[str]:
        return [str(alert) for alert in alerts]

    assert await ids() == text(channel, refused, busy)
    assert await ids(state="firing") == text(channel, busy)
    assert await ids(state="acknowledged") == text(refused)
    assert await ids(state="resolved") == text(elsewhere)
    assert await ids(state="all") == text(channel, elsewhere, refused, busy)
    assert await ids(kind="sync_failed", state="all") == text(elsewhere, busy)
    assert await ids(bar=str(bar)) == await ids(bar=bar.hex) == text(refused, busy)


async def test_pages_follow_each_other_without_gap_or_repetition(site: Site, db: Database, sql: Any) -> None:
    """Issue 4: keyset paging; alerts that were seen at the same moment, and new ones meanwhile, shift nothing."""
    alerts = {str(await raised(db, await add_bar(sql), minute=number // 3)) for number in range(11)}
    operator = await site.person(sql, operator=True)
    seen: list[str] = []
    asked: dict[str, Any] = {"limit": 4}
    for pages in range(1, 4):
        answer = await listed(site, operator, **asked)
        seen += [one["id"] for one in answer["alerts"]]
        asked["after"] = answer["next"]
        assert (answer["next"] is None) is (pages == 3)
        await raised(db, await add_bar(sql), minute=60 + pages)
    assert len(seen) == len(set(seen)) == 11
    assert set(seen) == alerts


async def test_only_operators_are_let_in(site: Site, db: Database, sql: Any) -> None:
    """R5.2, roles: 401 for nobody, 403 for owners of the very bar; nothing is changed or told."""
    bar = await add_bar(sql)
    alert = await raised(db, bar)
    owner, nobody = await site.person(sql, bar), Asker(uuid4(), "", {})
    before = await database_hash(sql)
    for who, status in ((nobody, 401), (owner, 403)):
        for method, path in (
            ("GET", PATH),
            ("GET", f"{PATH}/{alert}"),
            ("GET", f"{PATH}/{uuid4()}"),
            ("POST", f"{PATH}/{alert}/acknowledge"),
            ("POST", f"{PATH}/{alert}/resolve"),
        ):
            answer = await site.client.request(method, path, headers=who.headers)
            assert (answer.status_code, method, path) == (status, method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert str(bar) not in answer.text
    assert await database_hash(sql) == before


async def test_a_right_that_was_taken_away_counts_at_once(site: Site, db: Database, sql: Any) -> None:
    """Roles: neither an old token nor an old session keeps what its account has lost."""
    alert = await raised(db, await add_bar(sql))
    operator = await site.person(sql, operator=True)
    visitor = await with_session(site, operator, operator=True)
    await sql.execute("update mpesa_sync.accounts set is_operator = false where id = $1", operator.id)
    for headers in (operator.headers, {**visitor.headers, CSRF_HEADER: visitor.csrf}):
        answer = await site.client.post(f"{PATH}/{alert}/resolve", headers=headers)
        assert answer.status_code == 403
    assert await sql.fetchval("select state from mpesa_sync.alerts") == "firing"


async def test_a_session_needs_the_token_of_its_page(site: Site, db: Database, sql: Any) -> None:
    """CSRF: a browser's session cannot be used by another site, nor with another session's token."""
    alert = await raised(db, await add_bar(sql))
    mine, other = [await with_session(site, await site.person(sql, operator=True), operator=True) for _ in range(2)]
    for act in ("acknowledge", "resolve"):
        path = f"{PATH}/{alert}/{act}"
        for more in (
            {},
            {CSRF_HEADER: other.csrf},
            {CSRF_HEADER: mine.csrf, "origin": "https://evil.example"},
            {CSRF_HEADER: mine.csrf, "sec-fetch-site": "cross-site"},
        ):
            answer = await site.client.post(path, headers={**mine.headers, **more})
            assert (answer.status_code, answer.json()["code"]) == (403, "forged_request"), (act, more)
    assert await sql.fetchval("select state from mpesa_sync.alerts") == "firing"
    done = await site.client.post(f"{PATH}/{alert}/resolve", headers={**mine.headers, CSRF_HEADER: mine.csrf})
    assert done.status_code == 200


WRONG_QUESTIONS: Final[list[tuple[dict[str, str], str]]] = [
    ({"state": "closed"}, "state"),
    ({"kind": "other"}, "kind"),
    ({"limit": "0"}, "limit"),
    ({"limit": "201"}, "limit"),
    ({"limit": "1e3"}, "limit"),
    ({"limit": "٣"}, "limit"),
    ({"limit": "9" * 5000}, "limit"),
    ({"limit": "000000001" + "0" * 5000}, "limit"),
    ({"after": "x"}, "after"),
    ({"after": "MjAyNi0xMS0yNFQxMjowMDowMHwxMjM"}, "after"),
    ({"after": "é" * 300}, "after"),
    ({"bar": "\u202e"}, "bar"),
    ({"bar": ""}, "bar"),
]


async def test_a_wrong_question_names_what_is_wrong(site: Site, sql: Any) -> None:
    """R4: 400 that names the field, and repeats nothing of what was sent."""
    operator = await site.person(sql, operator=True)
    for asked, field in WRONG_QUESTIONS:
        answer = await site.client.get(PATH, headers=operator.headers, params=asked)
        assert answer.status_code == 400, asked
        assert [error["field"] for error in answer.json()["errors"]] == [field], asked


async def test_a_wrong_note_closes_nothing(site: Site, db: Database, sql: Any) -> None:
    """R4.4: 400, and the alert stays as it is."""
    alert = await raised(db, await add_bar(sql))
    operator = await site.person(sql, operator=True)
    headers = {**operator.headers, "content-type": "application/json"}
    long = b'{"note": "%s"}' % (b"x" * 501)
    for body in (b"[]", b'{"note": 5}', b'{"note": "a\\nb"}', long, b'{"notes": ""}', b'{"note": "\\u202e"}'):
        answer = await site.client.post(f"{PATH}/{alert}/resolve", headers=headers, content=body)
        assert answer.status_code == 400, body
    for body in (b'{"\\ud800": ""}', b'{"note": "", "canary": ""}'):
        answer = await site.client.post(f"{PATH}/{alert}/resolve", headers=headers, content=body)
        assert [error["field"] for error in answer.json()["errors"]] == ["body"], "no name that was sent is repeated"
        assert "canary" not in answer.text
    assert await sql.fetchval("select state from mpesa_sync.alerts") == "firing"


async def test_what_is_not_there_is_not_found(site: Site, sql: Any) -> None:
    """R4: 404 for an id that is none and one that nothing has, for every act; and for a bar that is not there."""
    operator = await site.person(sql, operator=True)
    for wrong in (str(uuid4()), "nothing", "1"):
        for method, path in (("GET", ""), ("POST", "/acknowledge"), ("POST", "/resolve")):
            answer = await site.client.request(method, f"{PATH}/{wrong}{path}", headers=operator.headers)
            assert (answer.status_code, answer.json()["code"]) == (404, "alert_not_found")
    answer = await site.client.get(PATH, headers=operator.headers, params={"bar": "nowhere"})
    assert (answer.status_code, answer.json()["code"]) == (404, "bar_not_found")


async def test_alerts_of_a_bar_that_is_gone_are_still_found(site: Site, db: Database, sql: Any) -> None:
    """R5.2: by its id, in the list and alone, and the document says that the bar has no name any more."""
    bar = await add_bar(sql)
    alert = await raised(db, bar)
    await sql.execute("delete from public.bars where id = $1", bar)
    operator = await site.person(sql, operator=True)
    (found,) = (await listed(site, operator, bar=str(bar)))["alerts"]
    assert (found["id"], found["bar"]) == (str(alert), {"id": str(bar), "name": None, "slug": None})
    visitor = await with_session(site, operator, operator=True)
    page = await site.client.get(f"/operator/alerts/{alert}", headers=visitor.headers)
    assert f"A venue that is gone ({bar})" in page.text


async def test_alerts_that_wait_in_files_are_said(database_url: str, sql: Any, tmp_path: Path) -> None:
    """R5.2: a list from a database that has not taken everything in yet says so."""
    async with (
        connect(database_url, kms_keys=[KEY], alert_spool=tmp_path) as database,
        web.running(database, database_url) as site,
    ):
        operator = await site.person(sql, operator=True)
        assert (await listed(site, operator))["spooled"] == 0
        assert database.alert_spool is not None
        database.alert_spool.mkdir(parents=True, exist_ok=True)
        (database.alert_spool / "one.taken").write_text("{}")
        assert (await listed(site, operator))["spooled"] == 1
        database.alert_spool = tmp_path / ("x" * 300)  # no file system gives such a folder back
        assert (await listed(site, operator))["spooled"] is None
        visitor = await with_session(site, operator, operator=True)
        page = await site.client.get("/operator/alerts", headers=visitor.headers)
        assert (page.status_code, "their folder cannot be read" in page.text) == (200, True)


async def test_bars_may_have_no_slugs(site: Site, db: Database, sql: Any) -> None:
    """existing-platform.md: slugs are optional; alerts are read in that shape, too."""
    alert = await raised(db, bar := await add_bar(sql))
    operator = await site.person(sql, operator=True)
    await sql.execute("alter table public.bars drop column slug cascade")
    (found,) = (await listed(site, operator))["alerts"]
    assert (found["id"], found["bar"]) == (str(alert), {"id": str(bar), "name": f"Bar {bar.hex[:6]}", "slug": None})
    assert (await site.client.get(f"{PATH}/{alert}", headers=operator.headers)).status_code == 200


async def test_the_document_describes_every_route(site: Site) -> None:
    """OpenAPI: each path with its answers, and a note as the only thing that may be posted."""
    document = (await site.client.get("/api/openapi.json")).json()
    routes = {path: set(found) for path, found in document["paths"].items() if path.startswith(PATH)}
    assert routes == {
        PATH: {"get"},
        f"{PATH}/{{alert_id}}": {"get"},
        f"{PATH}/{{alert_id}}/acknowledge": {"post"},
        f"{PATH}/{{alert_id}}/resolve": {"post"},
    }
    resolve = document["paths"][f"{PATH}/{{alert_id}}/resolve"]["post"]
    assert list(resolve["requestBody"]["content"]["application/json"]["schema"]["properties"]) == ["note"]
    assert {"200", "401", "403", "404", "409"} <= set(resolve["responses"])
    names = {found["name"] for found in document["paths"][PATH]["get"]["parameters"]}
    assert names == {"state", "kind", "bar", "after", "limit"}
