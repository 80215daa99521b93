"""Writing a saved plan: a new file of its owner's, which reads as a plan only once it is whole and on the disk."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec

from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration.plan_format import PlanHeader, PlannedBar, Trailer, line_of, words_of

WRITE_OPTION: Final = "--plan-out"
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BUFFER: Final = 1 << 16


def require_new(path: Path) -> None:
    """Refuse a file that cannot be made, before a long look; nothing is left of the attempt.

    Raises:
        InvalidInput: it exists, or its folder is missing or takes none.
    """
    os.close(_made(path))
    path.unlink()


class PlanWriter:
    """Writes a new plan. A context manager: one that was not finished is removed again, and never reads as a plan.

    Arguments:
        path: a file that does not exist; it is made at once, readable only by its owner (0600).
        header: what `PlanHeader.made` gives.
    Raises:
        InvalidInput: the file exists or cannot be made.
    """

    def __init__(self, path: Path, header: PlanHeader) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self._pending = bytearray()
        self._count = 0
        self._last = b""
        self._finished = False
        self._descriptor = _made(path)
        self._made = os.fstat(self._descriptor)
        self._write(header)

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(self, *failure: object) -> None:
        if not self._finished:
            self._remove()

    def add(self, bar: PlannedBar) -> None:
        """Write one bar.

        Arguments:
            bar: with an id above that of the one before it: in the order of ids.
        Raises:
            ValueError: it is out of order, there already, or not drifted.
            OSError: it cannot be written.
        """
        if not (bar.is_drift and (not self._count or self._last < bar.bar_id.bytes)):
            raise ValueError("a plan holds drifted bars, each once, in the order of their ids")
        self._write(bar)
        self._count += 1
        self._last = bar.bar_id.bytes

    def finish(self) -> str:
        """Write the end; the plan is safe on the disk when this returns. Return its digest.

        Raises:
            OSError: it cannot be written.
        """
        digest = self._hash.hexdigest()
        self._write(Trailer(self._count, digest))
        self._flush()
        os.fsync(self._descriptor)
        self._close()
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._finished = True
        return digest

    def _write(self, value: msgspec.Struct) -> None:
        line = line_of(value)
        self._hash.update(line)
        self._pending += line
        if len(self._pending) >= _BUFFER:
            self._flush()

    def _flush(self) -> None:
        rest = memoryview(bytes(self._pending))
        self._pending.clear()
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _remove(self) -> None:
        """Take the file away again, unless somebody has put another in its place."""
        self._close()
        try:
            if os.path.samestat(self._path.lstat(), self._made):
                self._path.unlink()
        except OSError:
            pass  # it is gone, or what is left of it reads as cut off


def _made(path: Path) -> int:
    """Make the file and return its descriptor."""
    try:
        return os.open(path, _FLAGS, 0o600)
    except FileExistsError:
        reason = "exists already and is not written over; name another file"
    except (OSError, ValueError) as exc:
        reason = f"cannot be written: {words_of(exc)}"
    raise InvalidInput(WRITE_OPTION, f"{path} {reason}")
