"""What is tried again and what is not, which alert it becomes, and what ends the alert (R5.1, R5.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.backoff import Backoff
from mpesa_sync.db import session, transaction
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Done
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.errors import (
    AccessDenied,
    AmbiguousEnvironment,
    BarNotFound,
    ConstraintRefused,
    CredentialsMissing,
    CredentialsUnusable,
    EnvironmentNotAllowed,
    IntegrityFault,
    InvalidInput,
    KmsKeyMissing,
    OperationConflict,
    OutcomeUnknown,
    PermanentFault,
    PoolExhausted,
    ResourcesExhausted,
    TransientFault,
    TriggerRefused,
)
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import spool
from mpesa_sync.sync.settling import settled
from tests.support.faults import QUICK, injected, logged, named, reached
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.venues import KEY, add_bar

_ALERTS: Final = "select kind, state, count, sqlstate, cause, operation_id from mpesa_sync.alerts order by first_seen"


@pytest.fixture
async def quick(database_url: str) -> AsyncIterator[Database]:
    """As `db`, with hardly any waiting between its four attempts."""
    async with connect(database_url, kms_keys=[KEY], retry=QUICK) as database:
        yield database


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03", "57014", "57P01"])
async def test_a_transient_error_is_tried_four_times_and_then_alerted(quick: Database, sql: Any, sqlstate: str) -> None:
    """R5.1: counted by a sequence, which no rollback takes back; then one alert, with the SQLSTATE."""
    bar = await add_bar(sql, production=False)
    async with injected(sql, "before update", "public.bars", sqlstate):
        with pytest.raises(TransientFault) as failed:
            await MpesaSyncManager(quick).sync_mpesa_status(bar, True)
        assert await reached(sql) == 4
    assert (failed.value.attempts, failed.value.sqlstate) == (4, sqlstate)
    (alert,) = await sql.fetch(_ALERTS)
    assert (alert["kind"], alert["state"], alert["count"], alert["sqlstate"]) == ("sync_failed", "firing", 1, sqlstate)


@pytest.mark.parametrize(
    ("sqlstate", "fault", "kind"),
    [
        ("23514", ConstraintRefused, "database_refused"),
        ("22003", PermanentFault, "database_refused"),
        ("P0001", TriggerRefused, "database_refused"),
        ("42501", AccessDenied, "database_refused"),
        ("53100", ResourcesExhausted, "sync_failed"),
        ("53200", ResourcesExhausted, "sync_failed"),
    ],
)
async def test_a_permanent_error_is_not_retried_and_alerted_at_once(
    quick: Database, sql: Any, sqlstate: str, fault: type[Exception], kind: str
) -> None:
    """R5.2: one attempt; one open alert per (bar, kind), whose count grows; the next verified success resolves it."""
    bar, manager = await add_bar(sql, production=False), MpesaSyncManager(quick)
    async with injected(sql, "before update", "public.bars", sqlstate):
        for number in (1, 2, 3):
            operation_id = uuid4()
            with pytest.raises(fault), logged() as events:
                await manager.sync_mpesa_status(bar, True, operation_id=operation_id)
            assert await reached(sql) == number, "one attempt a call"
            (alert,) = await sql.fetch(_ALERTS)
            assert (alert["kind"], alert["count"], alert["operation_id"]) == (kind, number, operation_id)
            assert len(named(events, Event.ALERT_RAISED)) == 1
    await manager.sync_mpesa_status(bar, True)
    (alert,) = await sql.fetch(_ALERTS)
    assert (alert["state"], alert["count"]) == ("resolved", 3)
    async with injected(sql, "before update", "public.bars", sqlstate):
        with pytest.raises(fault):
            await manager.sync_mpesa_status(bar, False)
    states = [(alert["state"], alert["count"]) for alert in await sql.fetch(_ALERTS)]
    assert states == [("resolved", 3), ("firing", 1)], "a resolved alert stays as it was; a new one is opened"
    assert (await manager.repair_inconsistency(bar, actor="Otieno")).success
    assert {alert["state"] for alert in await sql.fetch(_ALERTS)} == {"resolved"}, "a repair is a verified success too"


async def test_the_callers_own_mistakes_never_alert(database_url: str, sql: Any) -> None:
    """R5.2: validation, unknown bar, missing or malformed credentials, conflict, no key: refused, nothing else."""
    none, two = await add_bar(sql), await add_bar(sql, sandbox=False, production=False)
    bad = await add_bar(sql, production=False, sealed=(b"", b"", b""))
    mask = ("\u2022" * 16).encode()
    masked = await add_bar(sql, production=False, sealed=(mask, mask, mask))
    sandbox, used = await add_bar(sql, sandbox=False), uuid4()
    before: dict[str, str] = {}
    async with connect(database_url, kms_keys=[KEY], allow_sandbox=False) as db, connect(database_url) as keyless:
        manager = MpesaSyncManager(db)
        await manager.sync_mpesa_status(two, False, operation_id=used)
        before = await database_hash(sql)
        mistakes: list[tuple[type[Exception], Any]] = [
            (BarNotFound, manager.sync_mpesa_status(uuid4(), True)),
            (BarNotFound, manager.repair_inconsistency(uuid4(), actor="x")),
            (CredentialsMissing, manager.sync_mpesa_status(none, True)),
            (CredentialsMissing, manager.sync_mpesa_status(bad, True)),
            (CredentialsUnusable, manager.sync_mpesa_status(masked, True)),
            (AmbiguousEnvironment, manager.sync_mpesa_status(two, True)),
            (EnvironmentNotAllowed, manager.sync_mpesa_status(sandbox, True)),
            (OperationConflict, manager.sync_mpesa_status(none, False, operation_id=used)),
            (InvalidInput, manager.sync_mpesa_status("not a uuid", True)),
            (InvalidInput, manager.sync_mpesa_status(two, "false")),  # type: ignore[arg-type]  # wrong on purpose
            (InvalidInput, manager.sync_mpesa_status(two, False, actor="")),
            (InvalidInput, manager.sync_mpesa_status(two, False, actor="a\x00b")),
            (InvalidInput, manager.sync_mpesa_status(two, True, environment="test")),  # type: ignore[arg-type]  # wrong on purpose
            (KmsKeyMissing, MpesaSyncManager(keyless).sync_mpesa_status(two, True)),
        ]
        with logged() as events:
            for mistake, call in mistakes:
                with pytest.raises(mistake) as refused:
                    await call
                assert refused.value.result.success is False  # type: ignore[attr-defined]  # of our errors
    assert not named(events, Event.ALERT_RAISED)
    assert {event["attempt"] for event in named(events, Event.SYNC_ATTEMPT)} == {1}
    assert changed_tables(before, await database_hash(sql)) == set()


async def test_what_a_foreign_trigger_changes_behind_our_back_is_an_integrity_fault(quick: Database, sql: Any) -> None:
    """R1: a trigger that undoes the flag silently is seen by the read-back: rolled back, not retried, alerted."""
    bar = await add_bar(sql, production=False)
    await sql.execute(
        "create function public.stubborn() returns trigger language plpgsql as "
        "$$ begin new.mpesa_enabled := old.mpesa_enabled; return new; end $$; "
        "create trigger zz before update on public.bars for each row execute function public.stubborn()"
    )
    before = await database_hash(sql)
    async with injected(sql, "after update", "public.bars", "none", times=0):
        with pytest.raises(IntegrityFault) as failed:
            await MpesaSyncManager(quick).sync_mpesa_status(bar, True)
        assert await reached(sql) == 1
    assert (failed.value.attempts, failed.value.result.success) == (1, False)
    assert "trigger or rule" in str(failed.value)
    assert changed_tables(before, await database_hash(sql)) == OF_ALERTS
    assert [(alert["kind"], alert["cause"]) for alert in await sql.fetch(_ALERTS)] == [
        ("database_refused", "integrity")
    ]


async def test_a_bar_that_must_keep_a_payment_method_rolls_back_the_pair_in_plain_words(
    quick: Database, sql: Any
) -> None:
    """existing-platform.md: the check of one shape refuses the switch-off (23514); both fields stay on."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    await sql.execute(
        "update public.bars set payment_cash_enabled = false; set constraints all immediate; "
        "alter table public.bars add constraint one_method "
        "check (mpesa_enabled or payment_card_enabled or payment_cash_enabled)"
    )
    before = await database_hash(sql)
    with pytest.raises(ConstraintRefused) as refused:
        await MpesaSyncManager(quick).sync_mpesa_status(bar, False)
    assert (refused.value.sqlstate, refused.value.constraint, refused.value.attempts) == ("23514", "one_method", 1)
    text = str(refused.value)
    assert text.startswith("The database refuses this change: the constraint one_method does not allow it.")
    assert "enabling another payment method" in text
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (True, ["production"])
    assert changed_tables(before, await database_hash(sql)) == OF_ALERTS
    assert "payment method" in await sql.fetchval("select what_to_do from mpesa_sync.alerts")


async def test_a_statement_that_hangs_is_stopped_and_the_unit_tried_again(quick: Database, sql: Any) -> None:
    """faults.md: `pg_sleep` in a trigger meets `statement_timeout` (57014); the second attempt goes through."""
    bar, began = await add_bar(sql, production=False), time.monotonic()
    async with injected(sql, "before update", "public.bars", "sleep", times=1):
        with logged() as events:
            result = await MpesaSyncManager(quick).sync_mpesa_status(bar, True)
        assert await reached(sql) == 2
    assert time.monotonic() - began < 6
    assert (result.success, result.attempts) == (True, 2)
    assert [event["sqlstate"] for event in named(events, Event.SYNC_ATTEMPT)] == ["57014", None]


async def test_an_exhausted_pool_is_said_quickly(database_url: str, sql: Any) -> None:
    """Fault matrix, pool exhausted: a quick, retryable 503; and all is well once a connection is free."""
    bar = await add_bar(sql, production=False)
    async with connect(database_url, kms_keys=[KEY], pool_size=2) as database:
        held = [await database.acquire(), await database.acquire()]
        began = time.monotonic()
        calls = [MpesaSyncManager(database).sync_mpesa_status(bar, True) for _ in range(50)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        duration_s = time.monotonic() - began
        for connection in held:
            await database.release(connection)
        assert {type(answer) for answer in answers} == {PoolExhausted}
        assert duration_s < 8, f"it took {duration_s:.1f} s"
        assert (await MpesaSyncManager(database).sync_mpesa_status(bar, True)).success


async def test_the_wait_for_a_connection_is_part_of_the_time_that_is_given(db: Database) -> None:
    """R5.1: 0.3 s are 0.3 s, also where every connection is in use."""
    held = [await db.acquire() for _ in range(db.connections[2])]
    began = time.monotonic()
    with pytest.raises(PoolExhausted):
        await transaction.once(db, session.WRITE, lambda connection: connection.fetchval("select 1"), budget_s=0.3)
    assert time.monotonic() - began < 1.5
    for connection in held:
        await db.release(connection)


async def test_settling_and_alerting_a_host_that_vanished_keep_to_the_deadline(
    database_url: str, sql: Any, tmp_path: Path
) -> None:
    """R5.1, R5.2: after 0.3 s of work at most 1 s of settling; the alert is said at once, and stored or spooled later.

    Red when one of those waits for its connection, or for its answer, as if nobody waited for it.
    """
    bar = await add_bar(sql)
    async with TcpProxy.before(database_url) as proxy:

        def vanish(_low: float, _high: float) -> float:
            proxy.black_hole()
            return 0.0

        async def work(_connection: Any) -> Done[int]:
            return Done(1, {}, {})

        async with connect(
            proxy.url_for(database_url), retry=Backoff(uniform=vanish), alert_spool=tmp_path
        ) as database:
            await MpesaSyncManager(database).validate_sync(bar)
            proxy.cut_after_commit()
            began = time.monotonic()
            with logged() as events, pytest.raises(OutcomeUnknown):
                await settled(database, Operation(uuid4(), "switch", bar, "a"), work, int, within_s=0.3)
            assert time.monotonic() - began < 2.2
            assert named(events, Event.ALERT_RAISED)
            assert spool.waiting(database) == 0, "it was waited for"
            proxy.disarm()
        assert spool.waiting(database) + await sql.fetchval("select count(*) from mpesa_sync.alerts") == 1
