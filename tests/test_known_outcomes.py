"""Over HTTP: `unknown` is said where it is so, and settled by the operation or by the repeat (R4, faults.md 1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec
import pytest

from mpesa_sync.backoff import Backoff
from mpesa_sync.clock import SystemClock
from mpesa_sync.db.pool import connect
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.errors import TransientFault
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.web import deadline
from mpesa_sync.web.deadline import REQUEST_S, Deadline
from mpesa_sync.web.form_view import place_of
from mpesa_sync.web.problems import problem_of
from tests.support.alerts import raised
from tests.support.browsing import with_session
from tests.support.faults import NEVER_AGAIN, QUICK, injected
from tests.support.observer import see
from tests.support.venues import KEY, add_bar
from tests.support.web import Asker, Site, running

PATH: Final = "/api/mpesa-settings"
ON: Final[dict[str, Any]] = {"mpesa_enabled": True}
PASSKEY: Final = "another-passkey-9f2c"
FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_OPERATIONS: Final = "select count(*) from mpesa_sync.operations where bar_id = $1 and kind = 'settings'"
_OVER: Final = "update mpesa_sync.idempotency_keys set held_until = now()"


@asynccontextmanager
async def behind(url: str, retry: Backoff = NEVER_AGAIN) -> AsyncIterator[tuple[TcpProxy, Site]]:
    """Serve with PostgreSQL behind a proxy, and without waits worth speaking of between attempts."""
    async with (
        TcpProxy.before(url) as proxy,
        connect(proxy.url_for(url), kms_keys=[KEY], retry=retry) as database,
        running(database, url) as site,
    ):
        yield proxy, site


async def lose_the_answer(proxy: TcpProxy, site: Site, who: Asker, bar: UUID, *, key: str | None = None) -> Any:
    """Save while the answer to its COMMIT is lost and the database cannot be reached afterwards; return the answer."""
    headers = who.headers if key is None else {**who.headers, "Idempotency-Key": key}
    await site.client.get(
        PATH, headers=who.headers, params={"barId": str(bar)}
    )  # one open connection, kept by the pool
    await proxy.close_port()
    proxy.cut_after_commit(nth=1 if key is None else 2)  # with a key, the first is that which notes it
    answer = await site.client.post(PATH, headers=headers, json={"barId": str(bar), **ON})
    assert proxy.fired[Fault.CUT_AFTER_COMMIT] == 1
    await proxy.open_port()
    return answer


async def test_an_unknown_outcome_is_settled_by_its_operation(database_url: str, sql: Any) -> None:
    """R4, faults.md: 503, `unknown`, the operation and where to ask; asked, it says that it was applied."""
    bar = await add_bar(sql, production=False)
    async with behind(database_url) as (proxy, site):
        owner = await site.person(sql, bar)
        answer = await lose_the_answer(proxy, site, owner, bar)
        said = answer.json()
        assert (answer.status_code, said["code"], said["outcome"]) == (503, "outcome_unknown", "unknown")
        assert said["retryable"] is False
        assert said["status_url"] == answer.headers["location"] == f"/api/operations/{said['operation_id']}"
        found = await site.client.get(said["status_url"], headers=owner.headers)
        assert (found.status_code, found.json()["outcome"]) == (200, "applied")
        assert found.json()["result"]["enabled"] is True
        assert await sql.fetchval(_OPERATIONS, bar) == 1


async def test_an_unknown_outcome_is_settled_by_the_repeat(database_url: str, sql: Any) -> None:
    """R4: the same `Idempotency-Key` goes on under the same operation: applied once, and the answer is a 200."""
    bar = await add_bar(sql, production=False)
    async with behind(database_url) as (proxy, site):
        owner = await site.person(sql, bar)
        first = await lose_the_answer(proxy, site, owner, bar, key="a")
        assert (first.status_code, first.json()["outcome"]) == (503, "unknown")
        headers = {**owner.headers, "Idempotency-Key": "a"}
        early = await site.client.post(PATH, headers=headers, json={"barId": str(bar), **ON})
        assert (early.status_code, early.json()["operation_id"]) == (409, first.json()["operation_id"])
        await sql.execute(_OVER)  # as time does it: the hold could not be ended, for there was no database
        again = await site.client.post(PATH, headers=headers, json={"barId": str(bar), **ON})
        assert (again.status_code, again.json()["operation_id"]) == (200, first.json()["operation_id"])
        assert await sql.fetchval(_OPERATIONS, bar) == 1


async def test_a_lost_answer_that_can_be_settled_is_a_success(database_url: str, sql: Any) -> None:
    """R5.3: the database is there again at once: 200, applied once; also where noting the key lost its answer."""
    bar = await add_bar(sql, production=False)
    async with behind(database_url, QUICK) as (proxy, site):
        owner = await site.person(sql, bar)
        for number, key in enumerate(("a", "b", "c"), start=1):
            proxy.cut_after_commit(nth=number)  # noting the key, the save, keeping its answer
            headers = {**owner.headers, "Idempotency-Key": key}
            answer = await site.client.post(PATH, headers=headers, json={"barId": str(bar), **ON})
            assert answer.status_code == 200, answer.json()
        again = await site.client.post(PATH, headers=headers, json={"barId": str(bar), **ON})
        assert (again.json(), again.headers["idempotency-replayed"]) == (answer.json(), "true")
        assert proxy.fired[Fault.CUT_AFTER_COMMIT] == 3
        assert await sql.fetchval(_OPERATIONS, bar) == 3


async def test_of_an_operation_that_is_not_there_nothing_is_claimed(site: Site, sql: Any) -> None:
    """faults.md 1: a missing row is no proof of failure; it looks the same to a stranger."""
    bar = await add_bar(sql)
    owner = await site.person(sql, bar)
    answer = await site.client.get(f"/api/operations/{uuid4()}", headers=owner.headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "operation_not_found")
    assert "may still be under way" in answer.json()["error"]


async def test_the_history_keeps_from_where_a_change_was_asked(site: Site, sql: Any) -> None:
    """Issue 4: person, address and client, cut and printable, for the save and for the switch inside it."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    headers = {**owner.headers, "user-agent": "x" * 300}
    assert (await site.client.post(PATH, headers=headers, json={"barId": str(bar), **ON})).status_code == 200
    visitor = await with_session(site, owner)
    page = f"/staff/bars/{bar}/mpesa"
    fields = {"csrf": visitor.csrf, "is_active": "false"}
    headers = {**visitor.headers, "user-agent": FIREFOX}
    assert (await site.client.post(f"{page}/switch", headers=headers, data=fields)).status_code == 303
    rows = await sql.fetch("select * from mpesa_sync.operations where bar_id = $1 order by started_at", bar)
    assert [row["kind"] for row in rows] == ["settings", "switch"] * 2
    assert {(row["person_id"], row["source_address"]) for row in rows} == {(owner.id, "127.0.0.1")}
    assert [row["client"] for row in rows] == ["x" * 200] * 2 + [FIREFOX] * 2
    shown = await site.client.get(page, headers=visitor.headers)
    assert "from 127.0.0.1, Firefox" in shown.text
    await sql.execute("update mpesa_sync.memberships set role = 'staff' where account_id = $1", owner.id)
    hidden = await site.client.get(page, headers=visitor.headers)
    assert "127.0.0.1" not in hidden.text
    assert owner.name in hidden.text


async def test_saving_credentials_alone_answers_what_failed_before(site: Site, sql: Any) -> None:
    """R5.2: without `mpesa_enabled` both fields are verified too, so the alert of the save that failed ends."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    for kind in (AlertKind.DATABASE_REFUSED, AlertKind.SECRETS_UNREADABLE):
        await raised(site.context.database, bar, kind)
    new = {"barId": str(bar), "mpesa_environment": "production", "mpesa_business_shortcode": "600777"}
    answer = await site.client.post(PATH, headers=owner.headers, json=new)
    assert answer.status_code == 200
    left = await sql.fetch("select kind, state, resolved_by from mpesa_sync.alerts order by kind")
    assert [tuple(row) for row in left] == [
        ("database_refused", "resolved", f"operation:{answer.json()['operation_id']}"),
        ("secrets_unreadable", "firing", None),
    ]


async def test_the_history_says_what_became_of_credentials(site: Site, sql: Any) -> None:
    """Issue 4: the numbers before and after, and which secrets are new; nothing of the secrets themselves."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    new = {"mpesa_environment": "production", "mpesa_business_shortcode": "600777", "mpesa_passkey": PASSKEY}
    assert (await site.client.post(PATH, headers=owner.headers, json={"barId": str(bar), **new})).status_code == 200
    row = await sql.fetchrow("select before::text, after::text from mpesa_sync.operations where bar_id = $1", bar)
    before, after = json.loads(row["before"])["saved"], json.loads(row["after"])["saved"]
    assert before == {
        "mpesa_business_shortcode": "600123",
        "mpesa_account_type": "paybill",
        "mpesa_till_number": None,
    }
    assert after == {
        **before,
        "mpesa_business_shortcode": "600777",
        "environment": "production",
        "fields": ["mpesa_business_shortcode", "mpesa_passkey"],
    }
    visitor = await with_session(site, owner)
    shown = (await site.client.get(f"/staff/bars/{bar}/mpesa", headers=visitor.headers)).text
    for line in ("Credentials saved (Production)", "Paybill or store number: 600123 → 600777", "New: Passkey"):
        assert line in shown
    assert PASSKEY not in shown + str(row)


@pytest.mark.parametrize(
    ("client", "words"),
    [
        (FIREFOX, "from 41.90.1.2, Firefox"),
        (
            "Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/130.0 Mobile Safari/537.36",
            "from 41.90.1.2, Chrome",
        ),
        ("Mozilla/5.0 (iPhone) AppleWebKit/605 Version/18.0 Mobile/15E148 Safari/604.1", "from 41.90.1.2, Safari"),
        ("curl/8.5.0", "from 41.90.1.2, curl"),
        ("", "from 41.90.1.2"),
    ],
)
def test_a_client_is_named_in_short_words(client: str, words: str) -> None:
    """Issue 4: what a venue's owner knows it by."""
    assert place_of("41.90.1.2", client) == words
    assert place_of("", "") == ""


class Stepping(SystemClock):
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        """Return the seconds that the test says."""
        return self.seconds


def test_a_request_has_nine_seconds_in_all() -> None:
    """R5.1: what a slow body took is not there for retries; one attempt always is."""
    clock = Stepping()
    left = Deadline(clock).left_s
    assert left() == REQUEST_S == 9.0
    clock.seconds = 6.0
    assert left() == 3.0
    clock.seconds = 60.0
    assert left() == 1.0


async def test_what_is_left_of_the_deadline_bounds_the_retries(
    site: Site, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R5.1: of the API and of the page: no attempt begins, and none lasts, beyond it; a statement may take 3 s.

    Red when one of those between the request and the unit does not hand it on.
    """
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    visitor = await with_session(site, owner)
    fields = {"csrf": visitor.csrf, "is_active": "true"}
    page = f"/staff/bars/{bar}/mpesa/switch"
    # A shorter request, so that this lasts no 9 s: what is shown is that the same figure reaches the unit.
    monkeypatch.setattr(deadline, "REQUEST_S", 0.3)
    monkeypatch.setattr(deadline, "_LEAST_S", 0.1)
    clock = site.context.database.clock
    async with injected(sql, "before update", "public.bars", "sleep"):
        for asking in (
            site.client.post(PATH, headers=owner.headers, json={"barId": str(bar), **ON}),
            site.client.post(page, headers={**visitor.headers, "accept": "text/html"}, data=fields),
        ):
            began = clock.monotonic()
            assert (await asking).status_code == 503
            assert clock.monotonic() - began < 3.0
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.mpesa_enabled is False


def test_a_problem_names_its_operation_only_where_it_has_one() -> None:
    """R4: members that do not apply are left out of the document."""
    assert not {"status_url", "changed_by", "changed_at"} & set(_document(problem_of(TransientFault("busy"), uuid4())))


def _document(problem: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(msgspec.json.encode(problem))
    return found


async def test_one_connection_that_is_lost_before_the_save_is_no_error(database_url: str, sql: Any) -> None:
    """Issue 4: who asks is asked again at once; a database that is away is said at once, in words for people."""
    bar = await add_bar(sql, production=False)
    async with behind(database_url) as (proxy, site):
        who = await site.person(sql, bar)
        proxy.cut_statement("mpesa_sync.accounts", after=True)
        answer = await site.client.post(PATH, headers=who.headers, json={"barId": str(bar), **ON})
        assert (answer.status_code, proxy.fired[Fault.CUT_AFTER_STATEMENT]) == (200, 1)
        await proxy.close_port()
        proxy.reset_all()
        away = await site.client.post(PATH, headers=who.headers, json={"barId": str(bar), "mpesa_enabled": False})
        await proxy.open_port()
    assert (away.status_code, away.json()["retryable"]) == (503, True)
    assert "PostgreSQL" not in away.text
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.authority, seen.mpesa_enabled) == (True, True)
