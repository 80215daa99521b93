"""The audit: one append-only record an operation: who, from where, by what, what, before, after and why (spec 5)."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db import history
from mpesa_sync.db.operations import Origin
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import CredentialsMissing
from tests.support.cli import cli
from tests.support.databases import plain
from tests.support.entry_point import switch
from tests.support.venues import add_bar
from tests.support.web import Site

_RECORD: Final = """
select kind, bar_id, actor, reason, request, outcome, before, after, person_id, source_address, client
  from mpesa_sync.operations where bar_id = $1 order by started_at
"""
_BY: Final = Origin(UUID(int=7), "192.0.2.7", "till 4.2")


async def _records(sql: Any, bar: UUID) -> list[dict[str, Any]]:
    json_columns = ("request", "before", "after")
    return [
        {name: json.loads(value) if name in json_columns else value for name, value in record.items()}
        for record in await sql.fetch(_RECORD, bar)
    ]


async def test_an_operation_leaves_one_record_with_everything(db: Database, sql: Any) -> None:
    """Spec 5: also when it is repeated under its id; one that was refused leaves none."""
    bar, operation_id, manager = await add_bar(sql, production=False), uuid4(), MpesaSyncManager(db)
    for _ in range(2):
        await manager.sync_mpesa_status(
            bar, True, actor="asha", reason="opening day", operation_id=operation_id, origin=_BY
        )
    assert await _records(sql, bar) == [
        {
            "kind": "switch",
            "bar_id": bar,
            "actor": "asha",
            "reason": "opening day",
            "request": {"is_active": True, "environment": None},
            "outcome": "applied",
            "before": {"credentials": {"production": False}, "mpesa_enabled": False},
            "after": {"credentials": {"production": True}, "mpesa_enabled": True},
            "person_id": _BY.person_id,
            "source_address": "192.0.2.7",
            "client": "till 4.2",
        }
    ]
    bare = await add_bar(sql)
    with pytest.raises(CredentialsMissing):
        await manager.sync_mpesa_status(bare, True)
    assert await _records(sql, bare) == []


async def test_a_save_over_http_says_from_where_and_by_what(sql: Any, site: Site) -> None:
    """Spec 5: the address and the program of who asked, for the save and for the switch inside it."""
    bar = await add_bar(sql, production=False)
    asker = await site.person(sql, bar)
    answer = await site.client.post(
        "/api/mpesa-settings",
        json={"barId": str(bar), "mpesa_enabled": True, "mpesa_business_shortcode": "600124"},
        headers={**asker.headers, "user-agent": "till/4.2"},
    )
    assert answer.status_code == 200, answer.text
    records = await _records(sql, bar)
    assert {record["kind"] for record in records} == {"settings", "switch"}
    assert {(r["person_id"], r["source_address"], r["client"]) for r in records} == {
        (asker.id, "127.0.0.1", "till/4.2")
    }


async def test_a_switch_in_sql_says_so_too(sql: Any, database_url: str) -> None:
    """Spec 5: the address of the connection and its `application_name`."""
    bar = await add_bar(sql, production=False)
    async with plain(database_url) as caller:
        await caller.execute("set application_name = 'till-app'")
        await switch(caller, bar, True, " asha ")
    (record,) = await _records(sql, bar)
    assert (record["actor"], record["person_id"]) == ("asha", None)
    assert (record["source_address"], record["client"]) == ("127.0.0.1", "till-app")


async def test_a_repair_says_by_what(sql: Any, database_url: str) -> None:
    """Spec 5: a repair on the command line is no change without a source."""
    bar = await add_bar(sql, mpesa_enabled=True, production=False)
    told = await asyncio.to_thread(cli, "repair", str(bar), url=database_url, cwd=None)
    assert told.code == 0, told.err
    (record,) = await _records(sql, bar)
    assert (record["kind"], record["client"]) == ("repair", "mpesa-sync repair")


@pytest.mark.parametrize("column", ["person_id", "source_address", "client", "actor", "before", "started_at"])
async def test_a_record_is_never_changed_or_removed(db: Database, sql: Any, column: str) -> None:
    """faults.md, audit tampering: append-only, also for the owner of the table, column by column."""
    bar = await add_bar(sql, production=False)
    await MpesaSyncManager(db).sync_mpesa_status(bar, True, origin=_BY)
    await switch(sql, bar, False)
    before = await sql.fetch("select * from mpesa_sync.operations order by id")
    for change in (
        f"update mpesa_sync.operations set {column} = null",
        "delete from mpesa_sync.operations where source_address <> ''",
        "truncate mpesa_sync.operations cascade",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
            await sql.execute(change)
    assert await sql.fetch("select * from mpesa_sync.operations order by id") == before


async def test_the_history_shows_from_where(db: Database, sql: Any, database_url: str) -> None:
    """Spec 5, 6: in the history of a bar, and in `explain`, as text and for a program."""
    bar = await add_bar(sql, production=False)
    changed = await MpesaSyncManager(db).sync_mpesa_status(bar, True, actor="asha", origin=_BY)
    (change,) = await history.recent(sql, bar, limit=5)
    assert (change.actor, change.address, change.client) == ("asha", "192.0.2.7", "till 4.2")
    told = " ".join(cli("explain", str(bar), url=database_url, cwd=None).out.split())
    assert f"operation {changed.operation_id} from 192.0.2.7 with till 4.2" in told
    last = cli("explain", str(bar), "--json", url=database_url, cwd=None).json["history"]["last_change"]
    assert (last["source_address"], last["client"]) == ("192.0.2.7", "till 4.2")
    await MpesaSyncManager(db).sync_mpesa_status(bar, False, actor="asha")
    assert "192.0.2.7" not in cli("explain", str(bar), url=database_url, cwd=None).out
