"""Property 6 over real HTTP: a save is all there or not at all, whatever the database or the network does to it.

Every fault is real: a trigger raises it or ends the backend, or a proxy cuts the connection at COMMIT.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.db.pool import connect
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.secret import MASK
from tests.support import touched, web
from tests.support.faults import ALWAYS, QUICK, injected, reached
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.states import ENVIRONMENTS, STATES, State, put, states
from tests.support.venues import KEY, KEYS, SECRETS, Row, add_bar
from tests.support.web import Asker, Site

SECRET_FIELDS: Final = ("consumer_key", "consumer_secret", "passkey")
SITES: Final = (
    ("before insert", "public.mpesa_credentials"),
    ("after insert", "public.mpesa_credentials"),
    ("before update", "public.mpesa_credentials"),
    ("after update", "public.mpesa_credentials"),
    ("before update", "public.bars"),
    ("after update", "public.bars"),
    ("before insert", "mpesa_sync.operations"),
    ("after update", "mpesa_sync.operations"),
    ("before update", "mpesa_sync.bar_state"),
    ("before insert", "mpesa_sync.credential_details"),
    ("after insert", "mpesa_sync.credential_details"),
    ("before update", "mpesa_sync.credential_details"),
    ("before update", "mpesa_sync.alerts"),
)
COURTESY: Final = {("insert", "public.audit_logs"), ("insert", "public.mpesa_credential_events")}
"""Copies for the platform's own history, which never fail an operation (their own tests)."""
RAISED: Final = ("40001", "40P01", "55P03", "53100", "23502", "23514", "42501", "P0001", "terminate")
CUTS: Final = (Fault.CUT_BEFORE_COMMIT, Fault.CUT_AFTER_COMMIT)
ATTEMPTS: Final = 4
_ROW: Final = """
select c.*, d.account_type, d.till_number from public.mpesa_credentials c
  left join mpesa_sync.credential_details d on d.bar_id = c.tenant_id and d.environment = c.environment
 where c.tenant_id = $1 and c.environment = $2
"""
_OPERATIONS: Final = """
select id, outcome, before::text as before, after::text as after from mpesa_sync.operations where bar_id = $1
"""
_BEFORE: Final = {
    ("before update", "mpesa_sync.credential_details"): """
insert into mpesa_sync.credential_details (bar_id, environment, account_type)
select $1, e, 'paybill' from unnest(array['sandbox', 'production']) e
""",
    ("before update", "mpesa_sync.alerts"): """
insert into mpesa_sync.alerts (bar_id, kind, cause, what_to_do) values ($1, 'sync_failed', 'test', 'nothing')
""",
}
"""What must be there for a statement to be reached."""
_MEMBER: Final = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')"


@dataclass(frozen=True)
class Trouble:
    """What goes wrong, how often: at a statement, or (`site` None) at COMMIT."""

    site: tuple[str, str] | None
    fault: str
    times: int


@dataclass(frozen=True)
class Post:
    """What is posted. `secrets`: None keeps the stored one, where there is one."""

    environment: str
    enabled: bool | None
    shortcode: str
    till_number: str | None
    secrets: tuple[str | None, str | None, str | None]

    def body(self, bar: UUID, has_row: bool) -> dict[str, Any]:
        """The JSON body; the mask keeps a stored secret, and where none is stored a new one is posted."""
        values = self.kept_or_new(has_row)
        return {
            "barId": str(bar),
            "mpesa_environment": self.environment,
            "mpesa_business_shortcode": self.shortcode,
            "mpesa_account_type": "paybill" if self.till_number is None else "till",
            **({} if self.till_number is None else {"mpesa_till_number": self.till_number}),
            **({} if self.enabled is None else {"mpesa_enabled": self.enabled}),
            **{f"mpesa_{name}": value or MASK for name, value in zip(SECRET_FIELDS, values, strict=True)},
        }

    def kept_or_new(self, has_row: bool) -> list[str | None]:
        """The new secrets; None only where one is stored."""
        return [value or (None if has_row else f"first-{place}-secret") for place, value in enumerate(self.secrets)]


_secret: Final = st.none() | st.text("abcdefghijkMNOPQ0123456789+/=_-", min_size=12, max_size=64).map("k9".__add__)
_number: Final = st.from_regex("[1-46-9][0-9]{4,6}", fullmatch=True).filter(lambda text: text != "174379")
posts: Final = st.builds(
    Post,
    environment=st.sampled_from(ENVIRONMENTS),
    enabled=st.sampled_from((True, False, None)),
    shortcode=_number,
    till_number=st.none() | _number,
    secrets=st.tuples(_secret, _secret, _secret),
)


def turns() -> Iterator[tuple[tuple[str, str] | None, str]]:
    """Give every statement with every fault in turn, and a cut at every fourth: Hypothesis would leave some out."""
    statements = zip(cycle(SITES), cycle(RAISED), strict=False)
    for cut in cycle(CUTS):
        yield from islice(statements, 3)
        yield None, cut.value


def meeting(trouble: Trouble, state: State, post: Post) -> tuple[State, Post]:
    """Change a state and what is posted so that the statement in question is really executed."""
    when, table = trouble.site or ("", "")
    if table in ("public.bars", "mpesa_sync.alerts"):
        return replace(state, mpesa_enabled=False), replace(post, enabled=True)
    if table == "public.mpesa_credentials":
        stored = getattr(state, post.environment)
        wanted: Row = "absent" if "insert" in when else False if stored == "absent" else stored
        return (
            (replace(state, sandbox=wanted) if post.environment == "sandbox" else replace(state, production=wanted)),
            post,
        )
    return state, post


@dataclass
class Scene:
    """A serving process behind a proxy to its database, and an owner of every bar of the test."""

    site: Site
    proxy: TcpProxy
    owner: Asker
    turns: Iterator[tuple[tuple[str, str] | None, str]]


@pytest.fixture
async def scene(database_url: str, sql: Any) -> AsyncIterator[Scene]:
    """As `site`, with four quick attempts and a proxy between pool and server; it listens without the proxy."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(TcpProxy.before(database_url))
        url = proxy.url_for(database_url)
        database = await stack.enter_async_context(connect(url, kms_keys=[KEY], retry=QUICK))
        site = await stack.enter_async_context(web.running(database, database_url))
        yield Scene(site, proxy, await site.person(sql), turns())


@pytest.fixture
def fired() -> Iterator[Counter[Any]]:
    """Count where and with what a fault was really met; one that never was is red."""
    met: Counter[Any] = Counter()
    yield met
    missing = [what for what in (*SITES, *RAISED, *(cut.value for cut in CUTS)) if not met[what]]
    assert not missing, "a fault that never fired proves nothing"
    assert met["saved in spite of it"], "no save survived its fault: retries were not seen"
    assert met["refused"], "no save was refused"


@pytest.mark.timeout(400)
@settings(max_examples=156, phases=[Phase.generate])
@given(times=st.sampled_from((1, ATTEMPTS - 1, ATTEMPTS, ALWAYS)), state=states, post=posts)
async def test_a_save_over_http_is_all_there_or_not_at_all_and_the_answer_says_which(
    scene: Scene, sql: Any, fired: Counter[Any], times: int, state: State, post: Post
) -> None:
    """Feature: mpesa-sync-fix, Property 6: API Atomic Operations.

    Credentials that open to what was posted, both fields, details and the audit entry; or, by the digest of every
    table, nothing but an alert and the tombstone of the operation. The answer claims what the database shows, and
    `GET /api/operations/{id}` tells the same (R4.1, R4.2, R5.3).
    Red when the service stores credentials in a transaction of their own, and when success is said before COMMIT.
    """
    trouble = Trouble(*next(scene.turns), times)
    note(f"{trouble}")
    state, post = meeting(trouble, state, post)
    bar = await add_bar(sql)
    await put(sql, bar, state)
    await sql.execute(_MEMBER, scene.owner.id, bar)
    if trouble.site in _BEFORE:
        await sql.execute(_BEFORE[trouble.site], bar)
    has_row = post.environment in state.flags
    before = await database_hash(sql)
    answer = await posted(scene, sql, trouble, post.body(bar, has_row), fired)
    body = answer.json()
    fired["saved in spite of it" if answer.status_code == 200 else "refused"] += 1
    operation_id = UUID(body["operation_id"])
    outcome = await sql.fetchval("select outcome from mpesa_sync.operations where id = $1", operation_id)
    asked = await scene.site.client.get(f"/api/operations/{operation_id}", headers=scene.owner.headers)
    assert (asked.status_code, asked.json().get("outcome")) == ((200, outcome) if outcome else (404, "failed"))
    if answer.status_code != 200:
        check_refusal(answer, outcome)
    if outcome == "applied":
        assert answer.status_code == 200 or body["outcome"] == "unknown"
        await check_all(sql, bar, state, post, has_row)
    else:
        assert answer.status_code != 200
        allowed = OF_ALERTS | ({"mpesa_sync.operations"} if outcome == "failed" else set())
        assert changed_tables(before, await database_hash(sql)) <= allowed


async def posted(scene: Scene, sql: Any, trouble: Trouble, body: dict[str, Any], fired: Counter[Any]) -> Any:
    """Post with the trouble at work, count whether it fired, and take it back."""
    send = scene.site.client.post("/api/mpesa-settings", headers=scene.owner.headers, json=body)
    if trouble.site is not None:
        when, table = trouble.site
        async with injected(sql, when, table, trouble.fault, times=trouble.times):
            answer = await send
        if await reached(sql):
            fired.update((trouble.site, trouble.fault))
        return answer
    cut = Fault(trouble.fault)
    met = scene.proxy.fired[cut]
    arm = scene.proxy.cut_before_commit if cut is Fault.CUT_BEFORE_COMMIT else scene.proxy.cut_after_commit
    arm(times=min(trouble.times, 2 * ATTEMPTS))
    answer = await send
    scene.proxy.disarm()
    fired[trouble.fault] += scene.proxy.fired[cut] - met
    return answer


def check_refusal(answer: Any, outcome: str | None) -> None:
    """A problem document that says whether to retry, and neither a database's text nor a secret."""
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code in (409, 500, 503)
    assert body["outcome"] in ("failed", "unknown")
    assert body["outcome"] == "failed" or outcome != "failed"
    assert body["retryable"] is (answer.status_code == 503 and body["outcome"] == "failed")
    assert ("retry-after" in answer.headers) is body["retryable"], "nobody repeats what may have been done"
    assert body["error"]
    assert body["code"]
    assert "injected" not in answer.text
    assert "k9" not in body["error"] + "".join(body["details"])


async def check_all(sql: Any, bar: UUID, state: State, post: Post, has_row: bool) -> None:
    """All of it is stored as posted."""
    row = await sql.fetchrow(_ROW, bar, post.environment)
    for name, place, value in zip(SECRET_FIELDS, SECRETS, post.kept_or_new(has_row), strict=True):
        opened = open_stored(KEYS, row[f"{name}_enc"]).secret.reveal()
        assert opened == (place.reveal() if value is None else value)
    assert row["business_shortcode"] == post.shortcode
    till = (row["account_type"] or "paybill", row["till_number"] or "")
    assert till == (("paybill", "") if post.till_number is None else ("till", post.till_number))
    seen = await see(sql, bar)
    assert seen is not None
    was_on = any(flag is True for flag in state.flags.values())
    assert not seen.drifted
    assert seen.authority is (was_on if post.enabled is None else post.enabled)
    if post.enabled:
        assert seen.active == [post.environment]
    operations = await sql.fetch(_OPERATIONS, bar)
    assert {record["outcome"] for record in operations} == {"applied"}
    after: dict[str, Any] = {}
    for record in operations:
        after |= json.loads(record["after"] or "{}")
    assert after["saved"]["environment"] == post.environment
    changed = state.flags != {**seen.flags} or state.mpesa_enabled is not seen.mpesa_enabled
    if post.enabled is not None and changed:
        assert after["credentials"] == seen.flags
        assert after["mpesa_enabled"] is seen.mpesa_enabled


async def test_every_statement_of_a_save_is_one_at_which_faults_are_met(scene: Scene, sql: Any) -> None:
    """P6: whatever rows a save writes, asked of the database itself, a fault was met there: a new table is red."""
    await touched.note(sql)
    found: set[tuple[str, str]] = set()
    for number, (state, enabled) in enumerate([(STATES[0], True), *((state, False) for state in STATES[1::5])]):
        bar = await add_bar(sql)
        await put(sql, bar, state)
        await sql.execute(_MEMBER, scene.owner.id, bar)
        await sql.execute(_BEFORE["before update", "mpesa_sync.alerts"], bar)
        for again in range(2):
            await touched.forget(sql)
            post = Post("production", enabled is (again == 0), f"60012{number}", None, ("k9a-new-secret",) * 3)
            answer = await scene.site.client.post(
                "/api/mpesa-settings", headers=scene.owner.headers, json=post.body(bar, has_row=True)
            )
            assert answer.status_code == 200, answer.text
            found |= await touched.noted(sql)
    assert ("update", "public.bars") in found
    assert found - COURTESY <= {(when.split()[1], table) for when, table in SITES}
