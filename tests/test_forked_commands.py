"""The command line that tests fork is the one that people start: the same words, codes and ends."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import Ended, cli, environment, to_its_end


def started(*arguments: str, cwd: Path, **variables: str) -> Ended:
    """Start the program itself and return how it ended."""
    done = subprocess.run(
        [sys.executable, "-m", "mpesa_sync", *arguments],
        env=environment(**variables),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "arguments",
    [["--version"], ["migrate", "--help"], ["chek"], ["check"], ["explain", "ma\u00e9", "--database-url", "x"]],
    ids=" ".join,
)
def test_a_fork_says_what_a_start_says(arguments: list[str], tmp_path: Path) -> None:
    """Words, streams and code, in a folder and an environment of its own."""
    given = {"MPESA_SYNC_DATABASE_URL": "postgresql://staff@127.0.0.1:1/shop"}
    for variables in ({}, given, {}):
        assert cli(*arguments, cwd=tmp_path, **variables) == started(*arguments, cwd=tmp_path, **variables)
    assert list(tmp_path.iterdir()) == []


def test_a_fork_that_does_not_end_is_killed() -> None:
    """As by `subprocess`: a test that hangs says so."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/shop"
        with pytest.raises(subprocess.TimeoutExpired):
            to_its_end(["check"], environment(url), None, timeout_s=1)
    assert cli("--version").code == 0
