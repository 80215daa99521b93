"""Canary secrets go through a whole scripted day, and are looked for in everything that was said, in five encodings."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from mpesa_sync.db.pool import connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.identity import accounts
from mpesa_sync.identity.people import Role
from mpesa_sync.monitoring import logs
from mpesa_sync.secret import Secret
from mpesa_sync.web.auth import COOKIE, CSRF_HEADER
from tests.support import web
from tests.support.databases import plain
from tests.support.encodings import encoded, traces
from tests.support.faults import NEVER_AGAIN, injected
from tests.support.people import quick_hashing
from tests.support.venues import KEY, add_bar
from tests.support.web import JWT_SECRET, Site

API: Final = "/api/mpesa-settings"
HTML: Final = {"accept": "text/html"}
_ACTIVITY: Final = "select coalesce(string_agg(query, chr(10)), '') from pg_stat_activity where pid <> pg_backend_pid()"
_TABLES: Final = (
    "select schemaname, tablename from pg_tables where schemaname in ('public', 'mpesa_sync') order by 1, 2"
)
_SAYS_THE_ROW: Final = """
create function public.no() returns trigger language plpgsql as $$
begin raise exception 'row %', encode(new.passkey_enc, 'hex') using detail = new::text, errcode = '23514'; end $$;
create trigger no before update on public.mpesa_credentials for each row execute function public.no();
"""


def canary() -> str:
    """A well-formed secret with characters that every encoding writes in its own way."""
    return f"cNry+/={secrets.token_urlsafe(20)}"


class Day:
    """Everything that was said on one day: answers, our logs, PostgreSQL's log and activity, and every table."""

    def __init__(self, client: httpx.AsyncClient, sql: Any, log: io.StringIO, server_log: Path) -> None:
        self.client, self.sql, self.log, self.server_log = client, sql, log, server_log
        self.began = server_log.stat().st_size
        self.answers: list[str] = []
        self.statuses: list[int] = []
        self.activity: list[str] = []

    async def ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """Send a request, and keep the answer with its headers; a new cookie is what a cookie is for."""
        answer = await self.client.request(method, path, **sent)
        self.client.cookies.clear()
        told = [f"{name}: {value}" for name, value in answer.headers.multi_items() if name != "set-cookie"]
        self.answers.append("\n".join([*told, answer.text]))
        self.statuses.append(answer.status_code)
        self.activity.append(await self.sql.fetchval(_ACTIVITY))
        return answer

    async def places(self) -> dict[str, str]:
        """Return every place with all that was said there."""
        stored = []
        for schema, table in await self.sql.fetch(_TABLES):
            stored.append(
                await self.sql.fetchval(f"select coalesce(string_agg(t::text, chr(10)), '') from {schema}.{table} t")
            )
        with self.server_log.open("rb") as file:
            file.seek(self.began)
            server_log = file.read().decode("utf-8", "replace")
        return {
            "answers": "\n".join(self.answers),
            "log": self.log.getvalue(),
            "server log": server_log,
            "activity": "\n".join(self.activity),
            "tables": "\n".join(stored),
        }


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Our own log as JSON, at its most talkative."""
    root = logging.getLogger("mpesa_sync")
    level, propagate, handlers = root.level, root.propagate, root.handlers
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        logs.configure(form="json", level=logging.DEBUG)
    yield stderr
    root.handlers, root.propagate = handlers, propagate
    root.setLevel(level)


@pytest.fixture
async def behind_proxy(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Site, TcpProxy]]:
    """The web application, its database behind a proxy that can go away; nothing is tried again."""
    quick_hashing(monkeypatch)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(TcpProxy.before(database_url))
        database = await stack.enter_async_context(
            connect(proxy.url_for(database_url), kms_keys=[KEY], retry=NEVER_AGAIN)
        )
        yield await stack.enter_async_context(web.running(database, proxy.url_for(database_url))), proxy


async def sign_in(day: Day, site: Site, bar: UUID, known: list[str]) -> dict[str, str]:
    """Sign in, wrongly and rightly; return the headers of the browser, its form's token among them."""
    password, wrong = canary(), canary()
    known += [password, wrong]
    await accounts.add(site.context.database, "asha", Secret(password), memberships={bar: Role.OWNER})
    for tried in (wrong, password):
        form = {"name": "asha", "password": tried, "to": "/staff"}
        answer = await day.ask("POST", "/staff/sign-in", data=form, headers=HTML)
    await day.ask("POST", "/staff/sign-in", data={"name": "nobody", "password": wrong}, headers=HTML)
    token = answer.headers["set-cookie"].partition(f"{COOKIE}=")[2].partition(";")[0]
    known.append(token)
    page = await day.ask("GET", f"/staff/bars/{bar}/mpesa", headers={"cookie": f"{COOKIE}={token}"})
    csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
    return {"cookie": f"{COOKIE}={token}", CSRF_HEADER: csrf, **HTML}


async def saves(day: Day, bar: UUID, browser: dict[str, str], bearer: dict[str, str], known: list[str]) -> None:
    """Save in every way, well and badly: by API and form, secrets in the wrong place, broken bodies."""
    good = {f"mpesa_{name}": canary() for name in ("consumer_key", "consumer_secret", "passkey")}
    bad = {name: f"{canary()} \u200b{canary()}" for name in good}
    lost = canary()
    known += [*good.values(), *(word for value in bad.values() for word in value.split(" \u200b")), lost]
    base: dict[str, Any] = {"barId": str(bar), "mpesa_environment": "production", "mpesa_business_shortcode": "600123"}
    bodies: list[dict[str, Any]] = [
        {**base, **good, "mpesa_enabled": True},
        {**base, **bad, "mpesa_enabled": True},
        {**base, **good, "mpesa_business_shortcode": lost, "mpesa_environment": lost, "mpesa_enabled": lost},
        {**base, **good, "mpesa_till_number": lost, "mpesa_account_type": lost, "mpesa_unknown": lost},
        {**base, "mpesa_passkey": [lost], "mpesa_consumer_key": {lost: lost}},
        {**base, "barId": lost},
        {**base, "mpesa_passkey": lost * 3_000},
    ]
    for body in bodies:
        await day.ask("POST", API, json=body, headers=bearer)
        # The page shows again what was typed, but for secrets: what stands in a field for numbers is taken for none.
        form = {name: str(value) for name, value in body.items() if name in good or lost not in str(value)}
        form["csrf"] = browser[CSRF_HEADER]
        await day.ask("POST", f"/staff/bars/{bar}/mpesa", data=form, headers=browser)
        await day.ask("POST", f"/staff/bars/{bar}/mpesa", data={**form, "csrf": lost}, headers=browser)
        await day.ask("POST", API, json=body, headers={**browser, CSRF_HEADER: lost})
    as_json = {**bearer, "content-type": "application/json"}
    for raw in (f'{{"mpesa_passkey":"{lost}",', f'["{lost}"]', f'{{"{lost}":1,"{lost}":2}}', lost, f'"\\ud8{lost}'):
        await day.ask("POST", API, content=raw, headers=as_json)
        await day.ask("POST", f"/staff/bars/{bar}/mpesa", content=raw, headers=browser)
        await day.ask("POST", f"/staff/bars/{bar}/mpesa/switch", data={"csrf": lost, "x": raw}, headers=browser)
    for wrong in (f"Bearer {lost}", f"Basic {lost}", lost, f"Bearer {bearer['authorization'][7:]}x"):
        await day.ask("GET", API, params={"barId": str(bar)}, headers={"authorization": wrong})


async def looks(day: Day, bar: UUID, browser: dict[str, str], bearer: dict[str, str]) -> None:
    """Read every page and every address."""
    for path in (f"/menu/{bar}", "/staff", f"/staff/bars/{bar}/mpesa", f"/staff/bars/{bar}/mpesa/status", "/nothing"):
        await day.ask("GET", path, headers=browser)
    for path in (f"/api/bars/{bar}/payment-methods", "/api/openapi.json", "/livez", "/readyz", "/metrics"):
        await day.ask("GET", path)
    await day.ask("GET", API, params={"barId": str(bar)}, headers=bearer)
    async with day.client.stream("GET", f"/api/bars/{bar}/payment-methods/events") as answer:
        day.answers.append(f"{answer.headers} {await anext(answer.aiter_text())}")


@pytest.mark.timeout(240)
async def test_no_secret_shows_anywhere_on_a_whole_day(
    behind_proxy: tuple[Site, TcpProxy], database_url: str, server: Any, written: io.StringIO
) -> None:
    """Issue 3, K, faults.md: saves good and bad, refusals of the database, a 500, a database that is gone: 0 hits.

    Red when an error quotes its input, when a secret is logged, when a statement carries one as a literal, and when
    the form shows what was typed.
    """
    site, proxy = behind_proxy
    async with plain(database_url) as sql:
        bar = await add_bar(sql)
        person = await site.person(sql, bar)
        day = Day(site.client, sql, written, server.log_file)
        known = [KEY.reveal(), JWT_SECRET.reveal(), person.headers["authorization"].removeprefix("Bearer ")]
        known += person.headers["authorization"].removeprefix("Bearer ").split(".")[2:]
        browser = await sign_in(day, site, bar, known)
        await saves(day, bar, browser, person.headers, known)
        await looks(day, bar, browser, person.headers)
        async with injected(sql, "before update", "public.mpesa_credentials", "XX000"):
            await saves(day, bar, browser, person.headers, known)
        await sql.execute(_SAYS_THE_ROW)
        await saves(day, bar, browser, person.headers, known)
        await sql.execute("drop table mpesa_sync.credential_details, mpesa_sync.bar_state cascade")
        await saves(day, bar, browser, person.headers, known)
        await looks(day, bar, browser, person.headers)
        await proxy.close_port()
        proxy.reset_all()
        await saves(day, bar, browser, person.headers, known)
        await looks(day, bar, browser, person.headers)
        places = await day.places()
    assert {200, 303, 400, 401, 403, 404, 409, 413, 500, 503} <= set(day.statuses), Counter(day.statuses)
    assert all(len(said) > 100 for said in places.values()), {place: len(said) for place, said in places.items()}
    assert {place: traces(known, said) for place, said in places.items()} == {place: [] for place in places}


async def test_a_secret_that_leaks_is_found_by_the_same_sweep(
    behind_proxy: tuple[Site, TcpProxy], database_url: str, server: Any, written: io.StringIO
) -> None:
    """The twin: one leak in each place, in each encoding, is seen there and nowhere else."""
    site, _proxy = behind_proxy
    leaks = {place: canary() for place in ("answers", "log", "server log", "activity", "tables")}
    async with plain(database_url) as sql, plain(database_url) as other:
        day = Day(site.client, sql, written, server.log_file)
        logs.get("test").info("leaked", said=leaks["log"].encode().hex())
        await other.execute(f"do $$ begin raise log 'leaked {leaks['server log']}'; end $$")
        await other.execute("select 1")
        leaked = base64.b64encode(b"x" + leaks["tables"].encode()).decode()
        await sql.execute("insert into public.audit_logs (action) values ($1)", leaked)
        day.answers.append(json.dumps({"echo": leaks["answers"]}))
        await other.fetchval(f"select '{leaks['activity']}'::text")
        await day.ask("GET", "/livez")
        places = await day.places()
    for place, leak in leaks.items():
        assert [found for found, said in places.items() if traces([leak], said)] == [place]
    for name, texts in encoded(canary()).items():
        assert texts, name
