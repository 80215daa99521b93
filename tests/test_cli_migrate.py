"""`migrate` as a real process: arguments, pipe and terminal, signals, exit codes, the report (T5.1, T5.2, R2)."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.cli import migration_report, progress
from mpesa_sync.migration.report import Progress, Quarantined, Run, RunReport, RunState
from mpesa_sync.migration.run import MAX_BATCH_SIZE
from tests.support.cli import Ended, as_role, cli, environment, on_terminal
from tests.support.databases import plain
from tests.support.observer import database_hash, see_all
from tests.support.venues import add_bar

JSON_KEYS: Final = (
    "run",
    "state",
    "dry_run",
    "scanned",
    "consistent",
    "drifted",
    "fixed",
    "already_consistent",
    "stale",
    "vanished",
    "quarantined",
    "deferred",
    "verified",
    "duration_s",
)
OUTCOMES: Final = ("fixed", "already_consistent", "stale", "vanished", "quarantined", "deferred")
COLOUR: Final = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])(?:;\d+)*m")


def counts(ended: Ended) -> dict[str, Any]:
    """Return the object of the last line, which must have exactly the members of the contract and add up."""
    report: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
    assert tuple(report) == JSON_KEYS
    assert report["scanned"] == report["consistent"] + report["drifted"]
    assert report["drifted"] == sum(report[name] for name in OUTCOMES)
    return report


async def add_drift(sql: Any, *, hidden: int = 0, exposed: int = 0, consistent: int = 0) -> None:
    """Insert bars in these numbers."""
    for _ in range(hidden):
        await add_bar(sql, mpesa_enabled=False, production=True)
    for _ in range(exposed):
        await add_bar(sql, mpesa_enabled=True, production=False)
    for _ in range(consistent):
        await add_bar(sql, mpesa_enabled=True, production=True)


async def drifted(sql: Any) -> list[UUID]:
    """Return the bars that are drifted, by the oracle."""
    return [bar_id for bar_id, seen in (await see_all(sql)).items() if seen.drifted]


async def refuse(sql: Any, bar_id: UUID) -> None:
    """Make a trigger refuse every change of one bar."""
    await sql.execute(
        f"create function poison() returns trigger language plpgsql as $$ begin if old.id = '{bar_id}' then "
        "raise exception 'no'; end if; return new; end $$; "
        "create trigger poison before update on bars for each row execute function poison()"
    )


async def slow_down(sql: Any, seconds: float) -> None:
    """Make every statement that updates bars take this long."""
    await sql.execute(
        f"create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep({seconds}); "
        "return null; end $$; create trigger slow before update on bars for each statement execute function slow()"
    )


# --- dry run


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


async def test_the_report_file_holds_everything_and_is_private(database_url: str, sql: Any, tmp_path: Path) -> None:
    """Issue 2: the whole as JSON, 0600, without any password."""
    for _ in range(migration_report.LISTED + 2):
        bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("alter table bars add constraint shown check (mpesa_enabled)")
    file = tmp_path / "run.json"
    ended = cli("migrate", "--yes", "--report", str(file), url=database_url)
    assert ended.code == 3
    assert "… and 2 more" in ended.out
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert kept["exit_code"] == 3
    assert len(kept["records"]) == migration_report.LISTED + 2
    assert {record["sqlstate"] for record in kept["records"]} == {"23514"}
    assert str(bar) in {record["bar_id"] for record in kept["records"]}
    assert "postgresql://" not in file.read_text()


async def test_a_report_file_is_never_written_over(database_url: str, tmp_path: Path) -> None:
    """Issue 2: it refuses with 64 before anything is done, unless the file is empty."""
    full, empty, link = tmp_path / "full", tmp_path / "empty", tmp_path / "link"
    full.write_text("mine")
    empty.touch()
    link.symlink_to(empty)
    for path in (full, link, tmp_path, tmp_path / "no" / "folder"):
        assert cli("migrate", "--yes", "--report", str(path), url=database_url).code == 64, path
    assert (full.read_text(), empty.read_text()) == ("mine", "")
    assert cli("migrate", "--yes", "--report", str(empty), url=database_url).code == 0
    assert json.loads(empty.read_text())["report"]["state"] == "done"


def test_a_report_file_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    """A run that never began leaves no empty file that looks like a report."""
    file = tmp_path / "run.json"
    assert cli("migrate", "--dry-run", "--report", str(file), url="postgresql://x@127.0.0.1:1/none").code == 1
    assert not file.exists()


# --- a terminal


@pytest.mark.parametrize(
    ("typed", "code", "left"),
    [("y\n", 0, 0), ("yes\n", 0, 0), ("n\n", 2, 2), ("\n", 2, 2), ("Yo\n", 2, 2), ("\x04", 2, 2)],
)
async def test_on_a_terminal_it_shows_and_asks_once(
    database_url: str, sql: Any, typed: str, code: int, left: int
) -> None:
    """Spec 6: it asks once, showing what would change; only a yes goes on."""
    await add_drift(sql, hidden=1, exposed=1)
    before = await database_hash(sql)
    ended = on_terminal(["migrate"], environment(database_url), typed, asked="[y/N]")
    assert ended.code == code, ended.out
    assert ended.out.count("[y/N]") == 1
    assert "2 drifted (1 hidden, 1 exposed)" in ended.out
    assert len(await drifted(sql)) == left
    if left:
        assert "Nothing was changed." in ended.out
        assert await database_hash(sql) == before


@pytest.mark.parametrize(("typed", "code", "asked"), [("y\ny\n", 0, 2), ("y\nn\n", 2, 2), ("n\n", 2, 1)])
async def test_many_changes_are_asked_about_twice(
    database_url: str, sql: Any, typed: str, code: int, asked: int
) -> None:
    """Spec 6: a second time when more than 5 % of more than 1,000 bars would change."""
    await sql.execute("insert into bars (name, mpesa_enabled) select 'b', i <= 60 from generate_series(1, 1100) i")
    ended = on_terminal(["migrate"], environment(database_url), typed, asked="[y/N]")
    assert (ended.code, ended.out.count("[y/N]")) == (code, asked)
    assert len(await drifted(sql)) == (60 if code else 0)


async def test_few_changes_of_many_bars_are_asked_about_once(database_url: str, sql: Any) -> None:
    """Spec 6: 5 % itself is not more than 5 %."""
    await sql.execute("insert into bars (name, mpesa_enabled) select 'b', i <= 55 from generate_series(1, 1100) i")
    ended = on_terminal(["migrate"], environment(database_url), "y\n", asked="[y/N]")
    assert (ended.code, ended.out.count("[y/N]")) == (0, 1)


async def test_yes_answers_every_question_on_a_terminal(database_url: str, sql: Any) -> None:
    """Spec 6: `--yes` answers every question; without drift there is none to ask."""
    await add_drift(sql, hidden=1)
    assert "[y/N]" not in on_terminal(["migrate", "--yes"], environment(database_url)).out
    assert "[y/N]" not in on_terminal(["migrate"], environment(database_url)).out


async def test_a_schema_that_would_be_made_is_asked_about(platform_url: str) -> None:
    """R2: nothing is installed unasked, and nothing where no bar has drifted."""
    installed = "select to_regnamespace('mpesa_sync') is not null"
    async with plain(platform_url) as sql:
        in_sync = on_terminal(["migrate"], environment(platform_url))
        assert (in_sync.code, "[y/N]" in in_sync.out, await sql.fetchval(installed)) == (0, False, False)
        await add_drift(sql, hidden=1)
        ended = on_terminal(["migrate"], environment(platform_url), "n\n", asked="[y/N]")
        assert ended.code == 2
        assert "Would make the schema mpesa_sync" in ended.out
        assert await sql.fetchval(installed) is False


@pytest.mark.parametrize("more", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
async def test_no_color_and_dumb_terminals(database_url: str, sql: Any, more: dict[str, str]) -> None:
    """Spec 6: colours on a terminal, none under `NO_COLOR`; a dumb terminal gets plain lines."""
    await add_drift(sql, hidden=1)
    ended = on_terminal(["migrate", "--yes"], environment(database_url, **more))
    assert ended.code == 0
    assert bool(COLOUR.search(ended.out)) == (not more)
    if "TERM" in more:
        assert "\x1b" not in ended.out


# --- progress


async def test_plain_lines_where_there_is_no_terminal(database_url: str, sql: Any) -> None:
    """Spec 6: a line after 1 s, never above 100 %, on stderr only."""
    await add_drift(sql, hidden=8)
    await slow_down(sql, 0.25)
    ended = cli("migrate", "--yes", "--batch-size", "1", url=database_url)
    assert ended.code == 0, ended.err
    line = next(line for line in ended.err.splitlines() if line.startswith("Correcting: "))
    assert re.fullmatch(r"Correcting: \d of 8 bars \(\d+ %\), \d fixed; 1 s", line)
    assert "Correcting" not in ended.out


async def test_a_bar_of_progress_on_a_terminal(database_url: str, sql: Any) -> None:
    """Spec 6: drawn in place, and gone at the end."""
    await add_drift(sql, hidden=6)
    await slow_down(sql, 0.2)
    ended = on_terminal(["migrate", "--yes", "--batch-size", "1"], environment(database_url))
    assert ended.code == 0
    shown = [int(percent) for percent in re.findall(r"(\d+) % of 6", ended.out)]
    assert len(set(shown)) > 2
    assert max(shown) <= 100
    assert ended.out.rindex("\x1b[2K") < ended.out.index("Done: every bar")


def moment(settled: int, total: int) -> Progress:
    """Return a moment of a run."""
    from uuid import uuid4

    report = RunReport(run=uuid4(), state=RunState.DONE, dry_run=False, fixed=settled)
    return Progress(phase="correcting", settled=settled, total=total, report=report)


def test_percentages_never_pass_100_and_reach_it_only_at_the_end() -> None:
    """Spec 6: never above 100 %."""
    assert [progress.percent(moment(*pair)) for pair in ((0, 0), (0, 3), (2, 3), (999, 1000), (3, 3), (5, 3))] == [
        0,
        0,
        66,
        99,
        100,
        100,
    ]
    assert "3 of 3 bars (100 %)" in progress.line(moment(5, 3), 1.0)


def test_plain_lines_come_at_1_5_then_every_30_seconds() -> None:
    """Spec 6: 1 s, 5 s, then every 30 s."""
    assert list(islice(progress._due_times(), 5)) == [1.0, 5.0, 35.0, 65.0, 95.0]


# --- signals


@asynccontextmanager
async def running(url: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start `migrate --yes`, to be interrupted."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mpesa_sync", "migrate", *arguments),
        env=environment(url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(sql: Any, statement: str, holds: Callable[[Any], bool]) -> None:
    """Wait until what a statement returns is as asked."""
    async with asyncio.timeout(20):
        while not holds(await sql.fetchval(statement)):
            pass


ASLEEP: Final = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
FIXED: Final = "select count(*) from mpesa_sync.migration_journal"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_once_interrupted_it_finishes_the_batch_and_says_how_to_go_on(
    database_url: str, sql: Any, number: signal.Signals
) -> None:
    """Spec 6: exit code 130, what is done stays, the same command goes on."""
    await add_drift(sql, hidden=12)
    await slow_down(sql, 0.3)
    async with running(database_url, "--yes", "--json", "--batch-size", "2") as process:
        await until(sql, FIXED, lambda fixed: fixed >= 2)
        process.send_signal(number)
        out, err = await process.communicate()
    ended = Ended(process.returncode or 0, out.decode(), err.decode())
    assert ended.code == 130, ended.err
    report = counts(ended)
    assert report["state"] == "interrupted"
    assert report["fixed"] == await sql.fetchval(FIXED)
    assert 2 <= report["fixed"] < 12
    assert "Finishing the batch in hand" in ended.err
    assert len(await drifted(sql)) == report["deferred"] == 12 - report["fixed"]
    assert counts(cli("migrate", "--yes", "--json", url=database_url))["fixed"] == report["deferred"]


async def test_twice_interrupted_it_ends_at_once_and_the_server_rolls_back(database_url: str, sql: Any) -> None:
    """Spec 6, races.md: nothing of the batch is left, and running it again goes on."""
    await add_drift(sql, hidden=3)
    await slow_down(sql, 4)
    async with running(database_url, "--yes") as process:
        await until(sql, ASLEEP, bool)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        async for line in process.stderr:
            if b"Finishing" in line:
                break
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(2):
            out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"Stopped at once" in err
    await until(sql, ASLEEP, lambda asleep: not asleep)
    assert len(await drifted(sql)) == 3
    await sql.execute("drop function slow() cascade")
    assert cli("migrate", "--yes", url=database_url).code == 0


async def test_an_interrupted_dry_run_ends_at_once(database_url: str, sql: Any) -> None:
    """Spec 6: 130; nothing was written, so there is nothing to finish."""
    await add_drift(sql, hidden=1)
    async with plain(database_url) as locker, locker.transaction():
        await locker.execute("lock table bars in access exclusive mode")
        async with running(database_url, "--dry-run", "--json") as process:
            waiting = (
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            await until(sql, waiting, bool)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(10):
                out, err = await process.communicate()
    ended = Ended(process.returncode or 0, out.decode(), err.decode())
    assert ended.code == 130, ended.err
    assert counts(ended)["state"] == "interrupted"


async def test_ctrl_c_at_the_question_changes_nothing(database_url: str, sql: Any) -> None:
    """Spec 6: 130, and nothing was written."""
    await add_drift(sql, hidden=1)
    before = await database_hash(sql)
    ended = on_terminal(["migrate"], environment(database_url), "\x03", asked="[y/N]")
    assert ended.code == 130
    assert await database_hash(sql) == before


# --- which exit code wins


def run_of(**more: Any) -> Run:
    """Return a finished run."""
    from uuid import uuid4

    fields = {name: more.pop(name) for name in list(more) if name in RunReport.__struct_fields__}
    report = RunReport(run=uuid4(), **{"state": RunState.DONE, "dry_run": False, "verified": True, **fields})
    return Run(report=report, **more)


@pytest.mark.parametrize(
    ("run", "code"),
    [
        (run_of(), 0),
        (run_of(quarantined=1), 3),
        (run_of(quarantined=1, verified=False), 5),
        (run_of(quarantined=1, verified=None, fault="gone"), 1),
        (run_of(quarantined=1, fault="gone", limit="max_errors"), 6),
        (run_of(state=RunState.INTERRUPTED, quarantined=1, limit="max_errors", fault="gone"), 130),
        (run_of(dry_run=True, verified=None, drifted=1, deferred=1, state=RunState.PLANNED), 2),
        (run_of(dry_run=True, verified=None, state=RunState.PLANNED), 0),
        (run_of(dry_run=True, verified=None, drifted=1, limit="max_changes", state=RunState.CANCELLED), 6),
    ],
)
def test_where_several_apply_the_first_counts(run: Run, code: int) -> None:
    """Spec 6: 130, 4, 6, 1, 5, 3, 0, the first."""
    assert migration_report.exit_code(run) == code


def test_every_ending_has_words_and_a_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Issue 5's progress, in its first form: the report ends with what to do next, within 80 columns."""
    bar = UUID(int=1)
    record = Quarantined(bar_id=bar, code="constraint_refused", message="Refused. " * 20, sqlstate="23514")
    for run in (
        run_of(),
        run_of(quarantined=1, records=[record]),
        run_of(verified=False, state=RunState.FAILED),
        run_of(fault="The database cannot be reached.", state=RunState.FAILED),
        run_of(fault="Gone.", state=RunState.FAILED, quarantined=1, records=[record]),
        run_of(limit="max_changes", state=RunState.CANCELLED, deferred=3),
        run_of(limit="max_errors", state=RunState.FAILED, quarantined=1, records=[record]),
        run_of(state=RunState.INTERRUPTED),
        run_of(dry_run=True, state=RunState.PLANNED, drifted=1, quarantined=1, records=[record]),
        run_of(dry_run=True, state=RunState.PLANNED, warnings={"two_active": 3}),
    ):
        migration_report.show(run)
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("Next: ") for line in lines)
        assert all(len(line) <= 80 for line in lines), lines
