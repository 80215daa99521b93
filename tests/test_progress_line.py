"""The one line of a migration: what stands in it at any moment, and that it fits, whatever the terminal (spec 6)."""

from __future__ import annotations

import io
import re
from typing import Any, Final
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mpesa_sync.cli import progress
from mpesa_sync.cli.progress_line import fitted
from mpesa_sync.migration.report import Progress, RunReport, RunState

COUNTED: Final = {
    "fixed": "fixed",
    "already_consistent": "already right",
    "stale": "stale",
    "vanished": "deleted",
    "quarantined": "quarantined",
    "deferred": "deferred",
}


def moment(settled: int, total: int, *, counts: dict[str, Any] | None = None, **more: Any) -> Progress:
    """Return a moment of a run."""
    report = RunReport(run=UUID(int=1), state=RunState.RUNNING, dry_run=False, **(counts or {}))
    return Progress(**{"phase": "correcting", "settled": settled, "total": total, "report": report, **more})


numbers: Final = st.integers(0, 10**9)
seconds: Final = st.one_of(st.none(), st.floats(allow_nan=True))
moments: Final = st.builds(
    moment,
    st.integers(-1, 10**9),
    numbers,
    counts=st.fixed_dictionaries(dict.fromkeys((*COUNTED, "scanned", "drifted"), numbers)),
    phase=st.sampled_from(["detecting", "correcting", "verifying", "pausing", "something new"]),
    batch_size=st.integers(0, 5000),
    batch_ms=st.floats(0, 1e7),
    target_ms=st.one_of(st.none(), st.just(150.0)),
    rate=st.floats(0, 1e7),
    eta_s=seconds,
    throttle=st.one_of(
        st.none(), st.text(st.characters(exclude_categories=["Nd"]), max_size=80), st.just("4 sessions wait for locks")
    ),
    cursor=st.one_of(st.none(), st.uuids()),
    checkpoint_s=seconds,
)


@given(at=moments, elapsed_s=st.floats(0, 1e7), width=st.integers(20, 200), ascii_only=st.booleans())
def test_it_never_wraps(at: Progress, elapsed_s: float, width: int, ascii_only: bool) -> None:
    """Spec 6, issue 5: one line at every width, its last column free, as a terminal draws it."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, highlight=False)
    text = progress.drawn(at, elapsed_s, width, ascii_only=ascii_only)
    assert 0 < text.cell_len < width
    lines = console.render_lines(text, console.options, pad=False)
    assert len(lines) == 1
    assert "".join(segment.text for segment in lines[0]).rstrip() == text.plain.rstrip()
    assert not ascii_only or text.plain.isascii()


@given(at=moments, elapsed_s=st.floats(0, 1e7), width=st.integers(20, 200))
def test_it_never_passes_100_per_cent_and_says_it_first_of_all(at: Progress, elapsed_s: float, width: int) -> None:
    """Spec 6: the per cent stand at every width, 0 to 100."""
    for text in (progress.drawn(at, elapsed_s, width).plain, progress.line(at, elapsed_s)):
        said = [int(found) for found in re.findall(r"(\d+) %", text.replace(at.throttle or "\0", ""))]
        assert all(0 <= number <= 100 for number in said)
        assert not at.total or said[:1] == [progress.percent(at)]


@given(at=moments, width=st.integers(20, 400))
def test_every_number_in_it_is_the_one_that_was_counted(at: Progress, width: int) -> None:
    """Spec 6: counts as given; where one is left out, what is less important is left out too."""
    for text in (fitted(at, 1.0, width), progress.line(at, 1.0)):
        bare = text.replace(at.throttle or "\0", "")
        for name, words in COUNTED.items():
            for number in re.findall(rf"([\d,]+) {words}(?:,|;|$)", bare):
                assert number == f"{getattr(at.report, name):,}"


@given(at=moments.filter(lambda at: bool(at.throttle) and at.total > 0), width=st.integers(24, 200))
def test_why_it_holds_back_is_always_shown(at: Progress, width: int) -> None:
    """Issue 5, point 3: the reason, as much of it as there is room for."""
    assert "waiting: " in fitted(at, 1.0, width)


FULL: Final = moment(
    300,
    1200,
    counts={
        "scanned": 10_000,
        "drifted": 1_200,
        "fixed": 280,
        "already_consistent": 9,
        "stale": 4,
        "vanished": 1,
        "quarantined": 5,
        "deferred": 2,
    },
    batch_size=1_000,
    batch_ms=140.4,
    target_ms=150.0,
    rate=1_240.4,
    eta_s=245,
    throttle="4 sessions wait for locks",
    cursor=UUID(int=7),
    checkpoint_s=2.2,
)


def test_everything_that_is_known_stands_in_it_where_there_is_room() -> None:
    """Issue 5, point 6: the whole list."""
    assert progress.drawn(FULL, 65, 400).plain.partition(" ")[2] == (
        "Correcting, 25 % of 1,200, waiting: 4 sessions wait for locks, 280 fixed, 9 already right, 4 stale, "
        "1 deleted, 5 quarantined, 2 deferred, ETA 4:05 min, 1,240/s, batch 1,000 in 140 of 150 ms, "
        "1,200 drifted of 10,000, committed 2 s ago, at 00000000-0000-0000-0000-000000000007, 1:05 min"
    )
    assert progress.line(FULL, 65).startswith(
        "Correcting: 300 of 1,200 bars (25 %), waiting: 4 sessions wait for locks, 280 fixed, 9 already right, "
    )
    assert progress.line(FULL, 65).endswith(", at 00000000-0000-0000-0000-000000000007; 65 s")


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (20, "25 %, waiting: 4 se…"),
        (50, "25 %, waiting: 4 sessions wait for locks"),
        (80, "Correcting, 25 % of 1,200, waiting: 4 sessions wait for locks, 280 fixed"),
    ],
)
def test_what_matters_least_goes_first(width: int, text: str) -> None:
    """Spec 6: the per cent and the reason stay longest."""
    shown = fitted(FULL, 65, width)
    assert len(shown) <= width
    assert shown == text


def test_a_reason_cannot_steer_the_terminal() -> None:
    """Application names are the words of others."""
    at = moment(1, 2, throttle="a\x1b[2Jb\nc")
    assert "\x1b" not in fitted(at, 1, 200) + progress.line(at, 1)
    assert "\n" not in fitted(at, 1, 200) + progress.line(at, 1)
