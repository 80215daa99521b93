"""The switch for programs in other languages, `set_mpesa_status_v1` (R1): what it writes, refuses and leaves alone."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import (
    EnvironmentNotAllowed,
)
from mpesa_sync.sync.alert_kinds import RESOLVED_BY_SUCCESS, AlertKind
from tests.support.databases import plain
from tests.support.entry_point import refused, switch, undone
from tests.support.faults import injected, until, waits_for_a_lock
from tests.support.live_hub import running
from tests.support.live_page import open_page
from tests.support.observer import changed_tables, database_hash, see
from tests.support.roles import login_role
from tests.support.venues import SEALED, add_bar

_OPERATION: Final = """
select kind, actor, reason, request, outcome, before, after, result - 'operation_id' as result
  from mpesa_sync.operations where bar_id = $1 order by started_at
"""


async def test_it_writes_what_the_manager_writes(db: Database, sql: Any) -> None:
    """R1: both fields, and one entry of the history that differs in nothing from the manager's."""
    ours, theirs = [await add_bar(sql, sandbox=None, production=True, mpesa_enabled=None) for _ in range(2)]
    for on in (True, False, False):
        answer = await switch(sql, ours, on)
        result = await MpesaSyncManager(db).sync_mpesa_status(theirs, on, actor="till")
        assert (answer["changed"], answer["environment"]) == (result.changed, result.environment)
        seen, expected = await see(sql, ours), await see(sql, theirs)
        assert seen is not None
        assert expected is not None
        assert (seen.mpesa_enabled, seen.flags) == (expected.mpesa_enabled, expected.flags)
        last = await sql.fetchval(
            "select id from mpesa_sync.operations where bar_id = $1 order by started_at desc", ours
        )
        assert last == answer["operation_id"]
    assert [dict(r) for r in await sql.fetch(_OPERATION, ours)] == [
        dict(r) for r in await sql.fetch(_OPERATION, theirs)
    ]
    versions = "select bar_id = $1 as ours, version, last_environment from mpesa_sync.bar_state order by 1"
    (_, *one), (_, *other) = await sql.fetch(versions, ours)
    assert one == other


async def test_nothing_is_committed_but_by_the_caller(sql: Any, database_url: str) -> None:
    """R1: inside the caller's transaction; rolled back, nothing is left of it."""
    bar = await add_bar(sql, production=False)
    before = await database_hash(sql)
    async with plain(database_url) as caller:
        await caller.execute("begin")
        assert (await switch(caller, bar))["changed"]
        assert changed_tables(before, await database_hash(sql)) == set()
        await caller.execute("rollback")
        assert changed_tables(before, await database_hash(sql)) == set()
        await caller.execute("begin")
        await switch(caller, bar)
        await caller.execute("commit")
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (True, ["production"])


async def test_sandbox_may_not_serve_where_mpesa_sync_was_attached(db: Database, sql: Any) -> None:
    """Spec 2: as the manager refuses it there; off is always possible."""
    bar = await add_bar(sql, sandbox=False)
    async with undone(sql):
        assert (await switch(sql, bar))["environment"] == "sandbox"
    await sql.execute("update mpesa_sync.installation set mode = 'attached'")
    with pytest.raises(EnvironmentNotAllowed):
        await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    assert await refused(sql, bar) == "MS007"
    assert not (await switch(sql, bar, False))["changed"]


async def test_a_call_that_makes_no_sense_is_refused_and_changes_nothing(sql: Any) -> None:
    """R1: null and unknown arguments, an actor that no history should show."""
    bar = await add_bar(sql, production=False)
    before = await database_hash(sql)
    for arguments in ((None, True, "a"), (bar, None, "a"), (bar, True, None), (bar, True, " "), (bar, True, "a" * 201)):
        assert await refused(sql, *arguments) == "MS001"
    for name in ("staff:otieno", " Operator:juma", "cli:root"):  # as the history names who is signed in
        assert await refused(sql, bar, True, name) == "MS001"
    assert await refused(sql, uuid4()) == "MS003"
    for isolation in ("repeatable_read", "serializable", "read_uncommitted"):
        with pytest.raises(asyncpg.PostgresError, match="must be read committed") as caught:
            async with sql.transaction(isolation=isolation):
                await switch(sql, bar)
        assert caught.value.sqlstate == "MS002"
    assert changed_tables(before, await database_hash(sql)) == set()


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("table", ["public.bars", "public.mpesa_credentials"])
async def test_a_rule_of_the_platform_that_refuses_leaves_both_fields_as_they_were(
    sql: Any, table: str, deferred: bool
) -> None:
    """R1.1: both or neither, also inside a savepoint of a caller who goes on; a deferred rule speaks in the call."""
    bar, other = await add_bar(sql, production=False), await add_bar(sql)
    before = await database_hash(sql)
    async with injected(sql, "after update", table, "23514", times=1, deferred=deferred), sql.transaction():
        assert await refused(sql, bar) == "23514"
        await sql.execute("insert into public.user_bars (user_id, bar_id, role) values ($1, $1, 'staff')", other)
    assert changed_tables(before, await database_hash(sql)) == {"public.user_bars"}


@pytest.mark.parametrize(
    ("table", "rule"), [("bars", "not mpesa_enabled or payment_card_enabled"), ("mpesa_credentials", "not is_active")]
)
async def test_a_constraint_is_named_and_no_row_is_quoted(sql: Any, table: str, rule: str) -> None:
    """faults.md 2: PostgreSQL's DETAIL shows the whole row, with what stands in its secrets."""
    bar = await add_bar(sql, production=False)
    await sql.execute(f"alter table public.{table} add constraint house_rule check ({rule})")
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        await switch(sql, bar)
    assert (caught.value.constraint_name, caught.value.table_name) == ("house_rule", table)
    assert caught.value.hint
    assert caught.value.detail is None
    assert SEALED[0].hex() not in str(caught.value.as_dict())


async def test_switches_in_sql_and_in_python_take_turns(db: Database, sql: Any, database_url: str) -> None:
    """R1, G5: one lock order: no deadlock, no lost write, and a new version for each change, no more."""
    bar, manager = await add_bar(sql, sandbox=False, production=True), MpesaSyncManager(db)
    version = "select version from mpesa_sync.bar_state where bar_id = $1"
    before = await sql.fetchval(version, bar)

    async def in_sql() -> int:
        async with plain(database_url) as caller:
            return sum([(await switch(caller, bar, n % 2 == 0))["changed"] for n in range(5)])

    async def in_python() -> int:
        return sum([(await manager.sync_mpesa_status(bar, n % 2 == 0)).changed for n in range(5)])

    changes = sum(await asyncio.gather(*(work() for work in (in_sql, in_python) for _ in range(6))))
    seen = await see(sql, bar)
    assert seen is not None
    assert not seen.drifted
    assert await sql.fetchval("select count(*) from mpesa_sync.operations where bar_id = $1", bar) == 60
    assert await sql.fetchval("select count(*) from public.audit_logs where bar_id = $1", bar) == changes
    assert await sql.fetchval(version, bar) == before + changes


async def test_a_trigger_that_undoes_the_write_is_an_error(sql: Any) -> None:
    """R1: what is read back is not what was asked; nothing stays."""
    bar = await add_bar(sql, production=False)
    await sql.execute(
        "create function public.undo() returns trigger language plpgsql as "
        "$$ begin new.mpesa_enabled := false; return new; end $$;"
        "create trigger undo before update on public.bars for each row execute function public.undo()"
    )
    before = await database_hash(sql)
    assert await refused(sql, bar) == "MS008"
    assert changed_tables(before, await database_hash(sql)) == set()


async def test_the_callers_settings_are_as_they_were(sql: Any, database_url: str) -> None:
    """R1: `lock_timeout` and `row_security` after the call; a lock is waited for as long as the caller says."""
    bar = await add_bar(sql, production=False)
    show = "select current_setting('lock_timeout'), current_setting('row_security')"
    async with plain(database_url) as holder:
        for timeout in ("0", "90ms"):
            async with sql.transaction():
                await sql.execute(f"set local lock_timeout = '{timeout}'")
                await switch(sql, bar)
                assert tuple(await sql.fetchrow(show)) == (timeout, "on")
                await holder.execute("set lock_timeout = '50ms'")
        async with holder.transaction():
            await holder.execute("select 1 from public.bars where id = $1 for update", bar)
            for timeout, waits_s in (("0", 1.5), ("90ms", 0.09)):
                await sql.execute(f"set lock_timeout = '{timeout}'")
                started = asyncio.get_running_loop().time()
                assert await refused(sql, bar) == "55P03"
                assert waits_s * 0.9 < asyncio.get_running_loop().time() - started < waits_s + 8


async def test_credentials_are_locked_before_the_bar_and_none_can_be_inserted_after(unnoticed_url: str) -> None:
    """races.md: the one lock order, also where nothing is to be written; the twin stands in test_lock_order."""
    lock_credentials = "select 1 from public.mpesa_credentials where tenant_id = $1 for update nowait"
    async with (
        plain(unnoticed_url) as sql,
        plain(unnoticed_url) as ours,
        plain(unnoticed_url) as other,
        plain(unnoticed_url) as third,
    ):
        bar = await add_bar(sql, production=True, mpesa_enabled=True)
        holding = other.transaction()
        await holding.start()
        await other.execute("select 1 from public.bars where id = $1 for update", bar)
        async with ours.transaction():
            task = asyncio.create_task(switch(ours, bar))
            await until(lambda: waits_for_a_lock(sql))
            with pytest.raises(asyncpg.LockNotAvailableError):
                await third.execute(lock_credentials, bar)
            await holding.rollback()
            await task
            inserting = asyncio.create_task(
                third.execute(
                    "insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, "
                    "consumer_key_enc, consumer_secret_enc, passkey_enc, is_active) "
                    "values ($1, 'sandbox', '600123', '', '', '', true)",
                    bar,
                )
            )
            await until(lambda: waits_for_a_lock(sql))
        await inserting
        assert await sql.fetchval("select count(*) from public.mpesa_credentials where tenant_id = $1", bar) == 2


async def test_an_open_page_shows_it_when_it_is_committed(unnoticed_url: str) -> None:
    """R3.2: its own notice, where no trigger sends one."""
    async with plain(unnoticed_url) as caller:
        bar = await add_bar(caller, production=False)
        async with running(unnoticed_url) as hub, open_page(hub, bar) as page:
            await page.until_offers("cash", within_s=5)
            await switch(caller, bar)
            await page.until_offers("mpesa", "cash", within_s=1)


async def test_it_answers_the_alerts_that_a_success_answers(sql: Any) -> None:
    """R5.2: resolved by this operation; what only an opened secret answers stays, and so does another bar's."""
    bar, other = await add_bar(sql, production=False), await add_bar(sql)
    raise_alert = "insert into mpesa_sync.alerts (bar_id, kind, cause, what_to_do) values ($1, $2, 'x', 'y')"
    for kind in AlertKind:
        await sql.execute(raise_alert, bar, kind)
    await sql.execute(raise_alert, other, AlertKind.SYNC_FAILED)
    answer = await switch(sql, bar)
    resolved = await sql.fetch("select bar_id, kind, resolved_by from mpesa_sync.alerts where state = 'resolved'")
    by = f"operation:{answer['operation_id']}"
    assert {tuple(record) for record in resolved} == {(bar, kind, by) for kind in RESOLVED_BY_SUCCESS}


async def test_rows_that_a_policy_hides_are_an_error_and_no_silence(sql: Any, database_url: str) -> None:
    """faults.md 4: row security off for the call, whatever the caller has."""
    bar = await add_bar(sql, production=False)
    async with login_role(sql, database_url) as role:
        await sql.execute(
            f"grant usage on schema mpesa_sync to {role.name};"
            f"grant all on all tables in schema mpesa_sync to {role.name};"
            f"grant all on public.bars, public.mpesa_credentials to {role.name};"
            "alter table public.mpesa_credentials enable row level security"
        )
        before = await database_hash(sql)
        async with plain(role.url) as caller:
            assert await refused(caller, bar) == "42501"
        assert changed_tables(before, await database_hash(sql)) == set()
        await sql.execute("alter table public.mpesa_credentials disable row level security")
        async with plain(role.url) as caller:
            assert (await switch(caller, bar))["changed"]
