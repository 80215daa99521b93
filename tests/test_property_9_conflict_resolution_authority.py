"""Property 9: where the two fields disagree, `is_active` wins and only `mpesa_enabled` is corrected (R5.4)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import StaleAuthority
from tests.support.observer import OF_THE_PLATFORMS_AUDIT, changed_tables, database_hash, see, see_all
from tests.support.states import STATES, State, states
from tests.support.venues import add_bar

_LATER_GENERATION = """
alter table public.bars add column mpesa_consumer_key_encrypted text, add column mpesa_consumer_secret_encrypted text,
  add column mpesa_passkey_encrypted text
"""


def truth(state: State) -> bool:
    """The authority, said by the oracle: any row that is true."""
    return True in state.flags.values()


@settings(max_examples=100)
@given(state=states, active=st.sampled_from((True, False, None)), again=st.booleans())
async def test_repair_makes_the_flag_follow_the_credentials(
    db: Database, sql: Any, state: State, active: bool | None, again: bool
) -> None:
    """Feature: mpesa-sync-fix, Property 9: Conflict Resolution Authority.

    From every state: after a repair the flag equals the authority, every `is_active` (NULL too) and every row of
    `mpesa_credentials` is untouched, no other bar changes, a consistent bar is left alone, and a repeat under the
    same operation id answers the same and writes nothing.
    Red when `_repair` hands `shown(facts)` for `authority(facts)`, when `write_shown_v1` writes `is_active`, when
    NULL counts as active, and when a consistent bar with a NULL flag is rewritten.
    """
    bar = await add_bar(
        sql,
        mpesa_enabled=state.mpesa_enabled,
        sandbox=state.sandbox,
        production=state.production,
        active=active,
    )
    manager, operation_id = MpesaSyncManager(db), uuid4()
    everyone, before = await see_all(sql), await database_hash(sql)
    drifted = (state.mpesa_enabled is True) != truth(state)
    result = await manager.repair_inconsistency(bar, actor="Otieno", operation_id=operation_id)
    seen = await see_all(sql)
    after = await database_hash(sql)
    assert seen[bar].flags == state.flags
    assert seen[bar].mpesa_enabled is (truth(state) if drifted else state.mpesa_enabled)
    assert not seen[bar].drifted
    assert changed_tables(before, after) - OF_THE_PLATFORMS_AUDIT == {"mpesa_sync.operations"} | (
        {"public.bars", "mpesa_sync.bar_state"} if drifted else set()
    )
    assert all(seen[other] == everyone[other] for other in everyone if other != bar)
    assert (result.success, result.repaired) == (True, drifted)
    assert (result.previous_bar_status, result.new_bar_status) == (state.mpesa_enabled, seen[bar].mpesa_enabled)
    if again:
        assert await manager.repair_inconsistency(bar, actor="Otieno", operation_id=operation_id) == result
        assert changed_tables(after, await database_hash(sql)) == set()


async def test_every_cell_is_judged_and_repaired(db: Database, sql: Any) -> None:
    """P9, the whole space: `validate_sync` names the direction in all 48 states, and none is left after a repair."""
    manager, counted = MpesaSyncManager(db), {"hidden": 0, "exposed": 0, None: 0}
    for state in STATES:
        bar = await add_bar(sql, mpesa_enabled=state.mpesa_enabled, sandbox=state.sandbox, production=state.production)
        shown = state.mpesa_enabled is True
        direction = None if shown == truth(state) else "hidden" if truth(state) else "exposed"
        verdict = await manager.validate_sync(bar)
        assert (verdict.is_consistent, verdict.direction) == (direction is None, direction), state
        assert (verdict.credentials_active, verdict.bar_mpesa_enabled) == (truth(state), state.mpesa_enabled), state
        counted[verdict.direction] += 1
        await manager.repair_inconsistency(bar, actor="Otieno")
        assert (await manager.validate_sync(bar)).is_consistent, state
    assert counted == {"hidden": 14, "exposed": 9, None: 25}


@pytest.mark.parametrize("rows", ["absent", False])
async def test_secrets_in_bars_without_a_credentials_row_need_a_knowing_choice(
    db: Database, sql: Any, rows: Any
) -> None:
    """R2, R5.4: `is_active` wins, except where it may be stale: then nothing is written until somebody says so."""
    await sql.execute(_LATER_GENERATION)
    bar = await add_bar(sql, mpesa_enabled=True, production=rows)
    await sql.execute("update public.bars set mpesa_passkey_encrypted = 'sealed' where id = $1", bar)
    manager, before = MpesaSyncManager(db), await database_hash(sql)
    if rows == "absent":
        with pytest.raises(StaleAuthority) as refused:
            await manager.repair_inconsistency(bar, actor="Otieno")
        assert (refused.value.result.success, refused.value.result.repaired) == (False, False)
        assert changed_tables(before, await database_hash(sql)) == set()
    result = await manager.repair_inconsistency(bar, actor="Otieno", authority="credentials")
    seen = await see(sql, bar)
    assert seen is not None
    assert (result.repaired, seen.mpesa_enabled) == (True, False)
