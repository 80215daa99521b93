"""races.md, first table: how corrections make drift, and how ours do not. Two sessions, stepped one by one.

Each wrong form is played as a demonstration: the observer must see the drift, or the test would see nothing at all.
The project's own statements then meet the same foreign writer before every statement that they execute.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.db import detection, session
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.sync import statements, writer
from tests.support import corrections
from tests.support.corrections import Correction
from tests.support.observer import see
from tests.support.stepping import State, Stepped, sessions
from tests.support.venues import SEALED, add_bar

CREDENTIALS_OFF: Final = "update public.mpesa_credentials set is_active = false where tenant_id = $1"
PRODUCTION_ON: Final = (
    "update public.mpesa_credentials set is_active = true where tenant_id = $1 and environment = 'production'"
)
BARS_OFF: Final = "update public.bars set mpesa_enabled = false where id = $1"
BARS_ON: Final = "update public.bars set mpesa_enabled = true where id = $1"
INSERT_ON: Final = f"""
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, 'production', '600123', '\\x{SEALED[0].hex()}', '\\x{SEALED[1].hex()}', '\\x{SEALED[2].hex()}', true)
"""
COMMIT: Final = "commit"


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


@dataclass
class Played:
    """How one interleaving went: what the observer saw right after each commit, and who waited."""

    drifted_after_ours: bool
    drifted_at_the_end: bool
    claimed: bool
    we_waited: int
    they_waited: int
    failures: list[BaseException] = field(default_factory=list)


async def foreign(connection: Any, bar: UUID, writes: tuple[str, ...]) -> None:
    """Another program's transaction."""
    await connection.execute("begin")
    for write in writes:
        await connection.execute(write, bar)
    await connection.execute(COMMIT)


async def play(
    pair: tuple[Stepped, Stepped], sql: Any, bar: UUID, ours: Any, writes: tuple[str, ...], before: int | str
) -> Played:
    """Let `ours` run to just before a statement; then theirs as far as it gets, ours, and theirs again."""
    us, they = pair
    us.waited = they.waited = 0
    await us.begin(ours)
    if isinstance(before, str):
        await us.until(before)
    else:
        for _ in range(before):
            await us.step()
    await they.begin(foreign(they, bar, writes))
    await they.advance(to=COMMIT)
    if they.next_statement == COMMIT and us.next_statement != COMMIT:
        await us.step()  # may wait for what they have written and not yet committed
    await they.advance()
    await us.look()
    await us.end()
    seen = await see(sql, bar)
    await they.end()
    end = await see(sql, bar)
    assert seen is not None
    assert end is not None
    failures = [failure for failure in (us.failure(), they.failure()) if failure]
    claimed = not us.failure() and bar in us.outcome()
    return Played(seen.drifted, end.drifted, claimed, us.waited, they.waited, failures)


HIDDEN: Final[dict[str, Any]] = {"mpesa_enabled": False, "sandbox": True}
EXPOSED: Final[dict[str, Any]] = {"mpesa_enabled": True, "sandbox": False}
OFF_IN_PAIR: Final = (CREDENTIALS_OFF, BARS_OFF)
ON_BY_INSERT_ONLY: Final = (INSERT_ON,)

# the wrong form, the state it finds, what the other program does meanwhile, before which statement of ours
WRONG: Final = [
    pytest.param(corrections.read_then_update, HIDDEN, OFF_IN_PAIR, "update public.bars", id="read-then-update"),
    pytest.param(corrections.update_from, HIDDEN, OFF_IN_PAIR, "update public.bars", id="update-from"),
    pytest.param(corrections.update_exists, HIDDEN, OFF_IN_PAIR, "update public.bars", id="exists"),
    pytest.param(corrections.compare_and_set, HIDDEN, OFF_IN_PAIR, "update public.bars", id="compare-and-set"),
    pytest.param(corrections.no_key_update, EXPOSED, ON_BY_INSERT_ONLY, "commit", id="for-no-key-update"),
    pytest.param(corrections.bars_only, HIDDEN, (CREDENTIALS_OFF,), "update public.bars", id="only-bars-locked"),
]


@pytest.mark.parametrize(("wrong", "state", "writes", "before"), WRONG)
async def test_each_wrong_form_makes_drift_and_the_observer_sees_it(
    database_url: str, sql: Any, wrong: Correction, state: dict[str, Any], writes: tuple[str, ...], before: str
) -> None:
    """races.md: the demonstration. If this went green without drift, no test here would prove anything."""
    bar = await add_bar(sql, **state)
    async with sessions(database_url, 2) as (us, they):
        played = await play((us, they), sql, bar, wrong(us, [bar]), writes, before)
    assert played.failures == []
    assert played.drifted_after_ours


@pytest.mark.parametrize(("wrong", "state", "writes", "before"), WRONG)
async def test_our_correction_makes_no_drift_wherever_the_same_writer_cuts_in(
    database_url: str, sql: Any, wrong: Correction, state: dict[str, Any], writes: tuple[str, ...], before: str
) -> None:
    """races.md, R2.2: the same writer before each of our statements. Red with any lock of `statements` weakened."""
    paired = len(writes) > 1
    all_played = []
    async with sessions(database_url, 2) as (us, they):
        for position in range(7):
            bar = await add_bar(sql, **state)
            plan = [(bar, state["sandbox"])]
            played = await play((us, they), sql, bar, corrections.correct(us, plan), writes, position)
            assert played.failures == [], position
            assert not (played.claimed and played.drifted_after_ours), position
            assert not (paired and played.drifted_at_the_end), position
            all_played.append(played)
    assert any(played.claimed for played in all_played)
    assert sum(played.they_waited for played in all_played) >= 3, "our locks made nobody wait: nothing was proved"


async def test_bars_locked_for_no_key_update_lets_a_row_be_inserted_and_for_update_does_not(
    database_url: str, sql: Any
) -> None:
    """races.md: an INSERT of credentials holds KEY SHARE on `bars`, which only FOR UPDATE makes wait."""
    waits = {}
    async with sessions(database_url, 2) as (us, they):
        for name, correction in (("weak", corrections.no_key_update), ("right", corrections.right_in_sql)):
            bar = await add_bar(sql, **EXPOSED)
            played = await play((us, they), sql, bar, correction(us, [bar]), ON_BY_INSERT_ONLY, "commit")
            waits[name] = (played.they_waited, played.drifted_after_ours)
    assert waits == {"weak": (0, True), "right": (1, False)}


async def late_row(pair: tuple[Stepped, Stepped], ours: Any, bar: UUID, before: str) -> int:
    """A credentials row is inserted while we wait for `bars`, and switched on before our commit; return the waits."""
    us, they = pair
    they.waited = 0
    await us.begin(ours)
    await us.until(before)
    insert = INSERT_ON.replace("true)", "false)")
    await they.begin(foreign(they, bar, (insert,)))
    await they.advance(to=COMMIT)
    assert await us.step() is State.BLOCKED
    assert they.pid in await us.blockers()
    await they.step()
    await us.released()
    await us.until(COMMIT)
    await they.begin(foreign(they, bar, (PRODUCTION_ON,)))
    await they.advance()
    await us.finish()
    return they.waited


async def test_a_row_inserted_while_the_correction_waits_for_the_bar_makes_drift_unless_locked_too(
    database_url: str, sql: Any
) -> None:
    """Not in races.md: credentials, then `bars` FOR UPDATE leaves such a row unlocked; ours locks it as well."""
    async with sessions(database_url, 2) as (us, they):
        for correction, waits in ((corrections.ours_locked_once, 0), (corrections.ours, 1)):
            bar = await add_bar(sql, **EXPOSED)
            assert await late_row((us, they), correction(us, [bar]), bar, "public.bars where id = any") == waits
            seen = await see(sql, bar)
            assert seen is not None
            assert seen.drifted is (waits == 0)
            await they.end()


async def test_a_row_that_came_while_the_correction_waited_and_changes_before_it_is_locked_decides(
    database_url: str, sql: Any
) -> None:
    """R2.2: what was decided by a row that nobody had locked is not written, for it may be over."""
    bar = await add_bar(sql, **EXPOSED)
    async with sessions(database_url, 2) as (us, they):
        await us.begin(corrections.correct(us, [(bar, False)]))
        await us.until("public.bars where id = any")
        await they.begin(foreign(they, bar, (INSERT_ON.replace("true)", "false)"),)))
        await they.advance(to=COMMIT)
        assert await us.step() is State.BLOCKED
        await they.step()
        await us.released()
        await us.until("for share nowait")
        await they.begin(foreign(they, bar, (PRODUCTION_ON,)))
        await they.finish()
        await us.finish()
        assert us.outcome() == {bar}, "already consistent: it is on now, as its bar says"
        seen = await see(sql, bar)
        assert seen is not None
        assert not seen.drifted


async def switch_off(connection: Any, bar: UUID) -> writer.Written:
    """Our writer's own steps, in a transaction."""
    await connection.execute(session.WRITE.sql)
    await writer.lock(connection, bar)
    written = await writer.write_status(connection, bar, None)
    await connection.execute(COMMIT)
    return written


async def test_a_row_inserted_while_our_switch_waits_for_the_bar_cannot_change_before_our_commit(
    database_url: str, sql: Any
) -> None:
    """R1.3, the same for `lock_bar_v1`: "off" was asked, so nothing is on right after the commit."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with sessions(database_url, 2) as (us, they):
        assert await late_row((us, they), switch_off(us, bar), bar, "lock_bar_v1") == 1
        seen = await see(sql, bar)
        assert seen is not None
        assert (seen.mpesa_enabled, seen.active) == (False, [])
        await they.finish()


async def switch_on(connection: Any, bar: UUID, environment: Environment) -> set[UUID]:
    await connection.execute(session.WRITE.sql)
    await writer.lock(connection, bar)
    await writer.write_status(connection, bar, environment)
    await connection.execute(COMMIT)
    return {bar}


@pytest.mark.parametrize(
    "writes",
    [OFF_IN_PAIR, (BARS_OFF, CREDENTIALS_OFF), (CREDENTIALS_OFF,), (BARS_OFF,), (INSERT_ON,)],
    ids=["credentials-first", "bars-first", "credentials-only", "bars-only", "insert"],
)
async def test_our_switch_is_as_asked_right_after_its_commit_whoever_cuts_in(
    database_url: str, sql: Any, writes: tuple[str, ...]
) -> None:
    """R1.2: a foreign writer before each of our statements; every one of its writes waits or comes before."""
    waited = 0
    async with sessions(database_url, 2) as (us, they):
        for position in range(4):
            bar = await add_bar(sql, mpesa_enabled=False, sandbox=False)
            work = switch_on(us, bar, Environment.SANDBOX)
            played = await play((us, they), sql, bar, work, writes, position)
            assert played.failures == [], position
            assert played.claimed, position
            assert not played.drifted_after_ours, position
            waited += played.we_waited + played.they_waited
    assert waited >= 2


async def test_the_lock_statements_are_the_ones_that_the_correction_executes(database_url: str, sql: Any) -> None:
    """races.md: one order, credentials, then bars; then the decision in a statement of its own."""
    bar = await add_bar(sql, **HIDDEN)
    executed = []
    async with sessions(database_url, 1) as (us,):
        await us.begin(corrections.correct(us, [(bar, True)]))
        while us.state is State.READY:
            executed.append(us.next_statement)
            await us.step()
        assert us.outcome() == {bar}
    assert executed == [
        session.BATCH.sql,
        statements.LOCK_CREDENTIALS_OF_BARS,
        statements.LOCK_BARS,
        statements.CORRECT_BARS,
        statements.DEFERRED_SPEAK,
        detection.STILL_DRIFTED,
        COMMIT,
    ]
