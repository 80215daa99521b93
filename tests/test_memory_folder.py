"""Where the files of a run lie: in memory where there is room, and nothing of a run that was killed stays there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support import memory


def test_a_run_takes_what_is_its_own_and_removes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose process has ended is removed, one whose process runs is not."""
    monkeypatch.setattr(memory, "_IN_MEMORY", tmp_path)
    monkeypatch.setattr(memory, "_NEEDED_BYTES", 0)
    running, killed = (tmp_path / f"mpesa-sync-tests-{pid}-x" for pid in (os.getpid(), 2**30))
    for folder in (running, killed):
        (folder / "run").mkdir(parents=True)
    made = memory.folder()
    assert made is not None
    assert made.stat().st_mode & 0o777 == 0o700
    assert sorted(tmp_path.iterdir()) == sorted([running, made])


def test_without_room_or_right_files_lie_where_pytest_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine with little memory, and one that has no such place."""
    monkeypatch.setattr(memory, "_NEEDED_BYTES", 2**60)
    assert memory.folder() is None
    monkeypatch.setattr(memory, "_IN_MEMORY", tmp_path / "nowhere")
    assert memory.folder() is None
