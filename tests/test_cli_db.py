"""`db init`, `db status`, `db uninstall`: attach or create, inspect, remove what is ours (spec 6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from tests.support.cli import as_role, cli, environment, on_terminal
from tests.support.observer import database_hash
from tests.support.venues import add_bar

CATALOG = """
select string_agg(c.oid || ' ' || c.relname || ' ' || coalesce(c.relacl::text, '') || ' ' || c.relhastriggers, ','
                  order by c.oid)
  from pg_class c where c.relnamespace = 'public'::regnamespace
"""


@pytest.fixture
async def platform(platform_url: str) -> AsyncIterator[Any]:
    """A connection to a platform's database that mpesa-sync has not been attached to."""
    connection = await asyncpg.connect(platform_url)
    yield connection
    await connection.close()


@pytest.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Any]:
    """A connection to a database without any table."""
    connection = await asyncpg.connect(empty_database_url)
    yield connection
    await connection.close()


async def _is_installed(connection: Any) -> bool:
    return bool(await connection.fetchval("select to_regnamespace('mpesa_sync') is not null"))


async def test_both_tables_there_is_attached_to(platform_url: str, platform: Any) -> None:
    """Spec 1, 6: attached; nothing in public is changed, neither rows nor catalog."""
    rows, catalog = await database_hash(platform), await platform.fetchval(CATALOG)
    ended = cli("db", "init", url=platform_url)
    assert ended.code == 0, ended.err
    assert "(attached)" in ended.out
    assert await platform.fetchval("select mode from mpesa_sync.installation") == "attached"
    after = await database_hash(platform)
    assert {name: digest for name, digest in after.items() if name.startswith("public.")} == rows
    assert await platform.fetchval(CATALOG) == catalog


async def test_it_can_be_repeated(platform_url: str, platform: Any) -> None:
    """Spec 6: a second time changes nothing and is no error, with the other option too."""
    assert cli("db", "init", url=platform_url).code == 0
    before = await database_hash(platform)
    for more in ([], ["--create-platform-tables"]):
        ended = cli("db", "init", *more, url=platform_url)
        assert ended.code == 0
        assert "up to date" in ended.out
        assert "(attached)" in ended.out
    assert await database_hash(platform) == before


async def test_no_table_there_is_refused_unless_asked_for(empty_database_url: str, empty: Any) -> None:
    """Spec 6: none → exit 1 unless --create-platform-tables, which makes them."""
    ended = cli("db", "init", url=empty_database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "bars and mpesa_credentials" in ended.err
    assert "--create-platform-tables" in ended.err
    assert not await _is_installed(empty)
    ended = cli("db", "init", "--create-platform-tables", url=empty_database_url)
    assert ended.code == 0, ended.err
    assert await empty.fetchval("select mode from mpesa_sync.installation") == "greenfield"
    assert "Guards are on, mode heal." in ended.out
    assert await empty.fetchval("select mode from mpesa_sync.guard_settings") == "heal"
    assert "Guards     on, mode heal" in cli("db", "status", url=empty_database_url).out
    assert cli("check", url=empty_database_url).code == 0


@pytest.mark.parametrize("more", [[], ["--create-platform-tables"]], ids=["plain", "asked to create"])
@pytest.mark.parametrize(
    ("there", "other"), [("bars", "mpesa_credentials"), ("mpesa_credentials", "bars")], ids=["only bars", "only keys"]
)
async def test_one_table_there_is_refused_naming_the_other(
    there: str, other: str, more: list[str], empty_database_url: str, empty: Any
) -> None:
    """Spec 6: one → exit 1 naming the other; nothing is made."""
    await empty.execute(f"create table {there} (id uuid primary key)")
    ended = cli("db", "init", *more, url=empty_database_url)
    assert (ended.code, ended.out) == (1, "")
    assert f"{other} is missing" in ended.err
    assert not await _is_installed(empty)
    assert await empty.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 1


async def test_missing_and_odd_columns_are_named(platform_url: str, platform: Any) -> None:
    """existing-platform.md: preflight that names columns; nothing is changed."""
    await platform.execute("alter table bars rename column mpesa_enabled to mpesa_on")
    await platform.execute("alter table mpesa_credentials alter column is_active type text")
    ended = cli("db", "init", url=platform_url)
    assert (ended.code, ended.out) == (1, "")
    assert "bars.mpesa_enabled is missing" in ended.err
    assert "mpesa_credentials.is_active is text, not boolean" in ended.err
    assert not await _is_installed(platform)


async def test_other_tables_of_these_names_are_not_mixed_with(empty_database_url: str, empty: Any) -> None:
    """Spec 6: --create-platform-tables is for an empty database; the clash is named, nothing is made."""
    await empty.execute("create table audit_logs (id int)")
    ended = cli("db", "init", "--create-platform-tables", url=empty_database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "audit_logs" in ended.err
    assert not await _is_installed(empty)


async def test_status_is_exact_before_and_after_init(platform_url: str, platform: Any) -> None:
    """Spec 6: db status needs no `db init`; it says what is there, for a program."""
    before = cli("db", "status", "--json", url=platform_url)
    assert before.code == 0, before.err
    found = before.json
    keys = {"database", "installation", "platform", "role", "guards", "row_level_security", "reconciler", "ready"}
    assert set(found) == keys
    assert found["guards"] == {"state": "missing", "mode": None, "notices": False}
    newest = found["installation"].pop("newest")
    assert found["installation"] == {
        "installed": False,
        "readable": False,
        "mode": None,
        "version": None,
        "current": False,
    }
    assert (found["platform"]["missing"], found["platform"]["odd"]) == ([], [])
    assert found["platform"]["optional"]["bars.slug"] is True
    assert found["platform"]["optional"]["bars.payment_mpesa_enabled"] is False
    assert found["role"] == {"name": "postgres", "superuser": True, "bypass_rls": True, "lacks": [], "sufficient": True}
    assert found["row_level_security"] == {"bars": False, "mpesa_credentials": False}
    assert (found["database"]["supported"], found["ready"], found["reconciler"]) == (True, False, None)
    assert not await _is_installed(platform)
    assert cli("db", "init", url=platform_url).code == 0
    after = cli("db", "status", "--json", url=platform_url).json
    assert (after["ready"], after["reconciler"]["policy"]) == (True, "observe")
    assert after["installation"] == {
        "installed": True,
        "readable": True,
        "mode": "attached",
        "version": newest,
        "newest": newest,
        "current": True,
    }


async def test_status_names_what_does_not_fit(platform_url: str, platform: Any) -> None:
    """existing-platform.md: what is missing, odd, or dangerous, by name."""
    await platform.execute("alter table bars drop column mpesa_enabled")
    await platform.execute("alter table mpesa_credentials alter column is_active type text")
    await platform.execute("alter table user_bars enable row level security")
    await platform.execute("create policy join_any on user_bars for insert with check (true)")
    found = cli("db", "status", "--json", url=platform_url).json
    assert found["platform"]["missing"] == ["bars.mpesa_enabled"]
    assert found["platform"]["odd"] == ["mpesa_credentials.is_active is text, not boolean"]
    assert found["platform"]["user_bars_insert_policies"] == ["join_any"]
    text = cli("db", "status", url=platform_url)
    assert text.code == 0
    assert "bars.mpesa_enabled" in text.out
    assert "join_any" in text.out
    assert text.out.endswith("Not ready, see above.\n")
    assert max(map(len, text.out.splitlines())) <= 80


def test_status_of_a_database_that_fits_names_what_is_left_to_do(platform_url: str) -> None:
    """Nothing is missing, odd or forbidden; only 'db init' has not been run, which is said and no fault."""
    text = cli("db", "status", url=platform_url)
    assert text.out.endswith("Fits. Not ready yet: run 'mpesa-sync db init'.\n")
    assert cli("db", "status", "--json", url=platform_url).json["ready"] is False


async def test_status_says_what_a_role_lacks(database_url: str, sql: Any) -> None:
    """existing-platform.md: attach with a role that bypasses row level security and may write; else it is said."""
    role = f"weak_{uuid4().hex}"
    await sql.execute(f"create role {role} login password 'weak'")
    await sql.execute(f"grant select on bars to {role}")
    await sql.execute("alter table bars enable row level security")
    ended = cli("db", "status", "--json", url=as_role(database_url, role, "weak"))
    assert ended.code == 0, ended.err
    found = ended.json
    assert found["row_level_security"] == {"bars": True, "mpesa_credentials": False}
    assert (found["role"]["superuser"], found["role"]["bypass_rls"], found["role"]["sufficient"]) == (
        False,
        False,
        False,
    )
    assert found["role"]["lacks"] == [
        "bars.mpesa_enabled: UPDATE",
        "mpesa_credentials.is_active: UPDATE",
        "mpesa_credentials: SELECT",
        "bars: BYPASSRLS, for its policies hide rows",
        "schema mpesa_sync: USAGE; SELECT, INSERT, UPDATE, DELETE on its tables; USAGE on its sequences",
    ]
    assert (found["installation"]["installed"], found["installation"]["readable"], found["ready"]) == (
        True,
        False,
        False,
    )


async def test_ready_is_said_exactly_where_a_role_can_write(database_url: str, sql: Any) -> None:
    """The preflight and the work ask for the same rights: by column where that is enough, and on our own tables."""
    role = f"narrow_{uuid4().hex}"
    bar = await add_bar(sql, mpesa_enabled=True, production=False)
    await sql.execute(f"create role {role} login password 'narrow'")
    await sql.execute(f"grant select, update (mpesa_enabled) on bars to {role}")
    await sql.execute(f"grant select, update (is_active) on mpesa_credentials to {role}")
    await sql.execute(f"grant usage on schema mpesa_sync to {role}")
    await sql.execute(f"grant select on all tables in schema mpesa_sync to {role}")
    url = as_role(database_url, role, "narrow")
    found = cli("db", "status", "--json", url=url).json
    assert found["ready"] is False
    assert "mpesa_sync.operations: INSERT" in found["role"]["lacks"]
    assert cli("repair", str(bar), url=url).code == 1
    await sql.execute(f"grant select, insert, update on all tables in schema mpesa_sync to {role}")
    found = cli("db", "status", "--json", url=url).json
    cleaned = ("alert_channels", "alert_deliveries", "alert_occurrences", "venue_channels", "idempotency_keys")
    queued = ("reconciler_cycles", "guard_hits", "migration_candidates", "queue", "queue_log", "queue_statistics")
    wanted = {f"mpesa_sync.{name}: DELETE" for name in cleaned + queued}
    wanted |= {f"mpesa_sync.{name}_id_seq: USAGE" for name in ("queue", "queue_statistics")}
    assert (found["ready"], set(found["role"]["lacks"])) == (False, wanted), "of tidying up, and of the job queue"
    await sql.execute(f"grant delete on all tables in schema mpesa_sync to {role}")
    await sql.execute(f"grant usage on all sequences in schema mpesa_sync to {role}")
    assert cli("db", "status", "--json", url=url).json["ready"] is True
    assert cli("repair", str(bar), url=url).code == 0
    assert cli("migrate", "--yes", url=url).code == 0


async def test_uninstall_without_a_terminal_needs_yes(database_url: str, sql: Any) -> None:
    """Spec 6: without a terminal and without --yes it refuses with 64 and removes nothing."""
    ended = cli("db", "uninstall", url=database_url)
    assert (ended.code, ended.out) == (64, "")
    assert "--yes" in ended.err
    assert await _is_installed(sql)


@pytest.mark.parametrize(
    ("typed", "code", "remains"),
    [("yes\n", 0, False), ("no\n", 1, True), ("\n", 1, True), ("\x04", 1, True), ("\x03", 130, True)],
    ids=["yes", "no", "nothing", "end of input", "Ctrl-C"],
)
async def test_uninstall_asks_on_a_terminal(typed: str, code: int, remains: bool, database_url: str, sql: Any) -> None:
    """Spec 6: it says what will go, and only a yes removes it."""
    ended = on_terminal(["db", "uninstall"], environment(database_url), asked="Type yes: ", typed=typed)
    assert ended.code == code, ended.out
    assert "cannot be undone" in ended.out
    assert await _is_installed(sql) is remains


async def test_uninstall_removes_what_is_ours_and_nothing_else(database_url: str, sql: Any) -> None:
    """Spec 1: one command removes it; public stays, and a second time there is nothing to remove."""
    before = await database_hash(sql)
    ended = cli("db", "uninstall", "--yes", url=database_url)
    assert ended.code == 0, ended.err
    assert not await _is_installed(sql)
    public = {name: digest for name, digest in before.items() if name.startswith("public.")}
    assert await database_hash(sql) == public
    again = cli("db", "uninstall", "--yes", url=database_url)
    assert again.code == 0
    assert "nothing to remove" in again.out


async def test_uninstall_that_is_not_allowed_is_an_error(database_url: str, sql: Any) -> None:
    """Spec 6: rights are said in plain words, and it is never reported as removed."""
    role = f"weak_{uuid4().hex}"
    await sql.execute(f"create role {role} login password 'weak'")
    ended = cli("db", "uninstall", "--yes", url=as_role(database_url, role, "weak"))
    assert (ended.code, ended.out) == (1, "")
    assert await _is_installed(sql)
