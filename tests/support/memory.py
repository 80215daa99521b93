"""Where the files of a test run lie: in memory, where the machine has that much to spare, else where pytest puts them.

A database is some 300 files, and nearly every test makes and drops one: on a disk that costs more than the test.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_IN_MEMORY: Final = Path("/dev/shm")
_NEEDED_BYTES: Final = 4_000_000_000
_PREFIX: Final = "mpesa-sync-tests-"


def folder() -> Path | None:
    """Make a folder in memory and return it, None where there is no room; one whose run was killed is removed."""
    if not os.access(_IN_MEMORY, os.W_OK):
        return None
    for left in _IN_MEMORY.glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.split('-')[3]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    if min(shutil.disk_usage(_IN_MEMORY).free, _available_bytes()) < _NEEDED_BYTES:
        return None
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_IN_MEMORY))


def _available_bytes() -> int:
    """Return the memory that the machine can still give: what lies in such a folder takes of it."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024
