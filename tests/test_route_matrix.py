"""Route × method × person, from the application's own route table: a route that is not listed here turns this red."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync.web.app import create_app
from mpesa_sync.web.auth import CSRF_HEADER
from tests.support.browsing import with_session
from tests.support.observer import database_hash
from tests.support.people import quick_hashing
from tests.support.venues import add_bar
from tests.support.web import Asker, Site

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PEOPLE: Final = ("anonymous", "owner", "manager", "staff", "other", "former", "operator")
"""`other` belongs to another bar, `former` belonged to this one, the operator to none."""
Row = dict[str, int]


def said(*statuses: int) -> Row:
    """Return the statuses of everybody, in the order of `PEOPLE`; one alone is everybody's."""
    return dict(zip(PEOPLE, statuses * len(PEOPLE) if len(statuses) == 1 else statuses, strict=True))


@dataclass(frozen=True)
class Expected:
    """What everybody gets with a bearer token, and with a session's cookie and its CSRF token."""

    token: Row
    session: Row


def alike(*statuses: int) -> Expected:
    """The same with a token and with a session."""
    return Expected(said(*statuses), said(*statuses))


def page(*statuses: int) -> Expected:
    """A page: for sessions only, so a token is as good as nothing."""
    return Expected(said(statuses[0]), said(*statuses))


PUBLIC: Final = alike(200)
READS: Final = (401, 200, 200, 200, 404, 404, 404)
FOR_OPERATORS: Final = (401, 403, 403, 403, 403, 403, 200)
_ALERT: Final = """
insert into mpesa_sync.alerts (bar_id, kind, cause, what_to_do) values ($1, 'sync_failed', 'database_busy', 'Look.')
returning id
"""
TABLE: Final[dict[tuple[str, str], Expected]] = {
    ("/", "GET"): alike(303),
    ("/api/mpesa-settings", "GET"): alike(*READS),
    ("/api/mpesa-settings", "POST"): alike(401, 200, 200, 403, 404, 404, 404),
    ("/api/operations/{operation_id}", "GET"): alike(401, 200, 200, 200, 404, 404, 200),
    ("/api/alerts", "GET"): alike(*FOR_OPERATORS),
    ("/api/alerts/{alert_id}", "GET"): alike(*FOR_OPERATORS),
    ("/api/alerts/{alert_id}/acknowledge", "POST"): alike(*FOR_OPERATORS),
    ("/api/alerts/{alert_id}/resolve", "POST"): alike(*FOR_OPERATORS),
    ("/api/bars/{bar}/payment-methods", "GET"): PUBLIC,
    ("/api/bars/{bar}/payment-methods/events", "GET"): PUBLIC,
    ("/api/bars/{bar}/payment-intents", "POST"): PUBLIC,
    ("/drop-in/v1.js", "GET"): PUBLIC,
    ("/menu/{bar}", "GET"): PUBLIC,
    ("/menu/{bar}", "POST"): PUBLIC,
    ("/staff/sign-in", "GET"): page(200, 303, 303, 303, 303, 303, 303),
    ("/staff/sign-in", "POST"): alike(401),
    ("/staff/sign-out", "POST"): alike(303),
    ("/staff", "GET"): page(303, 200, 200, 200, 200, 200, 200),
    ("/staff/bars/{bar_id}/mpesa", "GET"): page(303, 200, 200, 200, 404, 404, 404),
    ("/staff/bars/{bar_id}/mpesa", "POST"): page(303, 303, 303, 403, 404, 404, 404),
    ("/staff/bars/{bar_id}/mpesa/switch", "POST"): page(303, 303, 303, 403, 404, 404, 404),
    ("/staff/bars/{bar_id}/mpesa/status", "GET"): page(*READS),
    ("/operator", "GET"): page(303, 403, 403, 403, 403, 403, 200),
    ("/operator/bars/{bar_id}", "GET"): page(303, 403, 403, 403, 403, 403, 200),
    ("/operator/alerts", "GET"): page(303, 403, 403, 403, 403, 403, 200),
    ("/operator/alerts/{alert_id}", "GET"): page(303, 403, 403, 403, 403, 403, 200),
    ("/operator/alerts/{alert_id}/acknowledge", "POST"): page(303, 403, 403, 403, 403, 403, 303),
    ("/operator/alerts/{alert_id}/resolve", "POST"): page(303, 403, 403, 403, 403, 403, 303),
    ("/runbook/{kind}", "GET"): PUBLIC,
    ("/metrics", "GET"): PUBLIC,
    ("/livez", "GET"): PUBLIC,
    ("/readyz", "GET"): PUBLIC,
    ("/static/{name}", "GET"): PUBLIC,
    ("/api", "GET"): PUBLIC,
    ("/api/openapi.json", "GET"): PUBLIC,
    ("/api/{path}", "GET"): alike(404),
}
"""Every route of the application. HEAD is as GET; whatever else is asked of one of its paths is 405, OPTIONS 204."""
HEADS: Final = [(path, "HEAD") for path, method in TABLE if method == "GET"]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hashing(monkeypatch)


@dataclass
class Scene:
    """A bar that is off, an operation of it, and everybody."""

    site: Site
    sql: Any
    bar: UUID
    operation: str
    alert: str
    people: dict[str, Asker]

    def path(self, template: str, *, bar: UUID | None = None, operation: str | None = None) -> str:
        """Return a path with its places filled."""
        places = {
            "{operation_id}": operation or self.operation,
            "{alert_id}": self.alert,
            "{kind}": "sync_failed",
            "{bar}": str(bar or self.bar),
            "{bar_id}": str(bar or self.bar),
            "{name}": "site.css",
            "{path}": "nothing",
        }
        return re.sub(r"\{\w+\}", lambda found: places[found[0]], template)

    async def another_alert(self) -> str:
        """Return the id of an alert of another bar, which is open."""
        return str(await self.sql.fetchval(_ALERT, await add_bar(self.sql)))

    async def ask(self, who: str, method: str, template: str, *, session: bool, **places: Any) -> tuple[int, str]:
        """Send what this route takes, as this person; return the status and the beginning of the body."""
        asker = self.people[who]
        headers, csrf = dict(asker.headers), ""
        if session and who != "anonymous":
            visitor = await with_session(self.site, asker, operator=who == "operator")
            headers, csrf = dict(visitor.headers), visitor.csrf
        if "{alert_id}" in template and method == "POST":
            self.alert = await self.another_alert()
        path = self.path(template, **places)
        sent: dict[str, Any] = {}
        bar = str(places.get("bar") or self.bar)
        if template == "/api/mpesa-settings":
            if method == "GET":
                sent["params"] = {"barId": bar}
            elif method == "POST":
                sent["json"] = {"barId": bar, "mpesa_enabled": False}
                headers[CSRF_HEADER] = csrf
        elif template.endswith("/payment-intents"):
            sent["json"] = {"method": "cash"}
        elif template == "/menu/{bar}":
            sent["data"] = {"method": "cash"}
        elif method == "POST" and template.startswith("/api/"):
            headers[CSRF_HEADER] = csrf
        elif method == "POST":
            wrong = {"name": f"n{uuid4().hex}", "password": "not a password"}
            sent["data"] = {
                "csrf": csrf,
                "is_active": "false",
                "note": "",
                **(wrong if template == "/staff/sign-in" else {}),
            }
        async with self.site.client.stream(method, path, headers=headers, **sent) as answer:
            if answer.headers.get("content-type") == "text/event-stream":
                return answer.status_code, ""
            return answer.status_code, (await answer.aread()).decode()


@pytest.fixture
async def scene(site: Site, sql: Any) -> Scene:
    """A bar, an operation of it, and everybody."""
    bar, elsewhere = await add_bar(sql, production=False), await add_bar(sql)
    people = {role: await site.person(sql, bar, role=role) for role in ("owner", "manager", "staff")}
    people["other"] = await site.person(sql, elsewhere)
    people["former"] = await site.person(sql, bar)
    await sql.execute("delete from mpesa_sync.memberships where account_id = $1", people["former"].id)
    people["operator"] = await site.person(sql, operator=True)
    people["anonymous"] = Asker(uuid4(), "", {})
    saved = await site.client.post(
        "/api/mpesa-settings", headers=people["owner"].headers, json={"barId": str(bar), "mpesa_enabled": False}
    )
    assert saved.status_code == 200
    alert = str(await sql.fetchval(_ALERT, bar))
    return Scene(site, sql, bar, saved.json()["operation_id"], alert, people)


def routes_of(site: Site) -> set[tuple[str, str]]:
    """Return every path with every method that the application has a handler of ours for."""
    app = create_app(site.context)
    return {
        (route.path_format, method)
        for route in app.routes
        for method in (getattr(route, "methods", None) or {"GET"}) - {"OPTIONS"}
    }


async def test_every_route_stands_in_the_table(site: Site) -> None:
    """Issue 3: a route that nobody has thought about is red until it is listed with who gets what."""
    assert routes_of(site) == set(TABLE)


async def test_everybody_gets_exactly_what_the_table_says(scene: Scene) -> None:
    """Issue 3, R4: route × method × person, with a bearer token and with a session."""
    wrong = []
    for template, method in TABLE:
        expected = TABLE[template, method]
        for session, row in ((False, expected.token), (True, expected.session)):
            for who in PEOPLE:
                status, body = await scene.ask(who, method, template, session=session)
                if status != row[who]:
                    kind = "session" if session else "token"
                    wrong.append(f"{method} {template}, {who}, {kind}: {status}, not {row[who]}: {body[:200]}")
    assert not wrong, "\n".join(wrong)


async def test_head_is_answered_as_get_without_a_body(scene: Scene) -> None:
    """What watches a site asks so: the same status and headers, no body, and a stream is not begun."""
    for template in sorted(template for template, method in TABLE if method == "GET"):
        path, headers = scene.path(template), scene.people["owner"].headers
        head = await scene.site.client.head(path, headers=headers)
        async with scene.site.client.stream("GET", path, headers=headers) as get:
            for name in ("content-type", "cache-control"):
                assert head.headers.get(name) == get.headers.get(name), template
            assert (head.status_code, head.content) == (get.status_code, b""), template


@pytest.mark.prove
async def test_every_other_method_is_refused_to_everybody_and_changes_nothing(scene: Scene) -> None:
    """Issue 3: PUT, PATCH, DELETE and whatever a path does not answer to: 405 naming what it does."""
    templates = {template for template, _ in TABLE}
    before, wrong = await database_hash(scene.sql), []
    for template in sorted(templates):
        allowed = {method for path, method in (*TABLE, *HEADS) if path == template}
        for method in METHODS:
            if method in allowed:
                continue
            for who in PEOPLE:
                headers = scene.people[who].headers
                answer = await scene.site.client.request(method, scene.path(template), headers=headers)
                named = {word.strip() for word in answer.headers.get("allow", "").split(",")}
                expected = 204 if method == "OPTIONS" else 405
                if answer.status_code != expected or (expected == 405 and not allowed <= named):
                    wrong.append(f"{method} {template}, {who}: {answer.status_code}, allow {sorted(named)}")
    assert not wrong, "\n".join(wrong)
    assert await database_hash(scene.sql) == before


async def test_no_get_writes(scene: Scene) -> None:
    """Issue 6: a link, a picture or a search robot changes nothing, whoever is signed in."""
    owner = await with_session(scene.site, scene.people["owner"])
    operator = await with_session(scene.site, scene.people["operator"], operator=True)
    before, answered = await database_hash(scene.sql), set()
    for template in sorted(template for template, method in TABLE if method == "GET"):
        for headers in ({}, scene.people["owner"].headers, owner.headers, operator.headers):
            async with scene.site.client.stream("GET", scene.path(template), headers=headers) as answer:
                answered.add(answer.status_code)
    assert {200, 303, 401} <= answered
    assert not {status for status in answered if status >= 500}
    assert await database_hash(scene.sql) == before


async def test_a_bar_of_others_cannot_be_told_from_one_that_is_absent(scene: Scene) -> None:
    """R4: same status, same body apart from ids, for every route that needs a membership."""
    foreign, absent = await add_bar(scene.sql, production=True, mpesa_enabled=True), uuid4()
    stranger = await scene.site.person(scene.sql, foreign)
    theirs = await scene.site.client.post(
        "/api/mpesa-settings", headers=stranger.headers, json={"barId": str(foreign), "mpesa_enabled": True}
    )
    operations = {foreign: theirs.json()["operation_id"], absent: str(uuid4())}
    seen = 0
    for (template, method), expected in TABLE.items():
        for session, row in ((False, expected.token), (True, expected.session)):
            if row["other"] != 404 or template == "/api/{path}":
                continue
            answers = []
            for bar in (foreign, absent):
                status, body = await scene.ask(
                    "owner", method, template, session=session, bar=bar, operation=operations[bar]
                )
                answers.append((status, body.replace(str(bar), "BAR").replace(operations[bar], "OPERATION")))
            answers = [(status, re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", body)) for status, body in answers]
            assert answers[0] == answers[1], (method, template)
            assert answers[0][0] == 404, (method, template)
            seen += 1
    assert seen >= 8


async def test_the_demo_and_the_framework_add_nothing_to_the_application(scene: Scene) -> None:
    """Issue 3: the demo's routes are the demo's alone."""
    for path in ("/demo", "/demo/", "/demo/break", "/demo/mend", "/docs", "/schema", "/schema/openapi.json"):
        for method in METHODS:
            answer = await scene.site.client.request(method, path, headers=scene.people["owner"].headers)
            assert answer.status_code == 404, (method, path)


async def test_the_bare_address_leads_to_the_staff_app(scene: Scene) -> None:
    """Spec 5: who types nothing but the name of the server finds where to begin; the demo leads to the demo."""
    for method in ("GET", "HEAD"):
        answer = await scene.site.client.request(method, "/")
        assert (answer.status_code, answer.headers["location"]) == (303, "/staff")
