"""What is tried again, how often and after which waits: every SQLSTATE, at a statement and at COMMIT (R5.1, faults.md).

Every error is real: a trigger of the test raises it. The classes stand here a second time, written from faults.md.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.backoff import Backoff
from mpesa_sync.db import unit
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Done
from mpesa_sync.errors import (
    DatabaseFault,
    MpesaSyncError,
    OutcomeUnknown,
    ResourcesExhausted,
    SchemaError,
    TransientFault,
)
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from tests.support.clocks import HurriedClock
from tests.support.faults import ALWAYS, injected, injected_at_commit, logged, named, reached
from tests.support.observer import changed_tables, database_hash, see
from tests.support.venues import KEY, add_bar

ATTEMPTS: Final = 4
TRANSIENT: Final = ("40001", "40P01", "55P03", "57014", "25P03", "25P04", "53300")
LOST: Final = ("57P01", "57P02", "57P03", "57P05", "08000", "08001", "08003", "08004", "08006", "08007", "08P01")
EXHAUSTED: Final = ("53100", "53200")
SECURITY: Final = "42501"
NO_ERRORS: Final = ("00", "01", "02")
"""Classes of PostgreSQL's list that are no errors."""


def every_sqlstate() -> list[str]:
    """Return every SQLSTATE that the driver knows, and those of faults.md whether it knows them or not."""
    classes = [cls for _, cls in inspect.getmembers(asyncpg.exceptions, inspect.isclass)]
    states = [getattr(cls, "sqlstate", None) for cls in classes if issubclass(cls, asyncpg.PostgresError)]
    found = {str(state) for state in states if state}
    return sorted(code for code in found | {*TRANSIENT, *LOST, *EXHAUSTED} if not code.startswith(NO_ERRORS))


def named_class(sqlstate: str, *, at_commit: bool) -> str:
    """Say which class of faults.md a SQLSTATE is of."""
    if sqlstate in LOST:
        return "unknown" if at_commit else "transient"
    if sqlstate in TRANSIENT:
        return "transient"
    return "exhausted" if sqlstate in EXHAUSTED else "permanent"


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[tuple[Database, HurriedClock]]:
    """A database with the policy of production and a clock whose waits take no time."""
    clock = HurriedClock()
    async with connect(database_url, kms_keys=[KEY], clock=clock) as database:
        yield database, clock


def failing(sql: Any, sqlstate: str, times: int, *, at_commit: bool) -> AbstractAsyncContextManager[None]:
    """Raise a SQLSTATE in the middle of a unit, or as the answer to its COMMIT."""
    if at_commit:
        return injected_at_commit(sql, sqlstate, times=times)
    return injected(sql, "before update", "public.bars", sqlstate, times=times)


@pytest.mark.parametrize("at_commit", [False, True], ids=["at a statement", "at COMMIT"])
async def test_every_sqlstate_gets_the_treatment_of_its_class(
    hurried: tuple[Database, HurriedClock], sql: Any, at_commit: bool
) -> None:
    """R5.1, faults.md: each of PostgreSQL's codes, really raised: how often it was tried, what was said, what is left.

    Red with a retry more or less, with a class that is matched by the wrong letters, and where an answer to COMMIT is
    called unknown for any SQLSTATE.
    """
    database, _ = hurried
    manager, bar = MpesaSyncManager(database), await add_bar(sql, production=False)
    before, codes, tombstones = await see(sql, bar), every_sqlstate(), 0
    assert {"22003", "23514", "42501", "42P01", "P0001", "XX000"} <= set(codes)
    for sqlstate in codes:
        kind, operation_id = named_class(sqlstate, at_commit=at_commit), uuid4()
        async with failing(sql, sqlstate, ALWAYS, at_commit=at_commit):
            with logged() as events, pytest.raises(MpesaSyncError) as failed:
                await manager.sync_mpesa_status(bar, True, operation_id=operation_id)
            met = await reached(sql)
        error, tries = failed.value, ATTEMPTS if kind in ("transient", "unknown") else 1
        assert (met, error.attempts) == (tries, tries), f"{sqlstate} is {kind}"
        assert error.sqlstate == sqlstate
        check_class(error, kind)
        said = named(events, Event.SYNC_ATTEMPT)
        assert [event["attempt"] for event in said] == list(range(1, tries + 1)), sqlstate
        assert {event["sqlstate"] for event in said} == {sqlstate}
        assert {event["outcome"] == "outcome_unknown" for event in said} == {kind == "unknown"}, sqlstate
        (operation,) = named(events, Event.SYNC_OPERATION)
        assert (operation["attempts"], operation["sqlstate"]) == (tries, sqlstate)
        tombstones += kind == "unknown"
    assert await see(sql, bar) == before, "nothing was written by any of them"
    outcomes = await sql.fetch("select outcome, count(*) from mpesa_sync.operations group by outcome")
    assert dict(outcomes) == ({"failed": tombstones} if tombstones else {})
    assert tombstones == (len(LOST) if at_commit else 0)


def check_class(error: MpesaSyncError, kind: str) -> None:
    """The error is of the class, and says whether trying again later makes sense."""
    if kind in ("transient", "unknown"):  # unknown, and then settled: the tombstone proves that nothing was written
        assert type(error) is TransientFault
    elif kind == "exhausted":
        assert type(error) is ResourcesExhausted
    else:
        assert isinstance(error, DatabaseFault | SchemaError)
        assert not isinstance(error, TransientFault | OutcomeUnknown | ResourcesExhausted)
    assert error.retryable is (kind != "permanent")


@pytest.mark.parametrize("at_commit", [False, True], ids=["at a statement", "at COMMIT"])
async def test_what_passes_is_overcome_and_applied_once(
    hurried: tuple[Database, HurriedClock], sql: Any, at_commit: bool
) -> None:
    """R5.1: each transient or lost SQLSTATE three times, then success at the fourth attempt, under the same id."""
    database, clock = hurried
    manager, bar = MpesaSyncManager(database), await add_bar(sql, production=False)
    for number, sqlstate in enumerate((*TRANSIENT, *LOST)):
        wanted, operation_id, waited = number % 2 == 0, uuid4(), len(clock.waits_s)
        async with failing(sql, sqlstate, ATTEMPTS - 1, at_commit=at_commit):
            with logged() as events:
                result = await manager.sync_mpesa_status(bar, wanted, operation_id=operation_id)
            assert await reached(sql) == ATTEMPTS
        assert (result.success, result.changed, result.attempts) == (True, True, ATTEMPTS), sqlstate
        said = named(events, Event.SYNC_ATTEMPT)
        assert [event["sqlstate"] for event in said] == [sqlstate] * 3 + [None]
        assert {event["operation_id"] for event in events if "operation_id" in event} == {str(operation_id)}
        assert not named(events, Event.ALERT_RAISED)
        assert len(clock.waits_s) - waited == ATTEMPTS - 1, "one wait before each retry"
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts") == 0
    applied = await sql.fetchval("select count(*) from mpesa_sync.operations where outcome = 'applied'")
    assert applied == len(TRANSIENT) + len(LOST)


async def test_the_waits_are_drawn_between_nothing_and_a_bound_that_doubles(sql: Any, database_url: str) -> None:
    """R5.1: full jitter over 100, 200 and 400 ms; and by the ordinary policy nobody waits the bound itself.

    Red without jitter, with another base or factor, and with a fourth retry.
    """
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return random.uniform(low, high)

    bar, failing, clock = await add_bar(sql, production=False), 12, HurriedClock()
    async with (
        connect(database_url, kms_keys=[KEY], clock=clock) as plain,
        connect(database_url, kms_keys=[KEY], retry=Backoff(uniform=uniform), clock=HurriedClock()) as watched,
        injected(sql, "before update", "public.bars", "40001"),
    ):
        for database in (*[plain] * failing, watched):
            with pytest.raises(TransientFault):
                await MpesaSyncManager(database).sync_mpesa_status(bar, True)
    assert asked == [(0.0, 0.1), (0.0, 0.2), (0.0, 0.4)]
    assert len(clock.waits_s) == 3 * failing
    bounds = [0.1, 0.2, 0.4] * failing
    assert all(0 <= wait <= bound for wait, bound in zip(clock.waits_s, bounds, strict=True))
    shares = {round(wait / bound, 3) for wait, bound in zip(clock.waits_s, bounds, strict=True)}
    assert len(shares) > failing, f"no jitter: {shares}"


@pytest.mark.parametrize(
    ("retry", "within_s", "waits_s"),
    [
        (Backoff(max_retries=99), None, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]),
        (Backoff(), None, [0.1, 0.2, 0.4]),
        (Backoff(max_retries=99), 1.0, [0.1, 0.2, 0.4]),
        (Backoff(), 0.5, [0.1, 0.2]),
        (Backoff(), 0.1, []),
        (Backoff(), 60.0, [0.1, 0.2, 0.4]),
        (Backoff(max_retries=99), 60.0, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]),
    ],
    ids=["8 s in all", "3 retries", "1 s", "half a second", "no time", "longer is not more", "nor over 8 s"],
)
async def test_waiting_ends_before_the_total_and_before_the_callers_deadline(
    sql: Any, database_url: str, retry: Backoff, within_s: float | None, waits_s: list[float]
) -> None:
    """R5.1: cap 2 s, at most 8 s in all and below `within_s`; no wait begins that would end later."""
    longest = Backoff(max_retries=retry.max_retries, uniform=lambda _low, high: high)
    clock, bar, ids = HurriedClock(), await add_bar(sql), set[UUID]()
    operation = Operation(uuid4(), "mark", bar, "policy")

    async def work(connection: Any) -> Done[int]:
        ids.update(record["id"] for record in await connection.fetch("select id from mpesa_sync.operations"))
        await connection.execute("do $$ begin raise exception 'no' using errcode = '40001'; end $$")
        raise AssertionError("the database raised")

    before = await database_hash(sql)
    async with connect(database_url, retry=longest, clock=clock) as database:
        with pytest.raises(TransientFault) as failed:
            await unit.run(database, operation, work, int, within_s=within_s)
    assert clock.waits_s == pytest.approx(waits_s)
    assert failed.value.attempts == len(waits_s) + 1
    assert ids == {operation.id}, "each attempt claims the one id anew"
    assert changed_tables(before, await database_hash(sql)) == set()


async def test_a_hang_does_not_outlast_the_callers_deadline(sql: Any, database_url: str) -> None:
    """R5.1: the attempt itself is cut off when the caller's time is over, in the middle of a statement."""
    bar = await add_bar(sql)

    async def work(connection: Any) -> Done[int]:
        await connection.execute("select pg_sleep(10)")
        raise AssertionError("it slept through")

    async with connect(database_url) as database:
        await MpesaSyncManager(database).validate_sync(bar)
        began = time.monotonic()
        with pytest.raises(TransientFault) as failed:
            await unit.run(database, Operation(uuid4(), "mark", bar, "policy"), work, int, within_s=0.3)
    assert 0.25 < time.monotonic() - began < 8, "it slept through"
    assert failed.value.attempts == 1


@pytest.fixture(params=["json", "console"])
def written(request: pytest.FixtureRequest) -> Iterator[tuple[str, io.StringIO]]:
    """Our log in one of its forms, at its most talkative."""
    root = logging.getLogger("mpesa_sync")
    level, propagate, handlers = root.level, root.propagate, root.handlers
    form: Literal["json", "console"] = request.param
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        logs.configure(form=form, level=logging.DEBUG)
    yield form, stderr
    root.handlers, root.propagate = handlers, propagate
    root.setLevel(level)


_CANARY: Final = "cNry7f3a9c51d2"
_SAYS_THE_ROW: Final = """
create function public.no() returns trigger language plpgsql as $$
begin raise exception 'cNry7f3a9c51d2 %', new.name using errcode = '40001', detail = 'cNry7f3a9c51d2'; end $$;
create trigger no before update on public.bars for each row execute function public.no();
"""


async def test_one_event_an_attempt_and_one_an_operation_in_both_forms_and_without_secrets(
    hurried: tuple[Database, HurriedClock], sql: Any, written: tuple[str, io.StringIO]
) -> None:
    """R5.1: operation id, bar, actor, attempt, outcome, duration, SQLSTATE; what the database said is not in it.

    A program may name itself by an address with a password in it, and a trigger may say the row: neither is logged.
    """
    database, _ = hurried
    form, stderr = written
    bar, operation_id = await add_bar(sql, production=False), uuid4()
    await sql.execute(_SAYS_THE_ROW)
    actor = f"postgresql://till:{_CANARY}@db.example/bars"
    with pytest.raises(TransientFault):
        await MpesaSyncManager(database).sync_mpesa_status(bar, True, actor=actor, operation_id=operation_id)
    lines = [line for line in stderr.getvalue().splitlines() if "sync.attempt" in line or "sync.operation" in line]
    assert len(lines) == ATTEMPTS + 1
    assert _CANARY not in stderr.getvalue()
    for number, line in enumerate(lines, start=1):
        event = json.loads(line) if form == "json" else dict(word.split("=", 1) for word in line.split() if "=" in word)
        is_attempt = number <= ATTEMPTS
        assert event["operation_id"] == str(operation_id)
        assert event["bar_id"] == str(bar)
        assert event["actor"] == "postgresql://till:***@db.example/bars"
        assert event["kind"] == "switch"
        assert str(event["attempt" if is_attempt else "attempts"]) == str(number if is_attempt else ATTEMPTS)
        assert event["outcome"] == "database_busy"
        assert event["sqlstate"] == "40001"
        assert float(event["duration_ms"]) >= 0
        if form == "json":
            assert event["event"] == ("sync.attempt" if is_attempt else "sync.operation")
            assert (event["level"], event["logger"]) == (
                ("warning", "mpesa_sync.transaction") if is_attempt else ("error", "mpesa_sync.sync")
            )
