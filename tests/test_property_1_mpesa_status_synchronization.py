"""Property 1: one call changes both fields as asked, in one transaction, or neither (R1.1–R1.3)."""

from __future__ import annotations

from itertools import product
from typing import Any, Final, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import AmbiguousEnvironment, CredentialsMissing, SyncRefused
from mpesa_sync.sync.results import SyncResult
from tests.support.observer import (
    AMBIGUOUS,
    MISSING,
    OF_THE_PLATFORMS_AUDIT,
    becomes_active,
    changed_tables,
    database_hash,
    see,
    see_all,
)
from tests.support.states import ENVIRONMENTS, NAMED, STATES, State, named_environments, put, states
from tests.support.venues import add_bar

Environment = Literal["sandbox", "production"]
REFUSALS: Final[dict[str | None, type[SyncRefused]]] = {MISSING: CredentialsMissing, AMBIGUOUS: AmbiguousEnvironment}
PAIR: Final = {"public.bars", "public.mpesa_credentials"}
ALONGSIDE: Final = {"mpesa_sync.operations", "mpesa_sync.bar_state"} | OF_THE_PLATFORMS_AUDIT
"""What is written in the same transaction: the operation, the bar's version, the platform's own history."""
histories: Final = st.lists(st.sampled_from(ENVIRONMENTS), max_size=2)


async def prepared(db: Database, sql: Any, state: State, history: list[Environment]) -> UUID:
    """Make a bar that was switched on for each environment of `history`, and then left in `state`."""
    bar = await add_bar(sql, sandbox=False, production=False)
    for environment in history:
        await MpesaSyncManager(db).sync_mpesa_status(bar, True, environment=environment, actor="history")
    await put(sql, bar, state)
    return bar


def expected_after(state: State, history: list[Environment], on: bool, named: Environment | None) -> str | None:
    """Return the environment that must be active then, None for off, or which refusal must come."""
    return becomes_active(state.flags, named=named, last=history[-1] if history else None) if on else None


def check_answer(result: SyncResult, state: State, expected: str | None, written: set[str]) -> None:
    """The answer says what is stored, and `changed` exactly where something was written."""
    must_change = set()
    if state.mpesa_enabled is not (expected is not None):
        must_change.add("public.bars")
    if any(flag is not (name == expected) for name, flag in state.flags.items()):
        must_change.add("public.mpesa_credentials")
    assert written & PAIR == must_change, "a no-op writes neither table, a change only what differs"
    assert "mpesa_sync.operations" in written, "its operation is recorded all the same"
    assert written <= PAIR | ALONGSIDE, "and nothing else is touched, in the whole database"
    assert (result.success, result.credentials_updated, result.bar_status_updated) == (True, True, True)
    assert (result.environment, result.changed, result.attempts) == (expected, bool(must_change), 1)
    assert result.error is None


@given(state=states, history=histories, on=st.booleans(), named=named_environments)
async def test_a_switch_sets_both_fields_as_asked_or_neither(
    db: Database, sql: Any, state: State, history: list[Environment], on: bool, named: Environment | None
) -> None:
    """Feature: mpesa-sync-fix, Property 1: M-Pesa Status Synchronization.

    From every state, after any history: true makes exactly the environment of R1's order active and shows M-Pesa,
    false clears both, a refusal changes nothing in the whole database, other bars stay as they are.
    Red when `write_status_v1` forgets one of the two UPDATEs, leaves the other environment active or rewrites rows
    that say so already, and when `environments.choose` tries its steps in another order.
    """
    bar = await prepared(db, sql, state, history)
    everyone, before = await see_all(sql), await database_hash(sql)
    expected = expected_after(state, history, on, named)
    call = MpesaSyncManager(db).sync_mpesa_status(bar, on, environment=named, actor="Asha")
    if expected in REFUSALS:
        with pytest.raises(REFUSALS[expected]) as refused:
            await call
        assert refused.value.result.success is False
        assert changed_tables(before, await database_hash(sql)) == set()
        return
    result = await call
    check_answer(result, state, expected, changed_tables(before, await database_hash(sql)))
    seen = await see_all(sql)
    assert seen[bar].flags == {name: name == expected for name in state.flags}
    assert seen[bar].mpesa_enabled is on
    assert seen.keys() == everyone.keys()
    assert all(seen[other] == everyone[other] for other in seen if other != bar)


@pytest.mark.parametrize("history", [[], ["sandbox"], ["production"]], ids=["new", "was sandbox", "was production"])
async def test_the_choice_of_environment_holds_in_every_cell(
    db: Database, sql: Any, history: list[Environment]
) -> None:
    """P1, the whole space of a switch-on, each committed: 48 states × environment named × last one active (R1)."""
    manager = MpesaSyncManager(db)
    for state, named in product(STATES, NAMED):
        bar = await prepared(db, sql, state, history)
        expected = expected_after(state, history, True, named)
        left = (state.flags, state.mpesa_enabled)
        if expected in REFUSALS:
            with pytest.raises(REFUSALS[expected]):
                await manager.sync_mpesa_status(bar, True, environment=named)
        else:
            result = await manager.sync_mpesa_status(bar, True, environment=named)
            assert result.environment == expected
            left = ({name: name == expected for name in state.flags}, True)
        seen = await see(sql, bar)
        assert seen is not None
        assert (seen.flags, seen.mpesa_enabled) == left, (state, named)
