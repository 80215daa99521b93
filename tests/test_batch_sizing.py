"""The size of batches and the pace of a run, over any sequence of batches and any clock (R2, issue 5)."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration.pace import Pace
from mpesa_sync.migration.sizing import LEAST, MOST, BatchSize

elapsed: st.SearchStrategy[float] = st.one_of(st.floats(), st.floats(0, 1e5))
steps = st.lists(st.one_of(st.none(), st.tuples(elapsed, st.integers(-1, 6000))), max_size=60)


@given(steps=steps, first=st.integers(-5, 10**6))
def test_the_size_stays_within_its_bounds_and_moves_by_at_most_two_times(
    steps: list[tuple[float, int] | None], first: int
) -> None:
    """Issue 5, point 3: between 50 and 5,000 whatever the times are, also times that are none; None is a fault."""
    size = BatchSize(first=first)
    for step in steps:
        before = size.size
        after = size.failed() if step is None else size.next(*step)
        assert after == size.size
        assert LEAST <= after <= MOST
        assert before / 2 - 1 <= after <= before * 2 + 1


@given(
    fixed_ms=st.floats(0, 40),
    bar_ms=st.floats(0.02, 3.0),
    noise=st.floats(0, 0.25),
    first=st.integers(LEAST, MOST),
    seed=st.integers(0, 2**32),
)
def test_it_comes_to_the_target_and_stays_there(
    fixed_ms: float, bar_ms: float, noise: float, first: int, seed: int
) -> None:
    """Issue 5, point 3: batches come to take 150 ms, where a bound does not keep them from it."""
    drawn, size = Random(seed), BatchSize(first=first)
    best = min(max((150 - fixed_ms) / bar_ms, LEAST), MOST)
    late = []
    for number in range(80):
        took_ms = (fixed_ms + bar_ms * size.size) * drawn.uniform(1 - noise, 1 + noise)
        size.next(took_ms, size.size)
        if number >= 40:
            late.append(size.size)
    assert best * (1 - noise - 0.1) <= sum(late) / len(late) <= best * (1 + noise + 0.1)
    assert max(late) <= best * (1 + 2 * noise) + 1


@given(bar_ms=st.floats(0.03, 1.0), noise=st.floats(0.3, 0.6), seed=st.integers(0, 2**32))
def test_where_batches_vary_a_margin_is_kept_below_the_longest_lock(bar_ms: float, noise: float, seed: int) -> None:
    """Spec 8: no lock longer than 200 ms; sized by their mean alone, one batch in ten would take longer."""
    drawn, size, took = Random(seed), BatchSize(), list[float]()
    for _ in range(240):
        took.append(bar_ms * size.size * drawn.uniform(1 - noise, 1 + noise))
        size.next(took[-1], size.size)
    assert sum(one > 200 for one in took[40:]) <= 10


def test_after_a_fault_it_halves_and_grows_again_slowly() -> None:
    """Issue 5, point 4: what halved it may last; once it is over the old size comes back."""
    size = BatchSize(first=1_000)
    assert [size.failed() for _ in range(6)] == [500, 250, 125, 62, LEAST, LEAST]
    grown = [size.next(0.15 * size.size, size.size) for _ in range(20)]
    assert grown[:2] == [62, 78]
    assert grown[-1] == 1_000


def test_a_size_that_a_person_chose_stays() -> None:
    """Spec 6: `--batch-size N`, from 1 on."""
    size = BatchSize(fixed=7)
    assert [size.next(9_000, 7), size.next(0.1, 7), size.failed(), size.size] == [7, 7, 7, 7]
    assert size.target_ms is None
    assert BatchSize().target_ms == 150
    for wrong in (0, -1, MOST + 1):
        with pytest.raises(InvalidInput, match="batch_size"):
            BatchSize(fixed=wrong)


def test_a_small_rest_does_not_shrink_what_follows_unless_it_was_slow() -> None:
    """The last batch of a round carries the cost of its COMMIT alone."""
    size = BatchSize(first=1_000)
    assert size.next(20, 3) == 1_000
    assert size.next(400, 300) == 500


class Now:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@given(rate=st.floats(0.5, 50_000), gaps=st.lists(st.floats(0.001, 20), min_size=3, max_size=60))
def test_an_even_pace_is_told_as_it_is(rate: float, gaps: list[float]) -> None:
    """Issue 5, point 6: rate and ETA, however unevenly one looks."""
    now, done = Now(), 0.0
    pace = Pace(now)
    for gap in gaps:
        now.s += gap
        done += rate * gap
        pace.tick(int(done))
    slack = 2 / min(sum(gaps), 15)  # whole bars
    assert math.isclose(pace.rate, rate, rel_tol=0.001, abs_tol=slack)
    if pace.rate:
        assert pace.eta_s(1000) == pytest.approx(1000 / pace.rate)


def test_a_pace_follows_what_changes_within_a_minute() -> None:
    """Issue 5, point 6: what is long past fades, waiting counts as time."""
    now = Now()
    pace = Pace(now, settled=500)
    assert (pace.rate, pace.eta_s(10), pace.eta_s(0)) == (0.0, None, 0.0)
    for number in range(1, 61):
        now.s += 1
        pace.tick(500 + 1_000 * number)
    assert pace.rate == pytest.approx(1_000)
    for number in range(1, 61):
        now.s += 1
        pace.tick(60_500 + 10 * number)
    assert pace.rate == pytest.approx(10, rel=2)
    before = pace.rate
    now.s += 15
    pace.tick(61_100)
    assert pace.rate < before / 2


@given(ticks=st.lists(st.tuples(st.integers(0, 10**9), st.floats(-5, 1e6)), max_size=40))
def test_no_clock_and_no_count_breaks_a_pace(ticks: list[tuple[int, float]]) -> None:
    """Issue 5, clock jump: back to an earlier count, no time at all, a clock that goes back."""
    now = Now()
    pace = Pace(now)
    for settled, gap in ticks:
        now.s += gap
        pace.tick(settled)
        assert math.isfinite(pace.rate)
        assert pace.rate >= 0
        eta_s = pace.eta_s(5)
        assert eta_s is None or eta_s >= 0
