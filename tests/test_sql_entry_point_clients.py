"""What docs/how-to/sql-entry-point.md shows is run: psql, Node, and roles with no other rights than it names."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from mpesa_sync.db import embedded
from tests.support import node
from tests.support.databases import plain
from tests.support.entry_point import REFUSALS, refused, switch
from tests.support.observer import see
from tests.support.roles import login_role
from tests.support.venues import add_bar

_PAGE: Final = (Path(__file__).parent.parent / "docs" / "how-to" / "sql-entry-point.md").read_text()
_MIGRATION: Final = (
    Path(__file__).parent.parent / "src/mpesa_sync/db/schema/migrations/0009_entry_point.sql"
).read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _PAGE, re.MULTILINE | re.DOTALL)


_PSQL, _GRANTS, _WRAPPER = _blocks("sql")


async def _is_on(sql: Any, bar: UUID) -> bool:
    seen = await see(sql, bar)
    assert seen is not None
    assert not seen.drifted
    return seen.authority


async def test_psql_switches(server: embedded.Server, database_url: str, sql: Any) -> None:
    """R1: the example for psql, and a refusal as psql shows it."""
    bar, bare = await add_bar(sql, production=False), await add_bar(sql)

    def psql(bar_id: UUID) -> subprocess.CompletedProcess[str]:
        command = [str(server.bin_dir / "psql"), database_url, "-v", f"bar={bar_id}", "-v", "VERBOSITY=verbose", "-At"]
        environment = {**os.environ, "PGAPPNAME": "till-psql"}
        return subprocess.run(
            [*command, "-v", "ON_ERROR_STOP=1"],
            env=environment, input=_PSQL, capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip

    done = await asyncio.to_thread(psql, bar)
    assert done.returncode == 0, done.stderr
    operation_id, changed, environment = done.stdout.strip().split("|")
    assert (changed, environment) == ("t", "production")
    assert await _is_on(sql, bar)
    kept = "select actor, client, source_address from mpesa_sync.operations where id = $1"
    assert tuple(await sql.fetchrow(kept, operation_id)) == ("asha@example.com", "till-psql", "127.0.0.1")
    done = await asyncio.to_thread(psql, bare)
    assert done.returncode != 0
    assert "MS004: There are no M-Pesa credentials." in done.stderr
    assert "HINT:  Save them first" in done.stderr


async def test_a_plain_node_client_switches(tmp_path: Path, database_url: str, sql: Any) -> None:
    """R1: the example for Node; what it saved of its own is committed with the switch, or not at all."""
    folder = await asyncio.to_thread(node.project, tmp_path)
    (code,) = _blocks("js")
    bar, bare = await add_bar(sql, production=False), await add_bar(sql)
    done = await asyncio.to_thread(node.run, folder, code, DATABASE_URL=database_url, BAR_ID=str(bar))
    assert (done.returncode, done.stderr) == (0, "")
    answer = json.loads(done.stdout)
    assert (answer["changed"], answer["environment"]) == (True, "production")
    assert await _is_on(sql, bar)
    kept = "select client from mpesa_sync.operations where id = $1"
    assert await sql.fetchval(kept, answer["operation_id"]) == "till-app"
    done = await asyncio.to_thread(node.run, folder, code, DATABASE_URL=database_url, BAR_ID=str(bare))
    assert done.returncode == 1
    assert done.stderr.startswith("MS004 There are no M-Pesa credentials. Save them first")
    names = "select id = $1 as on, right(name, 1) = '!' as renamed from public.bars"
    assert {tuple(record) for record in await sql.fetch(names, bar)} == {(True, True), (False, False)}


async def test_a_role_needs_the_rights_that_are_named_and_no_others(database_url: str, sql: Any) -> None:
    """R1: with all of them it switches; without any one it is refused, but for those of the copies."""
    bar = await add_bar(sql, sandbox=False)
    await sql.execute(
        "insert into mpesa_sync.alerts (bar_id, kind, cause, what_to_do) values ($1, 'sync_failed', 'x', 'y')", bar
    )
    grants = [line for line in _GRANTS.splitlines() if line]
    async with login_role(sql, database_url) as role:
        mine = [grant.replace("till_app", role.name) for grant in grants]
        for grant in mine:
            await sql.execute(grant)
        for grant in mine:
            await sql.execute(grant.partition(";")[0].replace("grant ", "revoke ").replace(" to ", " from "))
            async with plain(role.url) as caller:
                if "may be left out" in grant:
                    assert (await switch(caller, bar))["changed"]
                else:
                    assert await refused(caller, bar) == "42501", grant
            await sql.execute(grant)
    assert len(grants) == 7
    assert await _is_on(sql, bar)


async def test_a_role_with_the_wrapper_may_switch_and_nothing_else(database_url: str, sql: Any) -> None:
    """R1: the platform's own function gives the switch alone."""
    bar = await add_bar(sql, production=False)
    async with login_role(sql, database_url) as role, plain(role.url) as caller:
        await sql.execute(_WRAPPER.replace("till_app", role.name))
        assert await caller.fetchval("select public.switch_mpesa($1, true, 'till')", bar)
        assert await refused(caller, bar) == "42501"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await caller.execute("update public.bars set mpesa_enabled = false")
    assert await _is_on(sql, bar)


def test_the_page_names_every_error_of_the_function() -> None:
    """R1: the errors that are documented are those that are raised."""
    raised = set(re.findall(r"'(MS\d{3})'", _MIGRATION))
    assert raised == set(re.findall(r"^\| `(MS\d{3})`", _PAGE, re.MULTILINE))
    assert raised >= set(REFUSALS.values())
