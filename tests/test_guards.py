"""What guards do to each kind of write, whoever makes it (G1, G2, G5): tables, isolation, roles, modes, TRUNCATE."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from tests.support import databases
from tests.support.guarding import BARS, OFF, drifted, forget_hits, hits, insert, set_mode, weaken
from tests.support.observer import see
from tests.support.venues import SEALED, add_bar

CARRIED: Final = {
    "off": OFF,
    "NULL": "update public.mpesa_credentials set is_active = null where tenant_id = $1",
    "deleted": "delete from public.mpesa_credentials where tenant_id = $1",
    "an upsert": """
        insert into public.mpesa_credentials
          (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc)
        values ($1, 'production', '1', '', '', '')
        on conflict (tenant_id, environment) do update set is_active = false
    """,
}
MANNERS: Final = {
    "read committed": "begin",
    "repeatable read": "begin isolation level repeatable read",
    "serializable": "begin isolation level serializable",
    "replica": "begin; set local session_replication_role = replica",
    "local": "begin; set local session_replication_role = local",
}


@pytest.fixture
async def sql(guarded_sql: Any) -> Any:
    """Another program, in a guarded database that takes environments beside the two that count."""
    await guarded_sql.execute(
        "alter table public.mpesa_credentials drop constraint if exists mpesa_credentials_environment_check"
    )
    return guarded_sql


async def consistent_bar(connection: Any, *, on: bool, **rows: Any) -> UUID:
    """Insert a bar and its credentials in one transaction, as a program does that writes both; no guard minds."""
    async with connection.transaction():
        return await add_bar(connection, mpesa_enabled=on, **(rows or ({"production": True} if on else {})))


@asynccontextmanager
async def transaction(connection: Any, begin: str) -> AsyncIterator[None]:
    """One transaction that begins so."""
    await connection.execute(begin)
    try:
        yield
    except BaseException:
        await connection.execute("rollback")
        raise
    await connection.execute("commit")


@pytest.mark.parametrize("begin", MANNERS.values(), ids=MANNERS)
async def test_a_change_of_credentials_alone_is_carried_to_the_bar(sql: Any, begin: str) -> None:
    """G1, G5: every statement that takes the authority away or gives it, at each isolation level and in each role."""
    for write in CARRIED.values():
        bar = await consistent_bar(sql, on=True)
        async with transaction(sql, begin):
            await sql.execute(write, bar)
        assert await drifted(sql) == []
        seen = await see(sql, bar)
        assert seen is not None
        assert (seen.mpesa_enabled, [kind for kind, *_ in await hits(sql, bar)]) == (False, ["carried"])
    bar = await consistent_bar(sql, on=False)
    async with transaction(sql, begin):
        await insert(sql, bar, "staging")
        await insert(sql, bar, "sandbox", None)
    assert await hits(sql, bar) == [], "neither counts"
    async with transaction(sql, begin):
        await sql.execute(
            "update public.mpesa_credentials set environment = 'production' where environment = 'staging'"
        )
    async with transaction(sql, begin):
        await sql.execute(
            "update public.mpesa_credentials set environment = 'staging' where environment = 'production'"
        )
    assert [last for *_, last in await hits(sql, bar)] == [True, False]
    await sql.execute("delete from public.mpesa_credentials where tenant_id = $1", bar)
    await forget_hits(sql)
    async with transaction(sql, begin):
        await insert(sql, bar)
    assert await hits(sql, bar) == [("carried", "mpesa_credentials", "INSERT", False, True)]
    assert await drifted(sql) == []


@pytest.mark.parametrize("begin", MANNERS.values(), ids=MANNERS)
async def test_a_direct_write_that_disagrees_is_healed_and_written_down(sql: Any, begin: str) -> None:
    """G2, mode heal: also a bar that is inserted so, and one whose NULL means false."""
    on, off = await consistent_bar(sql, on=True), await consistent_bar(sql, on=False)
    for bar, value in ((on, False), (off, True), (on, None)):
        async with transaction(sql, begin):
            await sql.execute("set local application_name = 'old staff app'")
            await sql.execute(BARS, bar, value)
        assert await drifted(sql) == []
    assert await hits(sql) == [
        ("healed", "bars", "UPDATE", False, True),
        ("healed", "bars", "UPDATE", True, False),
        ("healed", "bars", "UPDATE", None, True),
    ]
    async with transaction(sql, begin):
        new = await add_bar(sql, mpesa_enabled=True)
    assert await hits(sql, new) == [("healed", "bars", "INSERT", True, False)]
    who = await sql.fetchrow(
        "select session_user_name, application_name from mpesa_sync.guard_hits order by id limit 1"
    )
    assert tuple(who) == ("postgres", "old staff app")


async def test_mode_log_lets_it_be_and_writes_it_down_once_a_transaction(sql: Any) -> None:
    """G2, mode log; a change of credentials is carried in every mode (G1)."""
    await set_mode(sql, "log")
    bar = await consistent_bar(sql, on=True)
    async with sql.transaction():
        await sql.execute(BARS, bar, False)
        await sql.execute(BARS, bar, None)
        await sql.execute(BARS, bar, True)
        await sql.execute(BARS, bar, False)
    assert await hits(sql) == [("logged", "bars", "UPDATE", False, False)]
    assert await drifted(sql) == [bar]
    await insert(sql, bar, "sandbox")
    assert await drifted(sql) == []


async def test_mode_reject_refuses_the_writers_transaction(sql: Any) -> None:
    """G2, mode reject: at the commit, whatever else was written with it; what agrees by then is let through."""
    await set_mode(sql, "reject")
    bar = await consistent_bar(sql, on=True)
    with pytest.raises(asyncpg.CheckViolationError, match="must be true") as refused:
        async with sql.transaction():
            await sql.execute("update public.bars set name = 'never' where id = $1", bar)
            await sql.execute(BARS, bar, False)
    assert refused.value.constraint_name == "mpesa_sync_guard"
    assert await sql.fetchval("select count(*) from public.bars where name = 'never'") == 0
    async with sql.transaction():
        await sql.execute(BARS, bar, False)
        await sql.execute(OFF, bar)
    await sql.execute("update public.mpesa_credentials set is_active = true")
    assert await drifted(sql) == []
    assert await hits(sql) == [("carried", "mpesa_credentials", "UPDATE", False, True)]


@pytest.mark.parametrize("begin", MANNERS.values(), ids=MANNERS)
async def test_a_writer_of_both_fields_meets_no_guard_in_whatever_order_it_works(sql: Any, begin: str) -> None:
    """G2, races.md: deferred, so a correct writer that writes bars first is never taken for a wrong one."""
    bar = await consistent_bar(sql, on=True)
    for on in (False, True):
        for first, second in ((True, False), (False, True)):
            async with transaction(sql, begin):
                for credentials in (first, second):
                    if credentials:
                        await sql.execute(
                            "update public.mpesa_credentials set is_active = $2 where tenant_id = $1", bar, on
                        )
                    else:
                        await sql.execute(BARS, bar, on)
            assert await drifted(sql) == []
    assert await hits(sql) == []


async def test_many_rows_at_once_and_copy_are_settled_each(sql: Any) -> None:
    """G1, G5: one UPDATE over many bars, and COPY into both tables, in one transaction each."""
    bars = [await consistent_bar(sql, on=True) for _ in range(20)]
    await sql.execute("update public.mpesa_credentials set is_active = false")
    assert sorted(await hits(sql)) == [("carried", "mpesa_credentials", "UPDATE", True, False)] * 20
    await forget_hits(sql)
    rows = "".join(f"{bar}\tsandbox\t1\t\\\\x00\t\\\\x00\t\\\\x00\n" for bar in bars)
    columns = [
        "tenant_id",
        "environment",
        "business_shortcode",
        "consumer_key_enc",
        "consumer_secret_enc",
        "passkey_enc",
    ]
    await sql.copy_to_table(
        "mpesa_credentials", schema_name="public", columns=columns, source=io.BytesIO(rows.encode()), format="text"
    )
    assert await hits(sql) == [("carried", "mpesa_credentials", "INSERT", False, True)] * 20
    assert await drifted(sql) == []


@pytest.mark.parametrize("upwards", [True, False])
async def test_a_row_that_moves_settles_both_bars(sql: Any, upwards: bool) -> None:
    """G1: a changed tenant_id gives one bar its authority and takes the other's, the lower id first."""
    one, two = sorted([await consistent_bar(sql, on=False), await consistent_bar(sql, on=False)])
    source, target = (one, two) if upwards else (two, one)
    await insert(sql, source)
    await forget_hits(sql)
    await sql.execute("update public.mpesa_credentials set tenant_id = $2 where tenant_id = $1", source, target)
    assert await drifted(sql) == []
    order = [record["bar_id"] for record in await sql.fetch("select bar_id from mpesa_sync.guard_hits order by id")]
    assert order == [one, two]
    await sql.execute("delete from public.bars where id = $1", target)
    assert await drifted(sql) == []


async def test_truncate_hides_every_bar_that_was_shown(sql: Any) -> None:
    """G1: TRUNCATE of the credentials, in replica role, too; of bars nothing is left to settle."""
    for begin in (MANNERS["read committed"], MANNERS["replica"]):
        bars = sorted([await consistent_bar(sql, on=True) for _ in range(5)] + [await consistent_bar(sql, on=False)])
        await forget_hits(sql)
        async with transaction(sql, begin):
            await sql.execute("truncate public.mpesa_credentials")
        assert await drifted(sql) == []
        assert await hits(sql) == [("carried", "mpesa_credentials", "TRUNCATE", True, False)] * 5
        order = [record["bar_id"] for record in await sql.fetch("select bar_id from mpesa_sync.guard_hits order by id")]
        assert order == sorted(order)
        assert set(order) <= set(bars)
    await forget_hits(sql)
    await sql.execute("truncate public.bars cascade")
    assert await hits(sql) == []
    assert await sql.fetchval("select count(*) from mpesa_sync.guard_truncations") == 0


async def test_a_reload_in_one_transaction_meets_no_guard(sql: Any) -> None:
    """G1: TRUNCATE waits for the commit, as rows do: what is back by then was never gone."""
    bar, gone = await consistent_bar(sql, on=True), await consistent_bar(sql, on=True)
    async with sql.transaction():
        await sql.execute("truncate public.mpesa_credentials")
        await insert(sql, bar)
    assert await drifted(sql) == []
    assert (await hits(sql, bar), len(await hits(sql, gone))) == ([], 1)


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_truncate_under_an_old_snapshot_is_refused(guarded_url: str, sql: Any, isolation: str) -> None:
    """G5: it could not see a bar that came since; without that refusal such a bar stays exposed."""
    async with databases.plain(guarded_url) as old:
        for weak in (False, True):
            if weak:
                await weaken(sql, "guard_truncated_v1", "in ('repeatable read', 'serializable')", "= 'never'")
            transaction_ = old.transaction(isolation=isolation)
            await transaction_.start()
            await old.fetchval("select count(*) from public.bars")
            await consistent_bar(sql, on=True)
            if not weak:
                with pytest.raises(asyncpg.FeatureNotSupportedError, match="READ COMMITTED"):
                    await old.execute("truncate public.mpesa_credentials")
                await transaction_.rollback()
            else:
                await old.execute("truncate public.mpesa_credentials")
                await transaction_.commit()
    assert await drifted(sql) != [], "the demonstration shows nothing"


async def test_a_constraint_that_refuses_the_carried_value_refuses_the_writer(sql: Any) -> None:
    """G5: a bar that must keep one payment method: the credentials stay as they were, and so does the bar."""
    bar = await consistent_bar(sql, on=True)
    await sql.execute("update public.bars set payment_cash_enabled = false, payment_card_enabled = false")
    await sql.execute(
        "alter table public.bars add constraint one_method check "
        "(mpesa_enabled or payment_cash_enabled or payment_card_enabled)"
    )
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await sql.execute(OFF, bar)
    assert refused.value.constraint_name == "one_method"
    assert await drifted(sql) == []
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active, await hits(sql)) == (True, ["production"], [])


async def test_what_changes_no_authority_touches_no_bar(sql: Any) -> None:
    """Issue 5, measure: an unrelated update of either table costs nothing, and writes no row of bars."""
    bar = await consistent_bar(sql, on=True)
    version = "select xmin::text from public.bars where id = $1"
    before = await sql.fetchval(version, bar)
    await sql.execute("update public.mpesa_credentials set business_shortcode = '600999', passkey_enc = $1", SEALED[2])
    await insert(sql, bar, "sandbox", False)
    await sql.execute("delete from public.mpesa_credentials where environment = 'sandbox'")
    assert await sql.fetchval(version, bar) == before
    await sql.execute("update public.bars set name = 'x'")
    assert await hits(sql) == []
