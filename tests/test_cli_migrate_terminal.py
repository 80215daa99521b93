"""`migrate` on a terminal and off it: questions, colours, progress (spec 6)."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from mpesa_sync.cli import progress
from mpesa_sync.migration.report import Progress, RunReport, RunState
from tests.support.cli import cli, environment, on_terminal
from tests.support.databases import plain
from tests.support.migrate_cli import COLOUR, add_drift, drifted, slow_down
from tests.support.observer import database_hash


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


@pytest.mark.parametrize(("bars", "asked"), [(1100, 2), (1300, 1)])
async def test_a_plan_is_a_part_of_all_bars(database_url: str, sql: Any, tmp_path: Path, bars: int, asked: int) -> None:
    """Issue 5, 2: the 5 % and the 1,000 are of all bars that the plan was made of, and not of those that it names."""
    await sql.execute("insert into bars (name, mpesa_enabled) select 'b', i <= 60 from generate_series(1, $1) i", bars)
    plan = str(tmp_path / "friday.plan")
    assert cli("migrate", "--plan-out", plan, url=database_url).code == 2
    ended = on_terminal(["migrate", "--plan", plan], environment(database_url), "y\n" * asked, asked="[y/N]")
    assert (ended.code, ended.out.count("[y/N]")) == (0, asked)
    assert ("These are 5% of all 1,100 bars" in ended.out) is (asked == 2)


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


async def test_a_retry_of_the_quarantine_asks(database_url: str, sql: Any) -> None:
    """Spec 6: `--yes` answers every question, so there is one; a no changes nothing, an empty quarantine asks none."""
    await add_drift(sql, exposed=2)
    retry = ["migrate", "quarantine", "retry"]
    assert "[y/N]" not in on_terminal(retry, environment(database_url)).out
    await sql.execute("alter table bars add constraint shown check (mpesa_enabled)")
    assert cli("migrate", "--yes", url=database_url).code == 3
    await sql.execute("alter table bars drop constraint shown")
    before = await database_hash(sql)
    refused = on_terminal(retry, environment(database_url), "n\n", asked="[y/N]")
    assert (refused.code, "Would try 2 bars of the quarantine" in refused.out) == (3, True)
    assert await database_hash(sql) == before
    assert on_terminal(retry, environment(database_url), "y\n", asked="[y/N]").code == 0
    assert await drifted(sql) == []
    assert "--dry-run" not in cli(*retry, url=database_url).err


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
    assert re.fullmatch(r"Correcting: \d of 8 bars \(\d+ %\), \d fixed(, .+)?; 1 s", line)
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


def test_plain_lines_come_at_1_5_30_then_every_30_seconds() -> None:
    """Issue 5, 6: 1 s, 5 s, 30 s, and so on."""
    assert list(islice(progress._due_times(), 5)) == [1.0, 5.0, 30.0, 60.0, 90.0]


# --- signals
