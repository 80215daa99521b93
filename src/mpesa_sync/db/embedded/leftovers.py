"""Ends what an earlier server left behind on one data folder, so that the next one can start."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mpesa_sync.errors import EmbeddedServerError

_PROC: Final = Path("/proc")
_POLL_S: Final = 0.02
_ORPHAN_GRACE_S: Final = 0.5


def end(data: Path, *, grace_s: float) -> None:
    """End every process of PostgreSQL on `data`; call it only under the supervisor's lock.

    A live postmaster gets `grace_s` seconds for an immediate shutdown, which ends its children too. Orphans of a dead
    one end by themselves within a moment, or never; the rest is done by force. Raises `EmbeddedServerError` when some
    cannot be ended.
    """
    postmaster = recorded_pid(data)
    asked = postmaster is not None and is_server_of(postmaster, data)
    if asked and postmaster is not None:
        # To it alone: the signal means something else to each of its children.
        _kill(postmaster, signal.SIGQUIT)
    if not _gone(data, grace_s if asked else _ORPHAN_GRACE_S):
        for pid in processes(data):
            _kill(pid, signal.SIGKILL)
        if not _gone(data, grace_s):
            raise EmbeddedServerError(f"an earlier server of {data} cannot be ended")
    _drop_foreign_pidfile(data)


def processes(data: Path) -> Iterator[int]:
    """Yield the ids of PostgreSQL's processes that work on `data` (Linux; none elsewhere)."""
    if _PROC.is_dir():
        for entry in _PROC.iterdir():
            if entry.name.isdigit() and is_server_of(int(entry.name), data):
                yield int(entry.name)


def is_server_of(pid: int, data: Path) -> bool:
    """Whether a live process is a `postgres` of this data folder: it is where it stands, or on its command line."""
    process = _PROC / str(pid)
    try:
        if (process / "comm").read_text().strip() != "postgres":
            return False
        words = (process / "cmdline").read_bytes().split(b"\0")
        # A container's root may not look into the processes of `nobody`; their words are open to
        # all.
        return os.fsencode(data) in words or (process / "cwd").samefile(data)
    except OSError:  # gone meanwhile, a zombie, or another user's
        return False


def recorded_pid(data: Path) -> int | None:
    """Return the process id in `postmaster.pid`, None where there is none."""
    lines = pidfile(data)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def pidfile(data: Path) -> list[str]:
    """Return the lines of `postmaster.pid`; none where it cannot be read."""
    try:
        return (data / "postmaster.pid").read_text().split("\n")
    except OSError:
        return []


def _drop_foreign_pidfile(data: Path) -> None:
    """Remove a stale `postmaster.pid` whose id is in use again by some other process, or by a zombie.

    PostgreSQL would take that process for a server and refuse to start. Any other stale file is left to it: it also
    holds the key of the shared memory, by which PostgreSQL finds orphans itself.
    """
    # Without /proc (not Linux) nobody can tell whose process that is: then the file must stay.
    pid = recorded_pid(data) if _PROC.is_dir() else None
    if pid is not None and _alive(pid) and not is_server_of(pid, data):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _gone(data: Path, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while any(True for _ in processes(data)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _kill(pid: int, signum: signal.Signals) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return
