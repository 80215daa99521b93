"""Which process holds something, so that another one on the same machine can tell that it has ended."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_PIDS: Final = Path("/proc/self/ns/pid")


def here() -> str:
    """Return this process: its machine since its start, its name space of processes, its id, and when it began."""
    return f"{_place()}/{os.getpid()}/{_began(os.getpid())}"


def has_ended(holder: str) -> bool:
    """Return whether the process is known to have ended; False where that cannot be told from here.

    Arguments:
        holder: what `here` gave in that process.
    """
    place, _, process = holder.partition("/")
    number, _, began = process.partition("/")
    if not place or place != _place() or not number.isdigit() or not began:
        return False
    return _began(int(number)) != began


def _place() -> str:
    try:
        return f"{_BOOT.read_text().strip()}|{_PIDS.readlink()}"
    except OSError:
        return ""  # not Linux: nothing can be told


def _began(pid: int) -> str:
    """Return when a process began, in ticks since the machine's start; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *rest = text.rpartition(")")[2].split()
    return "" if state == "Z" else rest[18]
