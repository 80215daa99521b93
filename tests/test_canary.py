"""Canary secrets go through a whole scripted day, and are looked for at every exit there is, in five encodings."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from mpesa_sync.db.pool import connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.monitoring import logs
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.sync import spool
from tests.support import web
from tests.support.canary import Day, canary, in_a_path
from tests.support.canary_day import Channels, fails, looks, operates, saves, sign_in
from tests.support.channels import endpoints
from tests.support.databases import plain
from tests.support.encodings import encoded, traces
from tests.support.faults import NEVER_AGAIN, injected
from tests.support.people import quick_hashing
from tests.support.venues import KEY, add_bar
from tests.support.web import JWT_SECRET, Asker, Site

AT_LEAST: Final = 40
"""Exits at which something was said, counted by name."""
_SAYS_THE_ROW: Final = """
create function public.no() returns trigger language plpgsql as $$
begin raise exception 'row %', encode(new.passkey_enc, 'hex') using detail = new::text, errcode = '23514'; end $$;
create trigger no before update on public.mpesa_credentials for each row execute function public.no();
"""
COMMANDS: Final = (
    "check",
    "check --json",
    "db status",
    "db status --json",
    "staff list",
    "staff list --json",
    "migrate --dry-run",
    "migrate --yes --json",
    "alerts list --state all",
    "alerts list --state all --json",
    "alerts test",
    "alerts test --json",
)
OF_A_BAR: Final = ("explain {}", "explain {} --json", "check --bar {}", "repair {}", "alerts channel {}")
REQUIRED: Final = {
    *(f"mpesa-sync {line}" for line in COMMANDS),
    *(f"mpesa-sync {line.format('ID')}" for line in OF_A_BAR),
    "our log, json",
    "our log, console",
    "PostgreSQL's log",
    "pg_stat_activity",
    "spool",
    "messages to operators",
    "messages to the owner",
    "problem documents",
    "tracebacks",
    "values as texts",
    "the stream of a page",
    "GET /metrics",
    "GET /api/openapi.json",
    "GET /api/operations/ID",
    "GET /api/alerts",
    "GET /operator/alerts",
    "table mpesa_sync.alerts",
    "table mpesa_sync.alert_deliveries",
    "table mpesa_sync.idempotency_keys",
    "table mpesa_sync.operations",
    "table mpesa_sync.venue_channels",
    "table public.mpesa_credentials",
}
"""Exits that must have said something, or the day was too short."""


@pytest.fixture
def written() -> Iterator[dict[str, io.StringIO]]:
    """Our own log in both forms, at its most talkative."""
    root = logging.getLogger("mpesa_sync")
    level, propagate, handlers = root.level, root.propagate, root.handlers
    forms, ours = {"json": io.StringIO(), "console": io.StringIO()}, []
    for form, stderr in forms.items():
        with contextlib.redirect_stderr(stderr):
            logs.configure(form="json" if form == "json" else "console", level=logging.DEBUG)
        ours += root.handlers
    root.handlers = ours
    yield forms
    root.handlers, root.propagate = handlers, propagate
    root.setLevel(level)


@pytest.fixture
async def behind_proxy(
    database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[tuple[Site, TcpProxy]]:
    """The web application, its database behind a proxy that can go away; nothing is tried again."""
    quick_hashing(monkeypatch)
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(TcpProxy.before(database_url))
        url = proxy.url_for(database_url)
        database = await stack.enter_async_context(connect(url, kms_keys=[KEY], retry=NEVER_AGAIN))
        database.alert_spool = tmp_path / "spool"
        yield await stack.enter_async_context(web.running(database, url)), proxy


@pytest.mark.timeout(240)
@pytest.mark.prove
async def test_no_secret_shows_anywhere_on_a_whole_day(
    behind_proxy: tuple[Site, TcpProxy], database_url: str, server: Any, written: dict[str, io.StringIO], tmp_path: Path
) -> None:
    """Issue 4, K, faults.md: saves good and bad, refusals of the database, alerts, commands, a database gone: 0 hits.

    Red when an error quotes its input, when a secret is logged, when a statement carries one as a literal, when the
    form shows what was typed, and when the address of a channel is stored, printed or told.
    """
    site, proxy = behind_proxy
    database = site.context.database
    async with plain(database_url) as sql, endpoints() as there:
        bar = await add_bar(sql)
        person = await site.person(sql, bar)
        day = Day(site.client, sql, written, server.log_file, tmp_path / "spool")
        channels = Channels(there, in_a_path(), in_a_path())
        known = [KEY.reveal(), JWT_SECRET.reveal(), channels.operators, channels.owner, *tokens_of(person)]
        known.append(urlsplit(database_url).password or "")
        variables = variables_of(there.url(channels.operators))
        day.said["values as texts"].append(f"{Settings.load(variables)!r} {database!r} {site.context!r} {person.id}")
        browser = await sign_in(day, site, bar, known)
        await saves(day, bar, browser, person.headers, known)
        await looks(day, bar, browser, person.headers)
        async with injected(sql, "before update", "public.mpesa_credentials", "XX000"):
            await saves(day, bar, browser, person.headers, known)
        await sql.execute(_SAYS_THE_ROW)
        await saves(day, bar, browser, person.headers, known)
        await fails(day, database, bar)
        await channels.told(day, site, database_url, bar)
        await day.commands(database_url, variables, *COMMANDS, *(line.format(bar) for line in OF_A_BAR))
        await operates(day, site, sql, known)
        await sql.execute("drop table mpesa_sync.credential_details, mpesa_sync.bar_state cascade")
        await saves(day, bar, browser, person.headers, known)
        await looks(day, bar, browser, person.headers)
        await day.commands(database_url, variables, f"--debug explain {bar}", "--debug check", when=", tables missing")
        await proxy.close_port()
        proxy.reset_all()
        await saves(day, bar, browser, person.headers, known)
        await looks(day, bar, browser, person.headers)
        await fails(day, database, bar)
        await day.commands(proxy.url_for(database_url), variables, "--debug check", "alerts list", when=", no database")
        assert spool.waiting(database)
        day.spooled()
        exits = await day.exits()
    assert {200, 303, 400, 401, 403, 404, 409, 413, 500, 503} <= set(day.statuses), Counter(day.statuses)
    assert REQUIRED - exits.keys() == set(), "nothing was said there"
    assert len(exits) >= AT_LEAST, sorted(exits)
    assert "Traceback" in exits["mpesa-sync --debug check, no database"]
    print(f"{len(exits)} exits: {', '.join(sorted(exits))}")
    assert {name: found for name, said in exits.items() if (found := traces(known, said))} == {}


def tokens_of(person: Asker) -> list[str]:
    """Return a bearer token, and its signature."""
    token = person.headers["authorization"].removeprefix("Bearer ")
    return [token, token.split(".")[2]]


def variables_of(channel: Secret) -> dict[str, str]:
    """Return the settings of every command: with each secret there is."""
    return {
        "MPESA_KMS_KEY": KEY.reveal(),
        "MPESA_SYNC_JWT_SECRET": JWT_SECRET.reveal(),
        "MPESA_SYNC_ALERT_URLS": json.dumps([channel.reveal()]),
        "MPESA_SYNC_LOG_LEVEL": "debug",
    }


async def test_a_secret_that_leaks_is_found_by_the_same_sweep(
    behind_proxy: tuple[Site, TcpProxy], database_url: str, server: Any, written: dict[str, io.StringIO], tmp_path: Path
) -> None:
    """The twin: one leak at each kind of exit, in each encoding, is seen there and nowhere else."""
    site, _proxy = behind_proxy
    kinds = ("GET /livez", "PostgreSQL's log", "pg_stat_activity", "table public.audit_logs", "spool")
    leaks = {exit_: canary() for exit_ in kinds}
    async with plain(database_url) as sql, plain(database_url) as other:
        day = Day(site.client, sql, written, server.log_file, tmp_path / "spool")
        logged, for_postgres = canary(), leaks["PostgreSQL's log"]
        logs.get("test").info("leaked", said=logged.encode().hex())
        await other.execute(f"do $$ begin raise log 'leaked {for_postgres}'; end $$")
        await other.execute("select 1")
        leaked = base64.b64encode(b"x" + leaks["table public.audit_logs"].encode()).decode()
        await sql.execute("insert into public.audit_logs (action) values ($1)", leaked)
        day.said["GET /livez"].append(json.dumps({"echo": leaks["GET /livez"]}))
        (tmp_path / "spool").mkdir()
        (tmp_path / "spool" / "one.json").write_text(leaks["spool"])
        day.spooled()
        await other.fetchval(f"select '{leaks['pg_stat_activity']}'::text")
        await day.ask("GET", "/livez")
        exits = await day.exits()
    for exit_, leak in leaks.items():
        assert [found for found, said in exits.items() if traces([leak], said)] == [exit_]
    assert {found for found, said in exits.items() if traces([logged], said)} == {"our log, json", "our log, console"}
    for name, texts in encoded(canary()).items():
        assert texts, name
