"""`--report FILE`: reserved before anything is done, readable only by its owner, never written over something."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpesa_sync.errors import InvalidInput

OPTION = "--report"


class ReportFile:
    """A file that is kept for a report. Made by `reserved`."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self.written = False

    def write(self, content: bytes) -> None:
        """Write the whole report, safe on the disk when this returns.

        Raises:
            OSError: it cannot be written.
        """
        with os.fdopen(os.dup(self._descriptor), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self.written = True


@contextmanager
def reserved(path: Path | None) -> Iterator[ReportFile | None]:
    """Open the file for a report (0600) and keep it; one that was made here and not written to is removed again.

    Raises:
        InvalidInput: it holds something, is no file, or cannot be made.
    """
    if path is None:
        yield None
        return
    made = not path.is_symlink() and not path.exists()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as exc:
        raise InvalidInput(OPTION, f"{path} cannot be written: {exc.strerror}") from None
    report = ReportFile(path, descriptor)
    try:
        _require_empty(path, descriptor)
        yield report
    finally:
        if made and not report.written and not os.fstat(descriptor).st_size:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _require_empty(path: Path, descriptor: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise InvalidInput(OPTION, f"{path} is not a plain file")
    if found.st_size:
        raise InvalidInput(OPTION, f"{path} holds something already and is not written over; name another file")
    try:
        os.fchmod(descriptor, 0o600)
    except OSError as exc:
        raise InvalidInput(OPTION, f"{path} belongs to somebody else: {exc.strerror}") from None
