"""`migrate` as a real process: arguments, pipe and terminal, signals, exit codes, the report (T5.1, T5.2, R2)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mpesa_sync.migration.options import MAX_BATCH_SIZE
from tests.support.cli import as_role, cli, environment
from tests.support.databases import plain
from tests.support.migrate_cli import add_drift, counts, drifted, refuse
from tests.support.observer import database_hash, see_all
from tests.support.venues import add_bar


async def test_a_dry_run_changes_nothing_and_exits_2_for_drift(database_url: str, sql: Any) -> None:
    """T5.1, R2.1: byte-identical tables before and after, exit code 2."""
    await add_drift(sql, hidden=2, exposed=1, consistent=3)
    before = await database_hash(sql)
    ended = cli("migrate", "--dry-run", url=database_url)
    assert ended.code == 2, ended.err
    assert ended.out.startswith("Dry run: 3 bars would be corrected. Nothing was written.")
    assert "(2 hidden, 1 exposed)" in ended.out
    assert ended.err.startswith("Database: ")
    assert await database_hash(sql) == before


async def test_a_dry_run_without_drift_exits_0(database_url: str, sql: Any) -> None:
    """Spec 6: 0 when there is none; warnings change no exit code."""
    await add_bar(sql, mpesa_enabled=None)
    ended = cli("migrate", "--dry-run", url=database_url)
    assert ended.code == 0
    assert "null_flag" in ended.out


async def test_a_dry_run_makes_nothing_of_ours(platform_url: str) -> None:
    """R2: detection and dry run need nothing of ours installed, and install nothing."""
    async with plain(platform_url) as sql:
        await add_bar(sql, mpesa_enabled=True)
        before = await database_hash(sql)
        ended = cli("migrate", "--dry-run", "--json", url=platform_url)
        assert (ended.code, counts(ended)["deferred"]) == (2, 1)
        assert await database_hash(sql) == before
        assert await sql.fetchval("select to_regnamespace('mpesa_sync')") is None


async def test_a_role_that_may_only_read_can_dry_run(platform_url: str) -> None:
    """Spec 6: the proof that a dry run cannot write is a role without any right to."""
    async with plain(platform_url) as sql:
        await add_bar(sql, mpesa_enabled=True)
        await sql.execute("create role dry_runner login password 'read' bypassrls")
        try:
            await sql.execute("grant select on bars, mpesa_credentials to dry_runner")
            ended = cli("migrate", "--dry-run", url=as_role(platform_url, "dry_runner", "read"))
            assert ended.code == 2, ended.err
            ended = cli("migrate", "--yes", "--json", url=as_role(platform_url, "dry_runner", "read"))
            assert ended.code == 1, ended.err
            assert counts(ended)["fixed"] == 0
            assert "may not do this" in ended.err
        finally:
            await sql.execute("drop owned by dry_runner; drop role dry_runner")


# --- writing


async def test_it_corrects_every_bar_and_verifies(database_url: str, sql: Any) -> None:
    """R2.2, R2.3: exit code 0, both directions corrected, credentials as they were."""
    await add_drift(sql, hidden=3, exposed=2, consistent=2)
    before = await see_all(sql)
    ended = cli("migrate", "--yes", url=database_url)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("Done: every bar is in sync, verified.")
    after = await see_all(sql)
    assert not await drifted(sql)
    assert {bar: seen.flags for bar, seen in after.items()} == {bar: seen.flags for bar, seen in before.items()}
    again = counts(cli("migrate", "--yes", "--json", url=database_url))
    assert (again["drifted"], again["fixed"], again["verified"], again["state"]) == (0, 0, True, "done")


async def test_json_is_the_last_line_and_exactly_the_contract(database_url: str, sql: Any) -> None:
    """Spec 6: the members in their order; stdout holds nothing else."""
    await add_drift(sql, hidden=1, consistent=1)
    ended = cli("migrate", "--yes", "--json", url=database_url)
    report = counts(ended)
    assert (ended.code, ended.out.count("\n")) == (0, 1)
    assert (report["scanned"], report["fixed"], report["state"], report["dry_run"]) == (2, 1, "done", False)
    UUID(report["run"])


async def test_the_schema_is_made_where_it_is_absent_and_that_is_said(platform_url: str) -> None:
    """R2: writing creates the schema `mpesa_sync` where it is absent and says so."""
    async with plain(platform_url) as sql:
        await add_bar(sql, mpesa_enabled=True)
        ended = cli("migrate", "--yes", url=platform_url)
        assert ended.code == 0, ended.err
        assert "schema mpesa_sync was absent and has been made" in ended.err
        assert "has been made" not in cli("migrate", "--yes", url=platform_url).err


async def test_who_and_why_are_kept(database_url: str, sql: Any) -> None:
    """Spec 5: every write leaves who and why."""
    await add_drift(sql, hidden=1)
    run = counts(cli("migrate", "--yes", "--json", "--actor", "ops:amina", "--reason", "ticket 512", url=database_url))
    record = await sql.fetchrow("select id::text, actor, reason from mpesa_sync.migration_runs")
    assert tuple(record) == (run["run"], "ops:amina", "ticket 512")


async def test_a_poisoned_record_is_quarantined_and_the_others_go_on(database_url: str, sql: Any) -> None:
    """R2.4: exit code 3, the record listed with SQLSTATE and reason, the rest corrected."""
    await add_drift(sql, hidden=5)
    poisoned = await add_bar(sql, mpesa_enabled=True)
    await refuse(sql, poisoned)
    ended = cli("migrate", "--yes", url=database_url)
    assert ended.code == 3, ended.err
    assert await drifted(sql) == [poisoned]
    assert f"{poisoned}  SQLSTATE P0001" in ended.out
    assert f"'mpesa-sync explain {poisoned}'" in ended.out
    report = counts(cli("migrate", "--yes", "--json", url=database_url))
    assert (report["quarantined"], report["verified"], report["state"]) == (1, True, "done")


async def test_stale_authority_is_left_out_unless_it_is_accepted(database_url: str, sql: Any) -> None:
    """R2: a bar that keeps its secrets in `bars` is quarantined; `--authority credentials` is the knowing choice."""
    await sql.execute("alter table bars add column mpesa_passkey_encrypted text")
    bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("update bars set mpesa_passkey_encrypted = 'sealed'")
    ended = cli("migrate", "--yes", url=database_url)
    assert (ended.code, await drifted(sql)) == (3, [bar])
    assert "--authority credentials" in " ".join(ended.out.split())
    assert cli("migrate", "--yes", "--authority", "credentials", url=database_url).code == 0
    assert not await drifted(sql)


# --- limits


async def test_max_changes_refuses_before_anything_is_written(database_url: str, sql: Any) -> None:
    """Spec 6: more planned → nothing written, exit code 6; as many as allowed go through."""
    await add_drift(sql, hidden=3)
    before = await database_hash(sql)
    ended = cli("migrate", "--yes", "--max-changes", "2", url=database_url)
    assert ended.code == 6
    assert ended.out.startswith("Refused by --max-changes: 3 bars would be corrected. Nothing was written.")
    assert await database_hash(sql) == before
    assert cli("migrate", "--dry-run", "--max-changes", "2", url=database_url).code == 6
    assert cli("migrate", "--yes", "--max-changes", "3", url=database_url).code == 0


async def test_max_errors_stops_the_run(database_url: str, sql: Any) -> None:
    """R2.4: `--max-errors` is there for who wants a stop: exit code 6, before 3."""
    await refuse(sql, await add_bar(sql, mpesa_enabled=True))
    ended = cli("migrate", "--yes", "--json", "--max-errors", "0", url=database_url)
    assert (ended.code, counts(ended)["quarantined"]) == (6, 1)
    assert "--max-errors" in ended.err


async def test_drift_that_never_ends_is_not_called_verified(database_url: str, sql: Any) -> None:
    """R2.3, races.md: at most 3 rounds, then exit code 5, said so."""
    await add_bar(sql, mpesa_enabled=True)

    async def drift_for_ever() -> None:
        while True:
            await sql.execute("insert into bars (name, mpesa_enabled) values ('new, and drifted', true)")

    other = asyncio.create_task(drift_for_ever())
    try:
        ended = await asyncio.to_thread(cli, "migrate", "--yes", "--json", url=database_url)
    finally:
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    assert ended.code == 5, ended.err
    report = counts(ended)
    assert (report["verified"], report["state"]) == (False, "failed")
    assert "Not verified" in ended.err


async def test_a_missing_table_is_named(empty_database_url: str) -> None:
    """Spec 6: exit code 1, what is missing by name, nothing on stdout."""
    ended = cli("migrate", "--yes", url=empty_database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "bars is missing" in ended.err


async def test_a_database_that_is_away_is_an_error(database_url: str) -> None:
    """faults.md: never a hang, never "in sync"."""
    ended = cli("migrate", "--dry-run", url="postgresql://postgres:geheim@127.0.0.1:1/none")
    assert (ended.code, ended.out) == (1, "")
    assert "geheim" not in ended.err


# --- usage


def test_without_a_terminal_and_without_yes_it_refuses(database_url: str) -> None:
    """Spec 6: 64, and it says what to give."""
    ended = cli("migrate", url=database_url)
    assert (ended.code, ended.out) == (64, "")
    assert "--yes" in ended.err
    assert "--dry-run" in ended.err


def test_without_a_database_it_refuses(tmp_path: Path) -> None:
    """Spec 6: 64 when nothing names one and no embedded server exists here."""
    assert cli("migrate", "--dry-run", cwd=tmp_path).code == 64


@pytest.mark.parametrize(
    "arguments",
    [
        ("--batch-size", "0"),
        ("--batch-size", str(MAX_BATCH_SIZE + 1)),
        ("--batch-size", "many"),
        ("--max-changes", "-1"),
        ("--max-errors", "-1"),
        ("--authority", "bars"),
        ("--actor", ""),
        ("--actor", "a\u202eb"),
        ("--reason", "x" * 501),
        ("--wrong",),
        ("all",),
    ],
    ids=str,
)
def test_wrong_arguments_are_64_and_touch_nothing(arguments: tuple[str, ...]) -> None:
    """Spec 6: wrong usage is told before any database is asked."""
    ended = cli("migrate", "--yes", *arguments, url="postgresql://nobody@127.0.0.1:1/none")
    assert (ended.code, ended.out) == (64, "")
    assert "Error" in ended.err


def test_help_has_examples() -> None:
    """Spec 6: `--help` has examples on every command."""
    ended = cli("migrate", "--help")
    assert ended.code == 0
    assert "mpesa-sync migrate --dry-run" in ended.out
    assert all(len(line) <= 80 for line in ended.out.splitlines())


async def test_the_module_is_the_same_command(database_url: str, sql: Any) -> None:
    """R2: `python -m mpesa_sync.migration`."""
    await add_drift(sql, exposed=1)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "mpesa_sync.migration", "--dry-run", "--json"],
        env=environment(database_url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, json.loads(done.stdout)["drifted"]) == (2, 1)


# --- the report file
