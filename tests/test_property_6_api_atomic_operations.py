"""Property 6, at the manager's level: a database error at any statement leaves nothing behind, success leaves all.

Every fault is real: a trigger of the test's own raises the SQLSTATE, breaks the constraint or ends the backend.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import (
    AccessDenied,
    ConstraintRefused,
    DatabaseFault,
    PermanentFault,
    ResourcesExhausted,
    TransientFault,
    TriggerRefused,
)
from tests.support.faults import ALWAYS, QUICK, injected, injected_at_commit, reached
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.states import State, put, states
from tests.support.venues import KEY, add_bar


@dataclass(frozen=True)
class Site:
    """A statement of a switch, named by the trigger that it fires, or its commit. `deferred`: as constraints are."""

    when: str
    table: str
    deferred: bool = False


SITES: Final = (
    Site("before insert", "mpesa_sync.operations"),
    Site("after insert", "mpesa_sync.operations"),
    Site("before update", "public.mpesa_credentials"),
    Site("after update", "public.mpesa_credentials"),
    Site("before update", "public.bars"),
    Site("after update", "public.bars"),
    Site("after update", "public.mpesa_credentials", deferred=True),
    Site("after update", "public.bars", deferred=True),
    Site("before insert", "mpesa_sync.bar_state"),
    Site("before update", "mpesa_sync.alerts"),
    Site("before update", "mpesa_sync.operations"),
    Site("commit", "mpesa_sync.operations"),
)
FAULTS: Final[dict[str, type[DatabaseFault]]] = {
    "40001": TransientFault,
    "40P01": TransientFault,
    "55P03": TransientFault,
    "57014": TransientFault,
    "terminate": TransientFault,
    "53100": ResourcesExhausted,
    "22003": PermanentFault,
    "23502": ConstraintRefused,
    "23514": ConstraintRefused,
    "42501": AccessDenied,
    "P0001": TriggerRefused,
}
ATTEMPTS: Final = 4
_OPEN_ALERT: Final = """
insert into mpesa_sync.alerts (bar_id, kind, cause, what_to_do) values ($1, 'sync_failed', 'test', 'nothing')
"""
_OPERATION: Final = "select outcome from mpesa_sync.operations where id = $1"


@pytest.fixture
async def quick(database_url: str) -> AsyncIterator[Database]:
    """As `db`, with four attempts and hardly any waiting."""
    async with connect(database_url, kms_keys=[KEY], retry=QUICK) as database:
        yield database


@pytest.fixture
def fired() -> Iterator[Counter[Any]]:
    """Count at which sites and with what a fault was really met; one that never was is red."""
    met: Counter[Any] = Counter()
    yield met
    assert not [site for site in SITES if not met[site]], "a site where no fault ever fired proves nothing"
    assert not [fault for fault in FAULTS if not met[fault]], "a fault that never fired proves nothing"


@settings(max_examples=150)
@given(
    site=st.sampled_from(SITES),
    fault=st.sampled_from(sorted(FAULTS)),
    times=st.sampled_from((1, ATTEMPTS - 1, ATTEMPTS, ALWAYS)),
    state=states.filter(lambda state: bool(state.flags)),
    on=st.booleans(),
)
async def test_an_error_at_any_statement_leaves_nothing_and_success_leaves_all(
    quick: Database, sql: Any, fired: Counter[Any], site: Site, fault: str, times: int, state: State, on: bool
) -> None:
    """Feature: mpesa-sync-fix, Property 6: API Atomic Operations.

    Whatever the database raises, wherever and however often: either both fields, credentials and operations are
    exactly as before, by the digest of every table, or all is stored as asked. Transient faults are tried at most
    four times, the others once (R4.2, R5.1, R5.3).
    Red when a step of the unit is committed by itself, when a permanent fault is retried, when `translate` calls
    an answer to COMMIT "unknown" for any SQLSTATE, and when `success` is said without a commit.
    """
    bar, operation_id = await add_bar(sql), uuid4()
    await put(sql, bar, state)
    if site.table == "mpesa_sync.alerts":
        await sql.execute(_OPEN_ALERT, bar)
    before = await database_hash(sql)
    environment = next(iter(state.flags)) if on else None
    error: DatabaseFault | None = None
    async with met(sql, site, fault, times):
        try:
            result = await MpesaSyncManager(quick).sync_mpesa_status(
                bar, on, environment="sandbox" if environment == "sandbox" else "production", operation_id=operation_id
            )
        except DatabaseFault as caught:
            error = caught
    hits = min(await reached(sql), times)
    if hits:
        fired.update((site, fault))
    outcome = await sql.fetchval(_OPERATION, operation_id)
    if error is None:
        assert result.success
        assert outcome == "applied"
        await check_all(sql, bar, state, environment)
        assert result.attempts == hits + 1 if FAULTS[fault] is TransientFault else hits == 0
        return
    assert changed_tables(before, await database_hash(sql)) <= OF_ALERTS | tombstone(outcome)
    assert isinstance(error, FAULTS[fault] if outcome is None else TransientFault)
    assert error.attempts == (ATTEMPTS if FAULTS[fault] is TransientFault else 1)
    assert error.result.success is False
    assert error.result.attempts == error.attempts


def met(sql: Any, site: Site, fault: str, times: int) -> AbstractAsyncContextManager[None]:
    """Make a statement fail, or the COMMIT."""
    if site.when == "commit":
        return injected_at_commit(sql, fault, times=times)
    return injected(sql, site.when, site.table, fault, times=times, deferred=site.deferred)


def tombstone(outcome: str | None) -> set[str]:
    """The table that a tombstone is in: a lost COMMIT was settled as failed. Never an applied operation."""
    assert outcome in (None, "failed"), "an error was raised, and the operation was applied"
    return {"mpesa_sync.operations"} if outcome == "failed" else set()


async def check_all(sql: Any, bar: UUID, state: State, environment: str | None) -> None:
    """All of it is stored: both fields as asked, by the observer's one statement."""
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.flags == {name: name == environment for name in state.flags}
    assert seen.mpesa_enabled is (environment is not None)


async def test_two_statements_without_one_transaction_are_seen_as_half(sql: Any) -> None:
    """P6, the twin: without the one transaction the same fault leaves half, and the same observer sees it."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    before = await database_hash(sql)
    async with injected(sql, "before update", "public.bars", "23514"):
        await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", bar)
        with pytest.raises(Exception, match="injected"):
            await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
    assert await reached(sql) == 1
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.drifted
    assert changed_tables(before, await database_hash(sql)) == {"public.mpesa_credentials", "mpesa_sync.bar_state"}
