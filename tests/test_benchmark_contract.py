"""`make bench` holds what it measured to the numbers of the contract (spec 8): nothing is dropped or flattered."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from benchmarks.contract import PROMISES, Promise, Verdict, judged, table
from benchmarks.place import Row

DOCS: Final = Path(__file__).parent.parent / "docs" / "benchmarks.md"
_CELLS: Final = re.compile(r"^\| (?P<what>[^|]+?) ?[*‡§¶†◊]? \|")


def row(what: str, ratio: float, ours: str = "1 s") -> Row:
    """Return a row as a benchmark makes it."""
    return Row(what, ours, "", ratio, "")


def verdict_on(name: str, *rows: Row) -> Verdict:
    """Return what became of one promise."""
    return next(verdict for verdict in judged(rows) if verdict.promise.what == name)


def migrated(bars: int, ratio: float, seconds: float = 1.0) -> Row:
    """Return a row of a migration's writing."""
    return row(f"migrate, {bars:,} bars, writing", ratio, f"{seconds:.2f} s")


@pytest.mark.parametrize(
    ("ratio", "is_met"), [(1.6, True), (1.604, True), (1.606, False), (1.61, False), (0.1, True)], ids=str
)
def test_a_ratio_at_the_goal_is_met_and_one_behind_it_is_not(ratio: float, is_met: bool) -> None:
    """Spec 8: as the table shows it, to two places."""
    assert verdict_on("migrate, writing", migrated(1_000_000, ratio)).is_met is is_met


@pytest.mark.parametrize(("ratio", "is_met"), [(0.5, True), (0.49, False), (2.0, True)], ids=str)
def test_a_rate_must_reach_its_goal(ratio: float, is_met: bool) -> None:
    """Spec 8: for rates more is better."""
    found = verdict_on("sync_mpesa_status, 16 clients", row("sync_mpesa_status, 16 clients, one process", ratio))
    assert found.is_met is is_met


def test_every_row_of_the_size_that_decides_must_keep_the_promise() -> None:
    """Spec 8: two kinds of save are measured, and one that misses is a miss."""
    rows = [row(f"save over HTTP, 16 clients, {kind}", ratio) for kind, ratio in (("same", 0.5), ("new", 0.34))]
    assert verdict_on("settings save over HTTP", *rows).is_met is False


def test_the_largest_size_decides_and_growth_is_said() -> None:
    """Spec 8: small fleets pay fixed costs; what each bar costs is set beside the smallest."""
    found = verdict_on("migrate, writing", migrated(1_000_000, 1.5, 9.0), migrated(10_000, 3.0, 0.18))
    assert (found.is_met, found.says) == (True, "met")
    assert found.growth == "each 0.50 × as long at 1,000,000 as at 10,000"
    smaller = verdict_on("migrate, writing", migrated(100_000, 1.5))
    assert smaller.says == "met at 100,000; promised at 1,000,000"


def test_what_was_not_measured_is_not_called_met() -> None:
    """Spec 8: after `--only` as after the whole; what no benchmark measures says how to measure it."""
    assert {verdict.is_met for verdict in judged([])} == {None}
    said = {verdict.says for verdict in judged([])}
    assert said == {"not measured in this run", "time it on a fresh clone: docs/benchmarks.md"}
    assert table([])[-1] == "Nothing that was measured is missed."


def test_every_promise_is_in_the_table_and_each_miss_is_named_with_its_cause() -> None:
    """Issue 7: the misses are named with their cause."""
    lines = table([migrated(1_000_000, 1.7), row("check, 1,000,000 bars", 1.1)])
    assert all(any(line.startswith(f"| {promise.what} |") for line in lines) for promise in PROMISES)
    missed = lines[lines.index("Missed:") + 1 :]
    assert len(missed) == 1
    assert missed[0].startswith("- migrate, writing: a bar's own work")


@pytest.mark.parametrize("promise", [p for p in PROMISES if p.rows is not None], ids=lambda promise: promise.what)
def test_each_promise_finds_the_rows_that_are_documented(promise: Promise) -> None:
    """A benchmark that is renamed does not fall out of the contract: docs/benchmarks.md holds what it printed."""
    documented = [found["what"] for line in DOCS.read_text().splitlines() if (found := _CELLS.match(line))]
    assert promise.rows is not None
    assert any(promise.rows.match(what) for what in documented), promise.what
    assert (promise.most is None) != (promise.least is None)
