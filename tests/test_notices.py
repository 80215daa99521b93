"""The notice triggers: who is heard, what moves a version, and that no writer fails because of us (L1, L2, L8)."""

from __future__ import annotations

import io
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync.db import migrations, notices
from mpesa_sync.db.pool import connect
from tests.support import databases
from tests.support.live_notices import (
    SEQUENCE_TWIN,
    inversions,
    listening,
    log_moves,
    version,
    write_together,
)
from tests.support.roles import login_role
from tests.support.venues import SEALED, add_bar

_INSERT: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc)
values ($1, 'production', '600123', $2, $3, $4)
"""
WRITES: Final = {
    "the customers' flag": "update public.bars set mpesa_enabled = null where id = $1",
    "the name": "update public.bars set name = 'Another' where id = $1",
    "the slug": "update public.bars set slug = 'another' where id = $1",
    "cash": "update public.bars set payment_cash_enabled = false where id = $1",
    "card": "update public.bars set payment_card_enabled = true where id = $1",
    "the bar is closed": "update public.bars set active = false where id = $1",
    "is_active": "update public.mpesa_credentials set is_active = null where tenant_id = $1",
    "a secret": "update public.mpesa_credentials set passkey_enc = 'x' where tenant_id = $1",
    "the environment": "update public.mpesa_credentials set environment = 'production' where tenant_id = $1",
    "credentials deleted": "delete from public.mpesa_credentials where tenant_id = $1",
    "an upsert": """insert into public.bars (id, name) values ($1, 'x')
                    on conflict (id) do update set mpesa_enabled = false""",
}
UNRELATED: Final = {
    "nothing at all": "update public.bars set name = name where id = $1",
    "the date": "update public.bars set updated_at = now() where id = $1",
    "the named environment": "update public.bars set mpesa_environment = 'production' where id = $1",
    "a till number": "update public.mpesa_credentials set business_shortcode = '600999' where tenant_id = $1",
    "an initiator": "update public.mpesa_credentials set initiator_name = 'x' where tenant_id = $1",
    "an audit entry": "insert into public.audit_logs (bar_id, action) values ($1, 'x')",
}


@pytest.fixture
async def bar(sql: Any) -> UUID:
    """A bar that is on, in both places."""
    return await add_bar(sql, mpesa_enabled=True, sandbox=True)


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_every_change_that_customers_can_see_moves_the_version_and_is_heard(
    database_url: str, sql: Any, bar: UUID, write: str
) -> None:
    """L2: plain SQL, whoever writes it."""
    before = await version(sql, bar)
    async with listening(database_url) as ear:
        await sql.execute(write, bar)
        assert await ear.all_heard() == [str(bar)]
    assert await version(sql, bar) == before + 1


@pytest.mark.parametrize("write", UNRELATED.values(), ids=UNRELATED)
async def test_unrelated_changes_cost_nothing(database_url: str, sql: Any, bar: UUID, write: str) -> None:
    """L8: WHEN on old and new values: no notice, no version."""
    before = await version(sql, bar)
    async with listening(database_url) as ear:
        await sql.execute(write, bar)
        assert await ear.all_heard() == []
    assert await version(sql, bar) == before


async def test_new_and_deleted_bars_and_credentials_are_heard(database_url: str, sql: Any) -> None:
    """L2: INSERT and DELETE on both tables; a bar that goes takes its credentials with it."""
    async with listening(database_url) as ear:
        bar = await add_bar(sql)
        assert await ear.all_heard() == [str(bar)]
        await sql.execute(_INSERT, bar, *SEALED)
        assert await ear.all_heard() == [str(bar)]
        await sql.execute("delete from public.bars where id = $1", bar)
        assert set(await ear.all_heard()) == {str(bar)}
    assert await version(sql, bar) == 3


async def test_copy_is_heard(database_url: str, sql: Any) -> None:
    """L2: COPY, both tables, in one transaction: one notice and one version a bar."""
    bars = [uuid4() for _ in range(5)]
    async with listening(database_url) as ear, sql.transaction():
        lines = "".join(f"{bar}\tBar\n" for bar in bars)
        await sql.copy_to_table(
            "bars", schema_name="public", columns=["id", "name"], source=io.BytesIO(lines.encode()), format="text"
        )
        rows = "".join(f"{bar}\tsandbox\t1\t\\\\x00\t\\\\x00\t\\\\x00\n" for bar in bars)
        columns = ["tenant_id", "environment", "business_shortcode"]
        secrets = ["consumer_key_enc", "consumer_secret_enc", "passkey_enc"]
        await sql.copy_to_table(
            "mpesa_credentials",
            schema_name="public",
            columns=columns + secrets,
            source=io.BytesIO(rows.encode()),
            format="text",
        )
        assert ear.heard == []
        await sql.execute("commit; begin")
        assert sorted(await ear.all_heard()) == sorted(map(str, bars))
    assert [await version(sql, bar) for bar in bars] == [1] * 5


@pytest.mark.parametrize("table", ["mpesa_credentials", "bars cascade"])
async def test_truncate_is_heard_as_every_bar(database_url: str, sql: Any, bar: UUID, table: str) -> None:
    """L2: row triggers see no TRUNCATE."""
    async with listening(database_url) as ear:
        await sql.execute(f"truncate public.{table}")
        assert set(await ear.all_heard()) == {"*"}


async def test_a_replica_is_heard(database_url: str, sql: Any, bar: UUID) -> None:
    """L2: a restore or a logical apply, where plain triggers do not fire."""
    before = await version(sql, bar)
    async with listening(database_url) as ear:
        async with sql.transaction():
            await sql.execute("set local session_replication_role = replica")
            await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", bar)
        assert await ear.all_heard() == [str(bar)]
    assert await version(sql, bar) == before + 1


async def test_moved_credentials_are_heard_for_both_bars(database_url: str, sql: Any, bar: UUID) -> None:
    """L2: a moved tenant_id changes what two bars offer."""
    other = await add_bar(sql)
    before = await version(sql, bar), await version(sql, other)
    async with listening(database_url) as ear:
        await sql.execute("update public.mpesa_credentials set tenant_id = $2 where tenant_id = $1", bar, other)
        assert sorted(await ear.all_heard()) == sorted([str(bar), str(other)])
    assert (await version(sql, bar), await version(sql, other)) == (before[0] + 1, before[1] + 1)


async def test_a_transaction_moves_the_version_once(database_url: str, sql: Any, bar: UUID) -> None:
    """L4: intermediate values never count; equal notices of one transaction are sent once."""
    before = await version(sql, bar)
    async with listening(database_url) as ear:
        async with sql.transaction():
            for write in list(WRITES.values())[:8]:
                await sql.execute(write, bar)
        assert await ear.all_heard() == [str(bar)]
    assert await version(sql, bar) == before + 1


async def test_a_writer_that_rolls_back_is_not_heard(database_url: str, sql: Any, bar: UUID) -> None:
    """L1: durable only, also where deferred triggers have spoken already."""
    before = await version(sql, bar)
    async with listening(database_url) as ear:
        transaction = sql.transaction()
        await transaction.start()
        await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
        await sql.execute("set constraints all immediate")
        await transaction.rollback()
        assert await ear.all_heard() == []
    assert await version(sql, bar) == before


async def test_a_writer_in_repeatable_read_does_not_fail_because_of_us(database_url: str, sql: Any, bar: UUID) -> None:
    """L8: a version that moved meanwhile cannot be moved from an older snapshot; the notice goes out all the same."""
    await sql.execute(_INSERT, bar, *SEALED)
    async with databases.plain(database_url) as other, listening(database_url) as ear:
        transaction = sql.transaction(isolation="repeatable_read")
        await transaction.start()
        await sql.fetch("select 1 from public.bars")
        await other.execute("update public.mpesa_credentials set is_active = null where environment = 'production'")
        assert await ear.all_heard() == [str(bar)]
        await sql.execute("update public.mpesa_credentials set is_active = null where environment = 'sandbox'")
        await transaction.commit()
        assert await ear.all_heard() == [str(bar)]
    assert await sql.fetchval("select count(*) from public.mpesa_credentials where is_active is null") == 2


async def test_a_role_without_any_right_on_ours_can_write(database_url: str, sql: Any, bar: UUID) -> None:
    """L8: the platform's own role knows nothing of mpesa_sync."""
    before = await version(sql, bar)
    async with login_role(sql, database_url) as role:
        await sql.execute(
            f"grant select, insert, update, delete, truncate on all tables in schema public to {role.name}"
        )
        async with databases.plain(role.url) as theirs, listening(database_url) as ear:
            await theirs.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
            await theirs.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", bar)
            assert await ear.all_heard() == [str(bar), str(bar)]
            await theirs.execute("truncate public.mpesa_credentials")
            assert await ear.all_heard() == ["*"]
        with pytest.raises(Exception, match="permission denied"):
            async with databases.plain(role.url) as theirs:
                await theirs.execute("select mpesa_sync.notice_v1($1)", bar)
    assert await version(sql, bar) == before + 2


async def test_uninstalling_leaves_none_of_our_triggers(database_url: str, sql: Any, bar: UUID) -> None:
    """Spec 1: one command removes what is ours; writers go on."""
    async with connect(database_url) as database:
        await migrations.uninstall(database)
    assert await sql.fetchval("select count(*) from pg_trigger where tgname like 'mpesa_sync%'") == 0
    await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
    assert not await notices.installed(sql)


async def test_a_disabled_or_plain_trigger_counts_as_not_installed(sql: Any) -> None:
    """L2: the mode is named as it is."""
    assert await notices.installed(sql)
    await sql.execute("alter table public.bars disable trigger mpesa_sync_notice_update")
    assert not await notices.installed(sql)
    await sql.execute("alter table public.bars enable trigger mpesa_sync_notice_update")
    assert not await notices.installed(sql)
    await sql.execute("alter table public.bars enable always trigger mpesa_sync_notice_update")
    assert await notices.installed(sql)


async def test_versions_move_in_the_order_of_commits(database_url: str, sql: Any, bar: UUID) -> None:
    """L3: moved under the bar's lock, concurrent writers make no inversion."""
    await sql.execute(_INSERT, bar, *SEALED)
    await log_moves(sql)
    await write_together(database_url, bar, writers=6, times=60)
    moves, inverted = await inversions(sql)
    assert moves == 360
    assert inverted == 0


async def test_the_twin_that_numbers_by_a_sequence_makes_inversions(database_url: str, sql: Any, bar: UUID) -> None:
    """L3: the test above can see the mistake: a number taken before the lock."""
    await sql.execute(_INSERT, bar, *SEALED)
    await sql.execute(SEQUENCE_TWIN)
    await sql.execute("delete from mpesa_sync.bar_state")
    await log_moves(sql)
    await write_together(database_url, bar, writers=6, times=60)
    moves, inverted = await inversions(sql)
    assert moves == 360
    assert inverted > 0
