"""races.md, the rows about guards: each wrong form, made from ours by one change or written as it is found in the wild,
drifts, heals falsely or deadlocks here; ours does not. The forms without guards are in test_races_neighbours.py."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from tests.support import databases
from tests.support.actors import FOREIGN, OURS, PAIRED
from tests.support.guarding import BARS, OFF, drifted, forget_hits, hits, insert, weaken
from tests.support.interleaving import Machine, Tally
from tests.support.observer import see
from tests.support.stepping import State, sessions
from tests.support.venues import add_bar

IMMEDIATE: Final = """
create function public.naive_guard() returns trigger language plpgsql as $$
begin
  new.mpesa_enabled := exists (select 1 from public.mpesa_credentials c where c.tenant_id = new.id and c.is_active);
  return new;
end $$;
create trigger naive_guard before update on public.bars for each row execute function public.naive_guard();
"""
CARRY: Final = """
create function public.naive_carry() returns trigger language plpgsql as $$
begin
  perform 1 from public.bars where id = new.tenant_id for update;
  update public.bars b
     set mpesa_enabled = exists (select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
   where b.id = new.tenant_id;
  return null;
end $$;
create trigger naive_carry after update {columns} on public.mpesa_credentials
  for each row execute function public.naive_carry();
"""
CHANGES_ROWS: Final = """
create function public.suspend() returns trigger language plpgsql as $$
begin
  if new.business_shortcode = 'suspended' then new.is_active := false; end if;
  return new;
end $$;
create trigger suspend before update on public.mpesa_credentials for each row execute function public.suspend();
"""
SUSPEND: Final = "update public.mpesa_credentials set business_shortcode = 'suspended' where tenant_id = $1"
ONE_OFF: Final = "update public.mpesa_credentials set is_active = false where tenant_id = $1 and environment = $2"


@pytest.fixture
def database_url(guarded_url: str) -> str:
    """`sql` and `db` work on a guarded database here."""
    return guarded_url


async def on_bar(sql: Any, **rows: Any) -> UUID:
    """Insert a bar that is on in both places."""
    async with sql.transaction():
        bar = await add_bar(sql, mpesa_enabled=True, **(rows or {"production": True}))
    await forget_hits(sql)
    return bar


async def remove_triggers(sql: Any) -> None:
    """Take our triggers away, so that another form can stand in their place."""
    for table, events in (("mpesa_credentials", "insert delete update truncate"), ("bars", "insert update")):
        for event in events.split():
            await sql.execute(f"drop trigger mpesa_sync_guard_{event} on public.{table}")


async def test_a_before_trigger_heals_a_correct_writer_falsely_and_ours_does_not(sql: Any) -> None:
    """Row 1: the writer writes bars first, and both by its commit."""
    bar = await on_bar(sql)

    async def paired(on: bool) -> None:
        async with sql.transaction():
            await sql.execute(BARS, bar, on)
            await sql.execute("update public.mpesa_credentials set is_active = $2 where tenant_id = $1", bar, on)

    await paired(False)
    assert (await drifted(sql), await hits(sql)) == ([], [])
    await remove_triggers(sql)
    await sql.execute(IMMEDIATE)
    await paired(True)
    assert await drifted(sql) == [bar], "the demonstration shows nothing: it was kept from switching on"


async def test_a_before_trigger_loses_to_one_that_sorts_later_and_ours_does_not(sql: Any) -> None:
    """Row 1: names decide the order of triggers; a deferred one speaks after all of them."""
    later = (
        "create function public.zz() returns trigger language plpgsql as "
        "'begin if new.name = ''promo'' then new.mpesa_enabled := true; end if; return new; end'; "
        "create trigger zz before update on public.bars for each row execute function public.zz()"
    )
    await sql.execute(later)
    async with sql.transaction():
        bar = await add_bar(sql, mpesa_enabled=False)
    promote = "update public.bars set name = $2 where id = $1"
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="mpesa-sync guard"):
        await sql.execute(promote, bar, "promo")  # it would set it again on the guard's own write
    assert await drifted(sql) == []
    await remove_triggers(sql)
    await sql.execute(IMMEDIATE)
    await sql.execute(promote, bar, "promo")
    assert await drifted(sql) == [bar], "the demonstration shows nothing"


@pytest.mark.parametrize(("columns", "drifts"), [("of is_active", True), ("", False)], ids=["column-list", "twin"])
async def test_a_column_list_misses_what_a_before_trigger_changes_and_ours_has_none(
    sql: Any, columns: str, drifts: bool
) -> None:
    """Row 1: `UPDATE OF is_active` looks at what the statement names, WHEN at what was stored."""
    bar = await on_bar(sql)
    await sql.execute(CHANGES_ROWS)
    await sql.execute(SUSPEND, bar)
    assert (await drifted(sql), len(await hits(sql))) == ([], 1)
    await remove_triggers(sql)
    await sql.execute(CARRY.format(columns=columns))
    other = await on_bar(sql)
    await sql.execute(SUSPEND, other)
    assert await drifted(sql) == ([other] if drifts else []), "the demonstration shows nothing"


@pytest.mark.parametrize("plain", [True, False], ids=["plain-triggers", "ours"])
async def test_replica_role_passes_a_plain_trigger_and_meets_ours(sql: Any, plain: bool) -> None:
    """races.md: restore and logical apply. The same triggers without ENABLE ALWAYS let all of it through."""
    bar, other = await on_bar(sql), await on_bar(sql)
    if plain:
        for table in ("bars", "mpesa_credentials"):
            await sql.execute(f"alter table public.{table} enable trigger user")
    await sql.execute("set session_replication_role = replica")
    await sql.execute(OFF, bar)
    await sql.execute(BARS, other, False)
    assert sorted(await drifted(sql)) == (sorted([bar, other]) if plain else [])


@pytest.mark.parametrize("without", [True, False], ids=["rows-only", "ours"])
async def test_truncate_passes_row_triggers_and_meets_ours(sql: Any, without: bool) -> None:
    """races.md: the statement trigger is needed."""
    bar = await on_bar(sql)
    if without:
        await sql.execute("drop trigger mpesa_sync_guard_truncate on public.mpesa_credentials")
    await sql.execute("truncate public.mpesa_credentials")
    assert await drifted(sql) == ([bar] if without else [])


@pytest.mark.parametrize("skips", [True, False], ids=["skips-when-unchanged", "ours"])
@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_an_old_snapshot_drifts_silently_unless_the_bar_is_always_touched(
    guarded_url: str, sql: Any, skips: bool, isolation: str
) -> None:
    """races.md: two rows, each off in another transaction; the first changes nothing of the bar, and must touch it."""
    bar = await on_bar(sql, sandbox=True, production=True)
    if skips:
        await weaken(sql, "guard_settle_v1", "not p_direct and not v_is_ours", "false")
    async with databases.plain(guarded_url) as old:
        transaction = old.transaction(isolation=isolation)
        await transaction.start()
        await old.fetchval("select count(*) from public.mpesa_credentials")
        await sql.execute(ONE_OFF, bar, "sandbox")
        await old.execute(ONE_OFF, bar, "production")
        if skips:
            try:
                await transaction.commit()
            except asyncpg.SerializationError:
                assert isolation == "serializable", "the demonstration shows nothing"
                await transaction.rollback() if not old.is_in_transaction() else None
            else:
                assert await drifted(sql) == [bar]
        else:
            with pytest.raises(asyncpg.SerializationError):
                await transaction.commit()
            seen = await see(sql, bar)
            assert seen is not None
            assert (seen.mpesa_enabled, seen.active) == (True, ["production"])


@pytest.mark.parametrize("locks", [True, False], ids=["ours", "twin-without-lock"])
async def test_two_rows_in_two_transactions_do_not_skew(guarded_url: str, sql: Any, locks: bool) -> None:
    """races.md: the guard locks the bar, then decides in a new statement; else both decide from the past."""
    bar = await on_bar(sql, sandbox=True, production=True)
    if not locks:
        await weaken(sql, "guard_settle_v1", "where b.id = p_bar for no key update;", "where b.id = p_bar;")
        await weaken(sql, "guard_settle_v1", "if not p_direct and not v_is_ours then", "if false then")

    async def off(connection: Any, environment: str) -> None:
        await connection.execute("begin")
        await connection.execute(ONE_OFF, bar, environment)
        await connection.execute("set constraints all immediate")
        await connection.execute("commit")

    async with sessions(guarded_url, 2) as (one, two):
        await one.begin(off(one, "sandbox"))
        await one.until("commit")
        await two.begin(off(two, "production"))
        await two.advance(to="commit")
        assert two.state is State.BLOCKED  # without the guard's lock at that of the notice, having decided
        await one.finish()
        await two.finish()
    assert await drifted(sql) == ([] if locks else [bar])


@pytest.mark.parametrize("lock", ["no key update", "update"], ids=["ours", "twin-for-update"])
async def test_two_inserts_for_one_bar_do_not_wait_for_each_other(guarded_url: str, sql: Any, lock: str) -> None:
    """An INSERT holds KEY SHARE on its bar: guards that lock it FOR UPDATE deadlock writers who never did before."""
    if lock == "update":
        await weaken(sql, "guard_settle_v1", "for no key update", "for update")
    async with sql.transaction():
        bar = await add_bar(sql)

    async def add(connection: Any, environment: str) -> None:
        await connection.execute("begin")
        await connection.execute("set local deadlock_timeout = '50ms'")
        await insert(connection, bar, environment)
        await connection.execute("commit")

    async with sessions(guarded_url, 2) as (one, two):
        await one.begin(add(one, "sandbox"))
        await one.until("commit")
        await two.begin(add(two, "production"))
        await two.until("commit")
        await one.advance()
        if lock == "update":
            assert one.state is State.BLOCKED
        await two.advance()
        ended = await asyncio.gather(one.finish(), two.finish(), return_exceptions=True)
    deadlocks = [error for error in ended if isinstance(error, asyncpg.DeadlockDetectedError)]
    assert len(deadlocks) == (lock == "update"), ended
    assert await drifted(sql) == []


SIDE_ROW: Final = """
perform 1 from mpesa_sync.bar_state s where s.bar_id = p_bar for update;
  perform 1 from public.bars b where b.id = p_bar for no key update;"""


@pytest.mark.parametrize("side_first", [True, False], ids=["bar-state-first", "ours"])
async def test_a_side_row_before_the_bar_deadlocks_two_foreign_writers(
    guarded_url: str, sql: Any, side_first: bool
) -> None:
    """races.md: one writes bars alone, one credentials alone; they never met before there were guards."""
    if side_first:
        await weaken(
            sql, "guard_settle_v1", "perform 1 from public.bars b where b.id = p_bar for no key update;", SIDE_ROW
        )
    bar = await on_bar(sql)
    assert await sql.fetchval("select count(*) from mpesa_sync.bar_state where bar_id = $1", bar) == 1

    async def writes(connection: Any, statement: str, *args: Any) -> None:
        await connection.execute("begin")
        await connection.execute("set local deadlock_timeout = '50ms'")
        await connection.execute(statement, *args)
        await connection.execute("set constraints all immediate")
        await connection.execute("commit")

    async with sessions(guarded_url, 2) as (one, two):
        await one.begin(writes(one, BARS, bar, False))
        await one.until("set constraints")
        await two.begin(writes(two, OFF, bar))
        await two.advance()
        assert two.state is State.BLOCKED
        ended = await asyncio.gather(one.finish(), two.finish(), return_exceptions=True)
    deadlocks = [error for error in ended if isinstance(error, asyncpg.DeadlockDetectedError)]
    assert len(deadlocks) == side_first, ended
    assert await drifted(sql) == []


EVERYBODY: Final = (*OURS, *PAIRED, *FOREIGN)


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "twin-unguarded"])
async def test_no_committed_state_is_drifted_whatever_is_interleaved(sql: Any, guarded_url: str, guarded: bool) -> None:
    """G5: single statements of ours, of paired and of single-field writers, under both isolation levels; the whole
    committed state after every commit."""
    if not guarded:
        await remove_triggers(sql)
    tally = Tally()
    for seed in range(4):
        tally.add(await Machine(guarded_url, seed, EVERYBODY, always_consistent=True, modelled=False).run(250))
        if tally.broken:
            break
    print(tally)
    assert (await drifted(sql) == []) or not guarded
    assert (tally.drift_seen == 0) == guarded
    assert (tally.broken == []) == guarded
    if guarded:
        for actor in EVERYBODY:
            assert tally.committed[actor.name] >= 2, tally.committed
        assert tally.refused["40P01"] <= sum(tally.committed.values()) / 10
