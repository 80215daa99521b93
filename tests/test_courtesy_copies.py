"""Copies of the audit in the platform's own logs: there where they can be, and never the end of an operation (R4.1)."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.db.operations import Origin
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.audit import AuditAct
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.databases import plain
from tests.support.encodings import traces
from tests.support.entry_point import switch
from tests.support.faults import logged, named
from tests.support.observer import see
from tests.support.venues import SECRETS, add_bar
from tests.support.web import Site

TABLES: Final = ("audit_logs", "mpesa_credential_events")
_LOGS: Final = (
    "select action, staff_id, details from public.audit_logs where bar_id = $1 order by details->>'operation_id'"
)
_EVENTS: Final = """
select e.event_type, e.user_id, e.event_data, c.environment
  from public.mpesa_credential_events e join public.mpesa_credentials c on c.id = e.credential_id
 where e.tenant_id = $1 and c.tenant_id = $1 order by e.event_data->>'operation_id', c.environment
"""
_OPERATION: Final = "select actor, before, after, result->>'environment' from mpesa_sync.operations where id = $1"


async def _copies(sql: Any, bar: UUID) -> tuple[list[Any], list[Any]]:
    return list(await sql.fetch(_LOGS, bar)), list(await sql.fetch(_EVENTS, bar))


async def _is_on(sql: Any, bar: UUID) -> bool:
    seen = await see(sql, bar)
    assert seen is not None
    assert not seen.drifted
    return seen.authority


async def test_a_switch_leaves_a_copy_in_both_tables(db: Database, sql: Any) -> None:
    """Spec 5: who, what, before, after, operation id; the same from Python and from SQL, and no secret."""
    for by_sql in (False, True):
        bar = await add_bar(sql, sandbox=True, production=False, mpesa_enabled=True)
        await sql.execute("update public.mpesa_credentials set is_active = environment = 'production'")
        await sql.execute("update public.bars set mpesa_enabled = false")
        if by_sql:
            operation_id = (await switch(sql, bar, False, "asha"))["operation_id"]
        else:
            operation_id = (await MpesaSyncManager(db).sync_mpesa_status(bar, False, actor="asha")).operation_id
        actor, before, after, environment = await sql.fetchrow(_OPERATION, operation_id)
        ((action, staff_id, details),), ((event_type, user_id, event_data, of),) = await _copies(sql, bar)
        assert (action, staff_id) == (AuditAct.SWITCHED_OFF, None)
        assert json.loads(details) == {
            "operation_id": str(operation_id),
            "actor": actor,
            "environment": environment,
            "before": json.loads(before),
            "after": json.loads(after),
        }
        assert (event_type, user_id, of) == ("updated", None, "production"), "of the row that was changed"
        assert json.loads(event_data) == {**json.loads(details), "action": action}
        assert traces([secret.reveal() for secret in SECRETS], details + event_data) == []


async def test_what_changes_nothing_leaves_no_copy(db: Database, sql: Any) -> None:
    """Spec 5: a no-op, from Python, from SQL and as a repair, is in our history alone."""
    bar = await add_bar(sql, production=True, mpesa_enabled=True)
    await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    await MpesaSyncManager(db).repair_inconsistency(bar, actor="asha")
    await switch(sql, bar, True)
    assert await _copies(sql, bar) == ([], [])
    assert await sql.fetchval("select count(*) from mpesa_sync.operations where bar_id = $1", bar) == 3


async def test_a_repair_is_told_and_a_migration_is_not(db: Database, sql: Any) -> None:
    """Decision 15: a migration corrects flags, changes no credentials and has a journal of its own."""
    repaired, migrated = [await add_bar(sql, production=True, mpesa_enabled=False) for _ in range(2)]
    await MpesaSyncManager(db).repair_inconsistency(repaired, actor="asha")
    await MpesaMigrationService(db).run(RunOptions(actor="asha"))
    ((action, *_),), events = await _copies(sql, repaired)
    assert (action, events) == (AuditAct.REPAIRED, [])
    assert await _is_on(sql, migrated)
    assert await _copies(sql, migrated) == ([], [])


async def test_a_save_is_told_once_for_what_it_stored_and_once_for_what_it_switched(
    db: Database, sql: Any, site: Site
) -> None:
    """Spec 5: created, then updated; a save that only switches is a switch."""
    bar = await add_bar(sql)
    asker = await site.person(sql, bar)
    person = Person(asker.id, asker.name, is_operator=False, via=Via.SESSION)
    service = SettingsService(db)
    secrets = dict(zip(("consumer_key", "consumer_secret", "passkey"), SECRETS, strict=True))

    async def saved(**given: Any) -> tuple[list[str], list[tuple[str, str]]]:
        before = await _copies(sql, bar)
        await service.save(SettingsChange(bar_id=bar, **given), person)
        logs, events = await _copies(sql, bar)
        return (
            sorted(record["action"] for record in logs if record not in before[0]),
            sorted((r["event_type"], json.loads(r["event_data"])["action"]) for r in events if r not in before[1]),
        )

    assert await saved(enabled=True, environment=Environment.PRODUCTION, shortcode="600123", **secrets) == (
        [AuditAct.SETTINGS_SAVED, AuditAct.SWITCHED_ON],
        [("created", AuditAct.SETTINGS_SAVED), ("updated", AuditAct.SWITCHED_ON)],
    )
    assert await saved(shortcode="600124") == ([AuditAct.SETTINGS_SAVED], [("updated", AuditAct.SETTINGS_SAVED)])
    assert await saved(enabled=False) == ([AuditAct.SWITCHED_OFF], [("updated", AuditAct.SWITCHED_OFF)])
    logs, events = await _copies(sql, bar)
    assert traces([secret.reveal() for secret in SECRETS], str(logs) + str(events)) == []


async def test_a_person_is_named_where_the_platform_knows_them(db: Database, sql: Any, site: Site) -> None:
    """Spec 5: the subject of a token is the platform's user; a local account's id is ours."""
    bar, theirs = await add_bar(sql, production=False), uuid4()
    ours = (await site.person(sql, bar)).id
    manager = MpesaSyncManager(db)
    await manager.sync_mpesa_status(bar, True, origin=Origin(theirs))
    await manager.sync_mpesa_status(bar, False, origin=Origin(ours))
    logs, events = await _copies(sql, bar)
    assert {(record["action"], record["staff_id"]) for record in logs} == {
        (AuditAct.SWITCHED_ON, theirs),
        (AuditAct.SWITCHED_OFF, None),
    }
    assert {record["user_id"] for record in events} == {theirs, None}


async def test_a_copy_is_part_of_the_transaction(db: Database, sql: Any, database_url: str) -> None:
    """Spec 5: rolled back with what it tells."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as caller:
        await caller.execute("begin")
        await MpesaSyncManager(db).sync_mpesa_status(bar, True, connection=caller)
        assert await caller.fetchval("select count(*) from public.audit_logs") == 1
        await caller.execute("rollback")
    assert await _copies(sql, bar) == ([], [])


_RAISE: Final = """
create function public.odd() returns trigger language plpgsql as $$ begin {} return new; end $$;
create trigger odd {} insert on public.{{table}} for each row execute function public.odd();
"""
_DEFERRED: Final = """
create function public.odd() returns trigger language plpgsql as $$ begin raise 'odd'; end $$;
create constraint trigger odd after insert on public.{table} deferrable initially deferred
  for each row execute function public.odd();
"""
_DRIFT: Final = "update public.bars set mpesa_enabled = not mpesa_enabled;"
ODD: Final = {
    "no such table": ("drop table public.{table}", None),
    "a view": ("alter table public.{table} rename to t; create view public.{table} as select 1 as one", "42703"),
    "no such column": ("alter table public.{table} rename created_at to at; alter table public.{table} "
                       "drop column {column}", "42703"),
    "one column more": ("alter table public.{table} add column more text not null", "23502"),
    "a column of another type": ("alter table public.{table} alter column {column} type int using 1", "42804"),
    "a refusing check": ("alter table public.{table} add check (false)", "23514"),
    "a trigger that raises": (_RAISE.format("raise 'odd';", "before"), "P0001"),
    "a trigger that asserts": (_RAISE.format("assert false;", "after"), "P0004"),
    "a trigger that cancels": (_RAISE.format("raise query_canceled;", "after"), "57014"),
    "a trigger that makes drift": (_RAISE.format(_DRIFT, "after"), "MS008"),
    "a constraint that is deferred": (_DEFERRED, "P0001"),
    "a rule that does nothing": ("create rule odd as on insert to public.{table} do instead nothing", None),
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("odd", ODD)
async def test_no_table_of_the_platform_can_fail_an_operation(db: Database, sql: Any, table: str, odd: str) -> None:
    """Spec 5: the switch is applied, from Python and from SQL; the refusal is logged, or said as a notice."""
    bar = await add_bar(sql, production=False)
    change, sqlstate = ODD[odd]
    column = {"audit_logs": "details", "mpesa_credential_events": "event_data"}[table]
    await sql.execute(change.format(table=table, column=column))
    with logged() as events:
        result = await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    assert (result.success, result.changed, result.attempts) == (True, True, 1)
    assert await _is_on(sql, bar)
    failed = {(entry["table"], entry["sqlstate"]) for entry in named(events, Event.COURTESY_COPY_FAILED)}
    said: list[str] = []
    sql.add_log_listener(lambda _, message: said.append(message.message))
    assert (await switch(sql, bar, False))["changed"]
    assert not await _is_on(sql, bar)
    if sqlstate is None:
        assert (failed, said) == (set(), [])
    else:
        assert {(f"public.{table}", sqlstate)} <= failed
        assert f"public.{table} keeps no copy of this switch (SQLSTATE {sqlstate})." in said
    other = next(name for name in TABLES if name != table)
    if sqlstate != "57014":
        assert await sql.fetchval(f"select count(*) from public.{other}") == 2, "the other copy is there"


async def test_a_table_that_is_locked_is_not_waited_for(db: Database, sql: Any, database_url: str) -> None:
    """Spec 5: 200 ms for each copy, well within the operation's own limits, which are as they were after it."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as other:
        await other.execute("begin; lock table public.audit_logs, public.mpesa_credential_events")
        with logged() as events:
            result = await MpesaSyncManager(db).sync_mpesa_status(bar, True)
        assert result.attempts == 1
        async with sql.transaction():
            await sql.execute("set local lock_timeout = '700ms'")
            assert (await switch(sql, bar, False))["changed"]
            assert await sql.fetchval("show lock_timeout") == "700ms"
    assert [entry["sqlstate"] for entry in named(events, Event.COURTESY_COPY_FAILED)] == ["55P03", "55P03"]
    assert not await _is_on(sql, bar)


async def test_a_trigger_that_never_ends_costs_the_statements_time_and_no_more(sql: Any) -> None:
    """Spec 5: once the time is up nothing would end a second wait, so there is none."""
    bar = await add_bar(sql, production=False)
    slow = "create function public.slow() returns trigger language plpgsql as $$ begin perform pg_sleep(9); end $$;"
    await sql.execute(slow)
    for table in TABLES:
        await sql.execute(
            f"create trigger slow before insert on public.{table} for each row execute function public.slow()"
        )
    await sql.execute("set statement_timeout = '300ms'")
    said: list[str] = []
    sql.add_log_listener(lambda _, message: said.append(message.message))
    async with asyncio.timeout(8):
        assert (await switch(sql, bar))["changed"]
    assert len(said) == 2
    await sql.execute("reset statement_timeout")
    assert await _is_on(sql, bar)
