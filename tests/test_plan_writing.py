"""Writing a saved plan: never over anything, and nothing is left that reads as one unless it is whole (R2, spec 6)."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration.plan_file import PlannedBar, PlanWriter
from mpesa_sync.migration.plan_writer import require_new
from tests.support.plans import SOME, header, planned, read, refusal, written


def test_a_plan_is_never_written_over_anything(tmp_path: Path) -> None:
    """R2, issue 5: neither a file nor what a link points to, not even an empty one."""
    (tmp_path / "full").write_text("mine")
    (tmp_path / "empty").touch()
    (tmp_path / "link").symlink_to(tmp_path / "none")
    for path in (
        tmp_path / "full",
        tmp_path / "empty",
        tmp_path / "link",
        tmp_path,
        tmp_path / "no" / "plan",
        Path("a\0"),
    ):
        with pytest.raises(InvalidInput, match="--plan-out"):
            PlanWriter(path, header())
    for name in ("full", "empty", "link"):
        with pytest.raises(InvalidInput, match=r"--plan-out: .* exists already"):
            require_new(tmp_path / name)
    for path in (tmp_path / "no" / "plan", tmp_path / "full" / "plan", tmp_path / ("x" * 300), Path("a\0")):
        with pytest.raises(InvalidInput, match=r"--plan-out: .* cannot be written"):
            require_new(path)
    require_new(tmp_path / "none")
    assert (tmp_path / "full").read_text() == "mine"
    assert not (tmp_path / "none").exists()


def test_a_plan_that_was_not_finished_is_gone(tmp_path: Path) -> None:
    """R2, issue 5: after a fault nothing is left, and nothing of others is removed."""
    path = tmp_path / "plan"
    with pytest.raises(RuntimeError), PlanWriter(path, header()) as writer:
        writer.add(SOME[0])
        raise RuntimeError
    assert not path.exists()
    with pytest.raises(RuntimeError), PlanWriter(path, header()):
        path.unlink()
        path.write_text("another's")
        raise RuntimeError
    assert path.read_text() == "another's"


def test_a_program_killed_while_it_writes_leaves_no_plan(tmp_path: Path) -> None:
    """R2, issue 5: what stands there until `finish` is refused as cut off."""
    path = tmp_path / "plan"
    with PlanWriter(path, header()) as writer:
        for at in range(2_000):
            writer.add(planned(at))
        assert path.stat().st_size > 100_000
        assert "cut off" in refusal(path)
        writer.finish()
    assert len(read(path)) == 2_000


def test_a_full_disk_is_raised_and_leaves_nothing(tmp_path: Path) -> None:
    """R2: a real limit of the system on the size of files."""
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        with pytest.raises(OSError, match="too large"), PlanWriter(tmp_path / "plan", header()) as writer:
            for at in range(5_000):
                writer.add(planned(at))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not (tmp_path / "plan").exists()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[PlanWriter]:
    with PlanWriter(tmp_path / "plan", header()) as begun:
        begun.add(planned(5))
        yield begun


@pytest.mark.parametrize(
    "bar",
    [
        planned(5),
        planned(4),
        msgspec.structs.replace(planned(6), shown=True),
        msgspec.structs.replace(planned(6), direction="exposed"),
        msgspec.structs.replace(planned(6), direction="HIDDEN"),
    ],
    ids=str,
)
def test_what_cannot_be_read_again_is_not_written(writer: PlanWriter, bar: PlannedBar) -> None:
    """R2: out of order, twice, or no drift."""
    with pytest.raises(ValueError, match="drifted bars, each once"):
        writer.add(bar)


def test_the_header_takes_no_text_that_steers_a_terminal() -> None:
    """Spec 5: who and why are shown to people later."""
    for wrong in ({"actor": ""}, {"actor": "a\u202eb"}, {"reason": "x" * 501}):
        with pytest.raises(InvalidInput):
            header(**wrong)


def test_bars_stand_in_the_order_of_their_ids(tmp_path: Path) -> None:
    """races.md: the order of a plan is the order of locks."""
    written(tmp_path / "plan", SOME)
    assert all(one < other for one, other in pairwise(bar for bar, _ in read(tmp_path / "plan")))
