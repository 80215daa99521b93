"""Connections that are lost at every place of a unit, by a real proxy, and what then is known (faults.md, R5)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db import operations, session
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.errors import OperationConflict, OutcomeUnknown, TransientFault
from mpesa_sync.monitoring.names import Event
from tests.support.databases import plain
from tests.support.faults import (
    QUICK,
    has_no_transaction,
    injected,
    logged,
    named,
    reached,
    until,
    waits_for_a_lock,
)
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.venues import KEY, add_bar


@dataclass
class Bench:
    """A database behind a proxy, one observer that goes around it, and a bar that is off."""

    proxy: TcpProxy
    db: Database
    sql: Any
    bar: UUID

    async def switch(self, operation_id: UUID, *, on: bool = True) -> Any:
        return await MpesaSyncManager(self.db).sync_mpesa_status(self.bar, on, operation_id=operation_id)

    async def warm(self) -> None:
        """Open a connection beforehand, so that a closed port meets only the attempts after the first."""
        await MpesaSyncManager(self.db).validate_sync(self.bar)

    async def shown(self) -> bool:
        """Both fields, which must agree."""
        seen = await see(self.sql, self.bar)
        assert seen is not None
        assert not seen.drifted
        return seen.authority

    async def outcome(self, operation_id: UUID) -> str | None:
        value: str | None = await self.sql.fetchval(
            "select outcome from mpesa_sync.operations where id = $1", operation_id
        )
        return value


@pytest.fixture
async def bench(database_url: str) -> AsyncIterator[Bench]:
    """See `Bench`; the trigger on the bar counts every update that the server was asked for."""
    async with opened(database_url) as made, injected(made.sql, "before update", "public.bars", "none", times=0):
        yield made


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Bench]:
    async with TcpProxy.before(url) as proxy, plain(url) as sql:
        options = {"retry": QUICK, **options}
        async with connect(proxy.url_for(url), kms_keys=[KEY], **options) as db:
            yield Bench(proxy, db, sql, await add_bar(sql, production=False))


async def test_a_database_that_is_down_is_tried_four_times_then_said(bench: Bench) -> None:
    """Fault matrix, database down at begin: bounded, retryable, with its result; the alert needs no database (R5.2)."""
    operation_id, before = uuid4(), await database_hash(bench.sql)
    await bench.proxy.close_port()
    began = time.monotonic()
    with logged() as events, pytest.raises(TransientFault) as failed:
        await bench.switch(operation_id)
    assert time.monotonic() - began < 5
    error = failed.value
    assert (error.attempts, error.retryable, error.http_status) == (4, True, 503)
    assert (error.result.success, error.result.changed, error.result.attempts) == (False, False, 4)
    assert error.result.operation_id == operation_id
    assert len(named(events, Event.SYNC_ATTEMPT)) == 4
    assert [event["attempt"] for event in named(events, Event.SYNC_ATTEMPT)] == [1, 2, 3, 4]
    (alert,) = named(events, Event.ALERT_RAISED)
    assert (alert["kind"], alert["bar_id"], alert["operation_id"]) == ("sync_failed", str(bench.bar), str(operation_id))
    assert len(named(events, Event.ALERT_NOT_STORED)) == 1
    order = [event["event"] for event in events]
    assert order.index(Event.ALERT_RAISED) < order.index(Event.ALERT_NOT_STORED), "logged first"
    assert changed_tables(before, await database_hash(bench.sql)) == set()
    await bench.proxy.open_port()
    assert (await bench.switch(operation_id)).success, "the same call works once the database is back"


async def test_a_database_that_comes_back_in_time_is_not_noticed(bench: Bench) -> None:
    """R5.1: two refused connections, then success, in one call."""
    bench.proxy.refuse_connections(times=2)
    result = await bench.switch(uuid4())
    assert bench.proxy.fired == {Fault.REFUSE: 2}
    assert (result.success, result.attempts, await bench.shown()) == (True, 3, True)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    "statement",
    ["begin isolation", "insert into mpesa_sync.operations", "lock_bar", "write_status", "finish_operation"],
)
async def test_a_connection_reset_at_any_statement_writes_nothing_and_is_retried(
    bench: Bench, statement: str, after: bool
) -> None:
    """Fault matrix, connection reset after the first update: the whole unit again on a new connection, applied once."""
    operation_id = uuid4()
    bench.proxy.cut_statement(statement, after=after)
    with logged() as events:
        result = await bench.switch(operation_id)
    assert bench.proxy.fired.total() == 1, f"{statement} was never cut"
    assert (result.success, result.changed, result.attempts) == (True, True, 2)
    assert await bench.shown() is True
    assert await bench.outcome(operation_id) == "applied"
    assert not named(events, Event.ALERT_RAISED)
    written = statement in {"finish_operation"} or (statement == "write_status" and after)
    assert await reached(bench.sql) == 1 + written, "each attempt updates the bar once"


async def test_a_backend_that_is_terminated_in_the_middle_is_retried(database_url: str) -> None:
    """Fault matrix, `pg_terminate_backend` after the first update: as a reset; the pool gets rid of the connection."""
    async with opened(database_url, pool_size=1) as bench:
        async with injected(bench.sql, "after update", "public.mpesa_credentials", "terminate", times=1):
            result = await bench.switch(uuid4())
            assert await reached(bench.sql) == 2
        assert (result.success, result.attempts, await bench.shown()) == (True, 2, True)


async def test_idle_connections_that_the_server_ends_are_not_noticed(database_url: str) -> None:
    """Fault matrix, server restarted: whatever the driver has read of the farewell, the call goes through."""
    async with opened(database_url, pool_size=1, application_name="idle") as bench:
        ended, retried = 0, 0
        for number in range(30):
            await bench.warm()
            ended += await bench.sql.fetchval(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                "where datname = current_database() and application_name = 'idle'"
            )
            for _ in range(number % 6):
                await asyncio.sleep(0)
            result = await bench.switch(uuid4(), on=number % 2 == 0)
            retried += result.attempts > 1
        assert ended == 30
        assert retried > 0, "the driver always knew beforehand"


async def test_a_cut_before_commit_is_retried_under_the_same_id_and_applied_once(bench: Bench) -> None:
    """Fault matrix, reset while COMMIT is in flight, not forwarded: the second attempt applies it."""
    operation_id = uuid4()
    bench.proxy.cut_before_commit()
    result = await bench.switch(operation_id)
    assert bench.proxy.fired == {Fault.CUT_BEFORE_COMMIT: 1}
    assert (result.success, result.changed, result.attempts) == (True, True, 2)
    assert (await bench.shown(), await bench.outcome(operation_id)) == (True, "applied")
    assert await reached(bench.sql) == 2, "the first attempt's work was rolled back and done anew"


async def test_a_cut_after_commit_is_settled_by_replay(bench: Bench) -> None:
    """Fault matrix, the same, forwarded: applied by the first attempt, answered by the second, never both (R5.3)."""
    operation_id = uuid4()
    bench.proxy.cut_after_commit()
    with logged() as events:
        result = await bench.switch(operation_id)
    assert bench.proxy.fired == {Fault.CUT_AFTER_COMMIT: 1}
    assert (result.success, result.changed, result.attempts) == (True, True, 2), "changed, as the first attempt said"
    assert await reached(bench.sql) == 1, "the second attempt wrote nothing"
    assert (await bench.shown(), await bench.outcome(operation_id)) == (True, "applied")
    assert [event["outcome"] for event in named(events, Event.SYNC_OPERATION)] == ["replayed"]
    assert [event["outcome"] for event in named(events, Event.SYNC_ATTEMPT)] == ["outcome_unknown", "ok"]


async def test_the_same_retry_without_an_operation_id_applies_it_twice(bench: Bench, database_url: str) -> None:
    """The twin: a plain retry of a transaction whose COMMIT was not answered does the work again (faults.md 1)."""
    bench.proxy.cut_after_commit()
    for _ in range(2):
        connection = await asyncpg.connect(bench.proxy.url_for(database_url))
        try:
            async with connection.transaction():
                await connection.execute("update public.bars set name = name || '!' where id = $1", bench.bar)
            break
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            continue
        finally:
            connection.terminate()
    assert bench.proxy.fired == {Fault.CUT_AFTER_COMMIT: 1}
    name = await bench.sql.fetchval("select name from public.bars where id = $1", bench.bar)
    assert name.endswith("!!"), "done twice, and this bench sees it"


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not committed"])
async def test_where_nobody_can_be_asked_the_outcome_is_unknown_and_the_id_settles_it_later(
    bench: Bench, committed: bool
) -> None:
    """Fault matrix: COMMIT cut, the database out of reach: `unknown`, alerted; the same id later applies or replays."""
    operation_id = uuid4()
    await bench.warm()
    await bench.proxy.close_port()
    (bench.proxy.cut_after_commit if committed else bench.proxy.cut_before_commit)()
    with logged() as events, pytest.raises(OutcomeUnknown) as unknown:
        await bench.switch(operation_id)
    assert bench.proxy.fired.total() == 1
    assert (unknown.value.attempts, unknown.value.result.success) == (4, False)
    assert unknown.value.retryable is False, "not to be repeated blindly under another id"
    assert [event["kind"] for event in named(events, Event.ALERT_RAISED)] == ["outcome_unknown"]

    await until(lambda: has_no_transaction(bench.sql))  # after a cut before COMMIT the server must first notice
    assert await bench.outcome(operation_id) == ("applied" if committed else None)
    assert await bench.shown() is committed
    await bench.proxy.open_port()
    again = await bench.switch(operation_id)
    assert (again.success, again.changed, again.attempts) == (True, True, 1)
    assert await reached(bench.sql) == (1 if committed else 2)
    assert (await bench.shown(), await bench.outcome(operation_id)) == (True, "applied")
    assert await bench.switch(operation_id) == again, "and again: the stored answer"


async def test_unknown_becomes_failed_only_by_a_tombstone_which_nothing_passes(bench: Bench) -> None:
    """faults.md 1: every COMMIT was cut, the tombstone stands; the id can never be applied afterwards."""
    operation_id, before = uuid4(), await database_hash(bench.sql)
    bench.proxy.cut_before_commit(times=4)
    with pytest.raises(TransientFault) as failed:
        await bench.switch(operation_id)
    assert bench.proxy.fired == {Fault.CUT_BEFORE_COMMIT: 4}
    assert failed.value.attempts == 4
    assert await bench.outcome(operation_id) == "failed"
    assert changed_tables(before, await database_hash(bench.sql)) == OF_ALERTS | {"mpesa_sync.operations"}
    for _ in range(2):
        with pytest.raises(OperationConflict):
            await bench.switch(operation_id)
    assert await bench.shown() is False
    assert await bench.outcome(operation_id) == "failed"
    assert (await bench.switch(uuid4())).success, "a new id works"


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_tombstone_waits_for_a_first_attempt_that_can_still_commit(
    bench: Bench, database_url: str, end: str
) -> None:
    """faults.md 1: a missing row is never proof of failure; only who inserted the id knows.

    The twin stands inside: a plain look during the wait finds no row and would say "failed", wrongly where the
    first attempt then commits.
    """
    operation = Operation(uuid4(), "switch", bench.bar, "first")
    async with plain(database_url) as first, plain(database_url) as second:
        await first.execute("begin")
        assert await operations.claim(first, operation)
        await second.execute(session.WRITE.sql)
        burying = asyncio.create_task(operations.claim(second, operation, statement=operations.TOMBSTONE))
        await until(lambda: waits_for_a_lock(bench.sql))
        naive_says_failed = await bench.outcome(operation.id) is None
        await operations.finish(first, operation, before=None, after=None, result={})
        await first.execute(end)
        buried = await burying
        await second.execute("commit")
    assert buried is (end == "rollback")
    assert naive_says_failed, "the twin said it in both cases"
    assert await bench.outcome(operation.id) == ("failed" if buried else "applied")


async def test_the_same_id_replays_and_another_request_under_it_is_a_conflict(bench: Bench) -> None:
    """faults.md 1: an id is one operation: same kind, bar and request, or `OperationConflict` and nothing written."""
    operation_id, manager = uuid4(), MpesaSyncManager(bench.db)
    first = await bench.switch(operation_id)
    assert await bench.switch(operation_id) == first
    assert await reached(bench.sql) == 1
    other = await add_bar(bench.sql, production=False)
    before = await database_hash(bench.sql)
    for call in (
        manager.sync_mpesa_status(bench.bar, False, operation_id=operation_id),
        manager.sync_mpesa_status(bench.bar, True, environment="production", operation_id=operation_id),
        manager.sync_mpesa_status(other, True, operation_id=operation_id),
        manager.repair_inconsistency(bench.bar, actor="x", operation_id=operation_id),
    ):
        with pytest.raises(OperationConflict) as refused:
            await call
        assert refused.value.result.success is False
    assert changed_tables(before, await database_hash(bench.sql)) == set()
