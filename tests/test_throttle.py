"""Holding back while others suffer: real waiting sessions, old transactions, and a role that sees little (R2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import pytest

from mpesa_sync.db import plan_identity, pressure
from mpesa_sync.db.pressure import Holder, Pressure
from mpesa_sync.migration.throttle import Throttle
from tests.support import databases
from tests.support.clocks import HurriedClock
from tests.support.faults import until
from tests.support.roles import login_role
from tests.support.venues import add_bar

CALM: Final = Pressure(0, None, 0)


@asynccontextmanager
async def crowd(url: str, number: int) -> AsyncIterator[Any]:
    """Give a plain connection while so many sessions wait for a row that another holds."""
    async with AsyncExitStack() as stack:
        holder, *others = [await stack.enter_async_context(databases.plain(url)) for _ in range(number + 1)]
        bar = await add_bar(holder, mpesa_enabled=True)
        holding = holder.transaction()
        await holding.start()
        await holder.execute("select 1 from bars where id = $1 for update", bar)
        tasks = [
            asyncio.create_task(other.execute("update bars set mpesa_enabled = true where id = $1", bar))
            for other in others
        ]
        yield holder
        await holding.rollback()
        await asyncio.gather(*tasks)


async def test_sessions_that_wait_for_locks_are_counted(database_url: str, sql: Any) -> None:
    """Issue 5, point 3: real waiting sessions, of this database alone, and none once they are through."""
    assert (await pressure.sample(sql)).waiting == 0
    async with crowd(database_url, 4):

        async def four() -> bool:
            return (await pressure.sample(sql)).waiting == 4

        await until(four)
        throttle = Throttle(HurriedClock())
        assert "4 sessions wait for locks" in str(throttle.reason(await pressure.sample(sql)))
        assert throttle.reason(Pressure(3, None, 0)) is None
    assert (await pressure.sample(sql)).waiting == 0


async def test_what_waits_in_another_database_is_not_counted(database_url: str, platform_url: str, sql: Any) -> None:
    """Issue 5, point 3: the lock is theirs, not ours."""
    async with crowd(platform_url, 2), databases.plain(platform_url) as there:

        async def two() -> bool:
            return (await pressure.sample(there)).waiting == 2

        await until(two)
        assert (await pressure.sample(sql)).waiting == 0


async def test_a_transaction_that_holds_back_clean_up_is_named(database_url: str, sql: Any) -> None:
    """Issue 5, point 3: its age, its backend, its application; ours and idle ones do not count."""
    async with databases.plain(database_url) as other, databases.plain(database_url) as idle:
        await idle.execute("begin")
        assert (await pressure.sample(sql)).oldest is None
        await other.execute("set application_name = 'nightly report'; begin isolation level repeatable read; select 1")
        found = await pressure.sample(sql)
        pid = await other.fetchval("select pg_backend_pid()")
        assert found.oldest
        assert (found.oldest.pid, found.oldest.who, found.unseen) == (pid, "nightly report", 0)
        assert 0 <= found.oldest.age_s < 60
        assert (await pressure.sample(sql, ours=frozenset({pid}))).oldest is None
        said = Throttle(HurriedClock(), max_transaction_s=-1).reason(found)
        assert said == f"a transaction of 0 s holds back clean-up: pid {pid}, application nightly report"
        assert Throttle(HurriedClock()).reason(found) is None
        await other.execute("rollback")
        assert (await pressure.sample(sql)).oldest is None


async def test_a_writer_holds_back_clean_up_without_a_snapshot_too(database_url: str, sql: Any) -> None:
    """Issue 5, point 3: an idle transaction that has written, as a forgotten shell leaves it."""
    async with databases.plain(database_url) as other:
        await other.execute("begin; insert into bars (name) values ('forgotten')")
        assert (await pressure.sample(sql)).oldest is not None


async def test_a_plain_role_sees_who_waits_and_says_what_it_cannot_see(database_url: str, sql: Any) -> None:
    """Issue 5, point 3: no member of pg_monitor, no right on any table."""
    async with login_role(sql, database_url) as role, databases.plain(role.url) as plain:
        assert await pressure.sample(plain) == CALM
        async with crowd(database_url, 4):

            async def four() -> bool:
                return (await pressure.sample(plain)).waiting == 4

            await until(four)
            seen = await pressure.sample(plain)
            assert seen.oldest is None
            assert seen.unseen >= 1
            assert "pg_read_all_stats" in str(Throttle(HurriedClock()).unseen(seen))
        async with databases.plain(role.url) as own:
            await own.execute("begin isolation level repeatable read; select 1")
            assert (await pressure.sample(plain)).oldest is not None
    assert Throttle(HurriedClock()).unseen(CALM) is None


def test_reasons_are_plain_words() -> None:
    """Issue 5, point 3: what it is, of whom, since when; long names are cut."""
    throttle = Throttle(HurriedClock())
    old = Pressure(5, Holder(4711, "x" * 63, 725.0), 0)
    assert throttle.reason(old) == (
        "5 sessions wait for locks; a transaction of 12 min holds back clean-up: pid 4711, application "
        + "x" * 39
        + "…"
    )
    assert throttle.reason(Pressure(0, Holder(1, "", 601), 0)) == ("a transaction of 10 min holds back clean-up: pid 1")
    assert throttle.reason(Pressure(0, Holder(None, "transfer 7", 4000), 0)) == (
        "a prepared transaction of 67 min holds back clean-up: transfer 7"
    )


# --- waiting


async def waited(samples: list[Pressure], bound_s: float = 300) -> tuple[bool, list[str | None], list[float]]:
    """Return what comes of waiting over these samples, the last for ever: the answer, what was told, the waits."""
    clock, told = HurriedClock(), list[str | None]()

    async def sample() -> Pressure:
        return samples.pop(0) if len(samples) > 1 else samples[0]

    calm = await Throttle(clock).wait_until_calm(sample, clock.sleep, told.append, bound_s)
    return calm, told, clock.waits_s


async def test_without_a_reason_nothing_is_waited_for_or_told() -> None:
    """Issue 5, point 3."""
    assert await waited([CALM]) == (True, [], [])


async def test_it_waits_until_it_is_calm_and_says_why_at_every_look() -> None:
    """Issue 5, point 3: the reason is always shown, and gone when it is gone."""
    calm, told, waits_s = await waited([Pressure(9, None, 0), Pressure(7, None, 0), CALM])
    assert calm
    assert told == ["9 sessions wait for locks", "7 sessions wait for locks", None]
    assert waits_s == [0.25, 0.5]


@pytest.mark.parametrize("bound_s", [0, 0.1, 7, 300])
async def test_after_the_bound_it_gives_up_and_never_hangs(bound_s: float) -> None:
    """Issue 5, point 3: exit code 6 in the place of a hang; the reason stays told."""
    calm, told, waits_s = await waited([Pressure(9, None, 0)], bound_s)
    assert not calm
    assert told[-1] == "9 sessions wait for locks"
    assert bound_s - 1 <= sum(waits_s) <= bound_s
    assert max(waits_s, default=0) <= 5


# --- which database it is


async def test_any_role_may_ask_which_database_it_is(database_url: str, platform_url: str, sql: Any) -> None:
    """Issue 5, point 2: a plain role asks the server too, and only the installation is unknown to it."""
    whole = await plan_identity.database_identity(sql)
    assert whole.installation == await sql.fetchval("select id from mpesa_sync.installation")
    assert whole.system
    assert whole.timeline == 1
    async with login_role(sql, database_url) as role, databases.plain(role.url) as plain:
        seen = await plan_identity.database_identity(plain)
        assert seen.installation is None
        assert (seen.system, seen.name, seen.bars_table) == (whole.system, whole.name, whole.bars_table)
        assert not seen.differs(whole)
    async with databases.plain(platform_url) as other:
        assert whole.differs(await plan_identity.database_identity(other))


async def test_a_copy_and_a_restore_in_place_are_other_databases(server_url: str, platform_url: str) -> None:
    """Issue 5, point 2: CREATE DATABASE … TEMPLATE beside it; its tables dropped and made again."""
    copy_url = await databases.make_database(server_url, template=platform_url.rpartition("/")[2])
    try:
        async with databases.plain(platform_url) as one, databases.plain(copy_url) as other:
            here = await plan_identity.database_identity(one)
            assert not here.differs(await plan_identity.database_identity(one))
            assert here.differs(await plan_identity.database_identity(other))
            await one.execute(
                "create table again (like bars); drop table bars cascade; alter table again rename to bars"
            )
            assert here.differs(await plan_identity.database_identity(one))
    finally:
        await databases.drop_database(server_url, copy_url)


async def test_a_server_that_must_not_be_asked_is_done_without(database_url: str, sql: Any) -> None:
    """Issue 5, point 2: where the right is taken away, the rest is compared, and that is said."""
    async with login_role(sql, database_url) as role, databases.plain(role.url) as plain:
        await sql.execute("revoke execute on function pg_control_system() from public")
        try:
            seen = await plan_identity.database_identity(plain)
        finally:
            await sql.execute("grant execute on function pg_control_system() to public")
    assert (seen.system, seen.timeline) == (None, None)
    assert seen.unknown
    assert not seen.differs(await plan_identity.database_identity(sql))
