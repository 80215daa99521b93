"""What `migrate` leaves and says at its end: the report file, the exit code, the next command (spec 6)."""

from __future__ import annotations

import json
import re
import stat
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync.cli import migration_report
from mpesa_sync.migration.report import Quarantined, Run, RunReport, RunState
from tests.support.cli import cli
from tests.support.migrate_cli import OUTCOMES
from tests.support.venues import add_bar


async def test_the_report_file_holds_everything_and_is_private(database_url: str, sql: Any, tmp_path: Path) -> None:
    """Issue 2: the whole as JSON, 0600, without any password."""
    for _ in range(migration_report.LISTED + 2):
        bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("alter table bars add constraint shown check (mpesa_enabled)")
    file = tmp_path / "run.json"
    ended = cli("migrate", "--yes", "--report", str(file), url=database_url)
    assert ended.code == 3
    assert "… and 2 more" in ended.out
    assert "'mpesa-sync migrate quarantine list --json' has all of them" in " ".join(ended.out.split())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text())
    assert kept["exit_code"] == 3
    assert kept["next"] in " ".join(ended.out.split())
    assert " ".join(ended.out.split()).startswith(kept["says"])
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


async def test_a_file_that_cannot_be_is_refused_before_the_look(empty_database_url: str, tmp_path: Path) -> None:
    """Spec 6: here the look itself would fail, with 1; one file for the plan and the report is said to be one."""
    plan, other = tmp_path / "plan", tmp_path / "other"
    other.symlink_to(tmp_path, target_is_directory=True)
    ended = cli("migrate", "--plan-out", str(tmp_path / "no" / "plan"), url=empty_database_url)
    assert (ended.code, "cannot be written: No such file or directory" in ended.err) == (64, True), ended.err
    both = cli("migrate", "--plan-out", str(plan), "--report", str(other / "plan"), url=empty_database_url)
    assert (both.code, f"--plan-out and --report both name {plan}" in both.err) == (64, True), both.err
    assert cli("migrate", "--plan-out", str(plan), url=empty_database_url).code == 1
    assert not plan.exists()


def test_a_report_file_that_was_made_for_nothing_is_removed(tmp_path: Path) -> None:
    """A run that never began leaves no empty file that looks like a report."""
    file = tmp_path / "run.json"
    assert cli("migrate", "--dry-run", "--report", str(file), url="postgresql://x@127.0.0.1:1/none").code == 1
    assert not file.exists()


# --- a terminal


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
        run_of(limit="max_errors", state=RunState.FAILED, is_kept=True, quarantined=1, records=[record]),
        run_of(limit="throttle", fault="4 sessions wait for locks", state=RunState.FAILED),
        run_of(state=RunState.INTERRUPTED),
        run_of(dry_run=True, state=RunState.PLANNED, drifted=1, quarantined=1, records=[record]),
        run_of(dry_run=True, state=RunState.PLANNED, warnings={"two_active": 3}),
        run_of(scanned=4, quarantined=1, records=[record], outside=1_000_000, is_bound=True),
        run_of(kind="retry", outside=3),
        run_of(kind="undo", of_run=bar, verified=None, drifted=1, scanned=1, quarantined=1, records=[record]),
        run_of(kind="undo", of_run=bar, verified=None, state=RunState.CANCELLED),
    ):
        migration_report.show(run)
        lines = capsys.readouterr().out.splitlines()
        assert any(line.startswith("Next: ") for line in lines)
        assert all(len(line) <= 80 for line in lines), lines


@pytest.mark.parametrize(
    ("is_kept", "where"), [(True, "'mpesa-sync migrate quarantine list --json'"), (False, "--report FILE")]
)
def test_the_rest_of_a_long_list_is_where_it_says(
    capsys: pytest.CaptureFixture[str], is_kept: bool, where: str
) -> None:
    """Issue 5, 6: what a dry run would set aside stands in no quarantine, so that it is not sent there for the rest."""
    records = [Quarantined(bar_id=UUID(int=at), code="stale_authority", message="No.") for at in range(21)]
    migration_report.show(run_of(dry_run=not is_kept, is_kept=is_kept, quarantined=21, records=records))
    assert f"… and 1 more; {where} has all of them." in " ".join(capsys.readouterr().out.split())


def test_an_undo_that_failed_is_not_sent_to_the_quarantine() -> None:
    """R2: a retry of the quarantine corrects bars; what could not be taken back is taken back by another undo."""
    record = Quarantined(bar_id=UUID(int=1), code="constraint_refused", message="No.", sqlstate="23514")
    run = run_of(kind="undo", of_run=UUID(int=2), verified=None, scanned=2, fixed=1, quarantined=1, records=[record])
    with redirect_stdout(StringIO()) as printed:
        migration_report.show(run)
    said = " ".join(printed.getvalue().split())
    assert "Taken back: 1 bar as before; but 1 record could not be" in said
    assert f"then 'mpesa-sync migrate undo {UUID(int=2)}' again." in said
    assert "retry" not in said


@given(
    counts=st.lists(st.integers(0, 10**7), min_size=6, max_size=6),
    in_sync=st.integers(0, 10**9),
    records=st.lists(st.sampled_from(["23514", "P0001", "57014", "40P01", "42501", "22001", None]), max_size=45),
    dry_run=st.booleans(),
)
def test_the_counts_that_are_printed_add_up(
    counts: list[int], in_sync: int, records: list[str | None], dry_run: bool
) -> None:
    """Issue 5, point 6: looked at = in sync + drifted, drifted = the outcomes; lists end after 20, causes add up."""
    counts[4] = len(records)
    outcomes = dict(zip(OUTCOMES, counts, strict=True))
    drifted = sum(counts)
    kept = [Quarantined(bar_id=UUID(int=at), code="c", message="No.", sqlstate=s) for at, s in enumerate(records)]
    run = run_of(
        **outcomes, drifted=drifted, consistent=in_sync, scanned=in_sync + drifted, dry_run=dry_run, records=kept
    )
    with redirect_stdout(StringIO()) as printed:
        migration_report.show(run)
    lines = printed.getvalue().splitlines()
    number = [int(found[1].replace(",", "")) for line in lines if (found := re.match(r"  +([\d,]+)  +[a-z]", line))]
    assert number[0] == number[1] + number[2]
    assert number[2] == sum(number[3:])
    assert sum(line.startswith("  00000000-") for line in lines) == min(len(kept), migration_report.LISTED)
    if len(kept) > migration_report.LISTED:
        below = " ".join(printed.getvalue().partition("Altogether:")[2].partition("\n\n")[0].split())
        assert sum(int(found) for found in re.findall(r"(\d+) × ", below)) == len(kept)
    assert all(len(line) <= 80 for line in lines)
