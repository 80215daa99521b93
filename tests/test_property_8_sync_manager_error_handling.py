"""Property 8: whatever fails, how often and where: retried as its class says, alerted or not, and never half (R5).

Every fault is real: a trigger raises it, at a statement or at COMMIT, or ends the backend; a proxy cuts the connection.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db.pool import Database
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import MpesaSyncError, OutcomeUnknown
from mpesa_sync.identity.people import Person
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.databases import plain
from tests.support.failures import (
    ATTEMPTS,
    CUTS,
    DEEDS,
    LOST,
    MISTAKE,
    REFUSED,
    SITES,
    TRANSIENT,
    TURNS,
    UNDONE,
    WRONG_KEY,
    Deed,
    Draw,
    Expected,
    oracle,
)
from tests.support.faults import (
    ALWAYS,
    QUICK,
    has_no_transaction,
    injected,
    injected_at_commit,
    logged,
    named,
    reached,
    until,
)
from tests.support.observer import OF_ALERTS, Seen, changed_tables, database_hash, see
from tests.support.people import add_account, person
from tests.support.venues import KEY, Row, add_bar
from tests.support.watching import watching

_ALERTS: Final = "select kind, state, count, sqlstate, operation_id from mpesa_sync.alerts where bar_id = $1"
_OUTCOME: Final = "select outcome from mpesa_sync.operations where id = $1"
_STUBBORN: Final = """
create or replace function public.stubborn() returns trigger language plpgsql as
$$ begin new.mpesa_enabled := old.mpesa_enabled; return new; end $$;
create trigger zz before update on public.bars for each row execute function public.stubborn();
"""


@dataclass
class Scene:
    """A database behind a proxy, one with another key, two connections that go around it, and a person."""

    db: Database
    with_another_key: Database
    proxy: TcpProxy
    observer: Any
    owner: Person
    stranger: Person
    turns: Iterator[str]


@pytest.fixture
async def scene(database_url: str, db: Database) -> AsyncIterator[Scene]:
    """Four quick attempts, as in production but for the waits."""
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(TcpProxy.before(database_url))
        url = proxy.url_for(database_url)
        quick = await stack.enter_async_context(connect(url, kms_keys=[KEY], retry=QUICK))
        other = await stack.enter_async_context(connect(url, kms_keys=[generate_key()], retry=QUICK))
        observer = await stack.enter_async_context(plain(database_url))
        owner, stranger = [person(await add_account(db, name)) for name in ("Asha", "Stranger")]
        yield Scene(quick, other, proxy, observer, owner, stranger, cycle(TURNS))


@pytest.fixture
def fired() -> Iterator[Counter[Any]]:
    """Count what was really met; a class, a place or a deed that never was is red."""
    met: Counter[Any] = Counter()
    yield met
    assert not [what for what in (*set(TURNS), *SITES, *DEEDS) if not met[what]], "what never fired proves nothing"
    assert min(met["success"], met["error"], met["replayed"], met["buried"], met["unknown"]) > 0, met


async def prepared(sql: Any, scene: Scene, draw: Draw) -> UUID:
    """Add a bar on which the deed has something to write."""
    on = draw.deed == "off"
    row: Row = draw.deed in ("off", "repair")
    if draw.fault == MISTAKE and draw.deed == "on":
        row = "absent"
    bar = await add_bar(sql, mpesa_enabled=on, production=row)
    member = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')"
    await sql.execute(member, scene.owner.id, bar)
    return bar


def call_of(scene: Scene, draw: Draw, bar: UUID, operation_id: UUID) -> Callable[[], Awaitable[Any]]:
    """Return the call, with the caller's mistake in it where that is what the example is about."""
    database = scene.with_another_key if draw.fault == WRONG_KEY else scene.db
    manager, wrong = MpesaSyncManager(database), draw.fault == MISTAKE
    if draw.deed == "save":
        who = scene.stranger if wrong and draw.times == 1 else scene.owner
        passkey = Secret("short" if wrong else f"a-new-passkey-{uuid4().hex}")
        change = SettingsChange(bar, enabled=True, environment=Environment.PRODUCTION, passkey=passkey)
        return lambda: SettingsService(database).save(change, who, operation_id=operation_id)
    actor = "" if wrong and draw.times == 1 else "Asha"
    target = uuid4() if wrong and draw.deed != "on" else bar
    if draw.deed == "repair":
        return lambda: manager.repair_inconsistency(target, actor=actor, operation_id=operation_id)
    return lambda: manager.sync_mpesa_status(target, draw.deed == "on", actor=actor, operation_id=operation_id)


@asynccontextmanager
async def troubled(scene: Scene, sql: Any, draw: Draw) -> AsyncIterator[Callable[[], Awaitable[int]]]:
    """Arm the fault of an example; give a function that says how often it was met."""

    async def no_trouble() -> int:
        return 1

    if draw.fault in (MISTAKE, WRONG_KEY):
        yield no_trouble
    elif draw.fault == UNDONE:
        await sql.execute(_STUBBORN)
        async with injected(sql, "after update", "public.bars", "none", times=0):
            yield lambda: reached(sql)
        await sql.execute("drop trigger zz on public.bars")
    elif draw.fault in CUTS:
        kind = Fault(draw.fault)
        met = scene.proxy.fired[kind]
        arm = scene.proxy.cut_before_commit if kind is Fault.CUT_BEFORE_COMMIT else scene.proxy.cut_after_commit
        arm(times=draw.times)

        async def cut() -> int:
            return scene.proxy.fired[kind] - met

        yield cut
        scene.proxy.disarm()
    else:
        async with triggered(sql, draw):
            yield lambda: reached(sql)


def triggered(sql: Any, draw: Draw) -> AbstractAsyncContextManager[None]:
    times = ALWAYS if draw.times > ATTEMPTS else draw.times
    if draw.at_commit:
        return injected_at_commit(sql, draw.fault, times=times)
    return injected(sql, *draw.site, draw.fault, times=times)


@pytest.mark.timeout(240)
@settings(max_examples=120, phases=[Phase.generate])
@given(
    deed=st.sampled_from(DEEDS), site=st.sampled_from(SITES), times=st.sampled_from((1, 2, ATTEMPTS - 1, ATTEMPTS, 5))
)
async def test_every_failure_is_retried_alerted_and_answered_as_its_class_says(
    scene: Scene, sql: Any, fired: Counter[Any], deed: Deed, site: tuple[str, str], times: int
) -> None:
    """Feature: mpesa-sync-fix, Property 8: Sync Manager Error Handling.

    Retried with back-off at most three times and only where that can help; a success, or nothing at all by the digest
    of every table; a lost COMMIT answered once it is known and called unknown where it is not; one alert where a
    person is needed, at once where trying again cannot help, none for the caller's own mistakes (R5.1, R5.2, R5.3).
    Red with a retry more or less, with an alert inside the failed transaction or for a refusal, and when a step of the
    unit is committed by itself.
    """
    draw = Draw(deed, next(scene.turns), site, times)
    if draw.fault == WRONG_KEY:
        draw = Draw("on", WRONG_KEY, site, 1)
    note(f"{draw}")
    expected, bar, operation_id = oracle(draw), await prepared(sql, scene, draw), uuid4()
    before, was = await database_hash(sql), await see(sql, bar)
    assert was is not None
    error: MpesaSyncError | None = None
    async with watching(scene.observer, [bar]) as watch, troubled(scene, sql, draw) as met:
        with logged() as events:
            try:
                await call_of(scene, draw, bar, operation_id)()
            except MpesaSyncError as caught:
                error = caught
        hits = await met()
    assert hits >= min(times, expected.attempts, 1), "the fault was never met"
    assert type(error) is (expected.error or type(None)), f"{error!r}"
    check_attempts(expected, error, events, operation_id)
    await check_alert(sql, expected, bar, operation_id, events)
    outcome = await settled_outcome(sql, operation_id, expected)
    assert outcome == expected.outcome
    check_states(draw, was, watch.of(bar), applied=outcome == "applied")
    if error is not None and outcome != "applied":
        allowed = {"mpesa_sync.operations"} if outcome == "failed" else set()
        assert changed_tables(before, await database_hash(sql)) <= OF_ALERTS | allowed
    fired.update((draw.fault, draw.deed, *([draw.site] if draw.fault in (*TRANSIENT, *LOST, *REFUSED) else [])))
    fired["success" if error is None else "error"] += 1
    fired["replayed"] += draw.fault == CUTS[1] and error is None
    fired["buried"] += outcome == "failed"
    fired["unknown"] += expected.error is OutcomeUnknown


def check_attempts(
    expected: Expected, error: MpesaSyncError | None, events: list[dict[str, Any]], operation_id: UUID
) -> None:
    """One event an attempt, all of the one operation id; the error and the event of the operation count the same."""
    said = named(events, Event.SYNC_ATTEMPT)
    attempts = expected.attempts
    assert [event["attempt"] for event in said] == list(range(1, attempts + 1))
    assert {event["operation_id"] for event in said} <= {str(operation_id)}
    assert all(event["retry_in_s"] is not None for event in said[:-1]), "a retry is announced with its wait"
    if error is not None:
        assert error.attempts == attempts
    operations = [*named(events, Event.SYNC_OPERATION), *named(events, Event.SYNC_REFUSED)]
    assert [event["attempts"] for event in operations] == ([attempts] if attempts else [])


async def check_alert(
    sql: Any, expected: Expected, bar: UUID, operation_id: UUID, events: list[dict[str, Any]]
) -> None:
    """One alert of the right kind, raised after the last attempt and stored; or none at all."""
    raised = named(events, Event.ALERT_RAISED)
    assert [event["kind"] for event in raised] == ([expected.alert] if expected.alert else [])
    stored = [tuple(record)[:3] for record in await sql.fetch(_ALERTS, bar)]
    assert stored == ([(expected.alert, "firing", 1)] if expected.alert else [])
    if raised:
        order = [event["event"] for event in events]
        assert order.index(Event.ALERT_RAISED) > max(
            place for place, name in enumerate(order) if name == Event.SYNC_ATTEMPT
        )
        assert await sql.fetchval("select operation_id from mpesa_sync.alerts where bar_id = $1", bar) == operation_id


async def settled_outcome(sql: Any, operation_id: UUID, expected: Expected) -> str | None:
    """Return what the operation's row says; a server that was cut off may need a moment to end what it had."""
    if expected.error is OutcomeUnknown:
        await until(lambda: has_no_transaction(sql))
    value: str | None = await sql.fetchval(_OUTCOME, operation_id)
    return value


def check_states(draw: Draw, was: Seen, states: list[Seen], *, applied: bool) -> None:
    """Each read of both fields in one statement shows the bar as it was, or as it was asked to be, in this order."""
    on = draw.deed != "off"
    wanted = Seen(was.bar_id, on, dict.fromkeys(was.flags, on))
    assert states == ([was, wanted] if applied else [was])
    assert applied or states == [was]
