"""A saved plan, read: verified to its last byte before a single bar of it is given out, streamed, memory flat.

The digest guards against accidents and editors, not against who may write the file: such a person could choose which
drifted bars are corrected, and nothing else, because every bar is decided anew under its locks.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final, TypeVar
from uuid import UUID

import msgspec

from mpesa_sync.db.plan_identity import DatabaseIdentity
from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration.plan_format import (
    FORMAT,
    VERSION,
    AnyHeader,
    PlanHeader,
    PlannedBar,
    Trailer,
    has_clean_texts,
    line_of,
    words_of,
)
from mpesa_sync.migration.plan_writer import PlanWriter
from mpesa_sync.migration.report import LEGACY

__all__ = ["Plan", "PlanHeader", "PlanWriter", "PlannedBar", "read"]

S = TypeVar("S", bound=msgspec.Struct)
READ_OPTION: Final = "--plan"
CLOCKS_APART: Final = timedelta(minutes=5)
"""By how much the clocks of two machines may differ before a plan counts as one from the future."""
_LONGEST_LINE: Final = 16_384
_IN_MEMORY: Final = 1 << 20
_AGAIN: Final = "make it again with --plan-out"
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeError, ValueError, RecursionError)
_SIZE: Final = 17
_BARS_AT_ONCE: Final = 4_096


class Plan:
    """A plan that has been read and found whole. Close it, or use it in a `with`.

    Its bars stand in a place of its own, so that what happens to the file afterwards changes nothing.
    """

    def __init__(self, header: PlanHeader, digest: str, bars: IO[bytes], count: int) -> None:
        self.header = header
        self.digest = digest
        self._bars = bars
        self._count = count

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._count

    def pairs(self) -> Iterator[tuple[UUID, bool]]:
        """Yield the bars with their authority, in the order of ids; from the start at every call."""
        for start in range(0, self._count, _BARS_AT_ONCE):
            self._bars.seek(start * _SIZE)
            part = self._bars.read(min(_BARS_AT_ONCE, self._count - start) * _SIZE)
            for at in range(0, len(part), _SIZE):
                yield UUID(bytes=part[at : at + 16]), part[at + 16] == 1

    def close(self) -> None:
        """Let go of it."""
        self._bars.close()


def read(path: Path, *, identity: DatabaseIdentity, now: datetime) -> Plan:
    """Return a saved plan, once all of it has been read and every check has passed.

    Arguments:
        identity: of the database that it is to be applied to.
        now: the time, with its zone.
    Raises:
        InvalidInput: of `--plan`; says what is wrong with it (no file, no plan, changed or cut off, of another
            database, expired, of a newer version) and what to do.
        OSError: the disk failed, or no room is left for a copy of its bars.
    """
    bars = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - the plan closes it
    try:
        with _opened(path) as file:
            reading = _Reading(path, file)
            header = reading.header()
            _check(path, header, identity, now)
            count, digest = reading.bars(bars, mirrors=header.mirror_legacy)
        bars.flush()
    except BaseException:
        bars.close()
        raise
    return Plan(header, digest, bars, count)


class _Reading:
    """The lines of a plan, each checked as it comes; nothing of it is given out before the last."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self._path = path
        self._file = file
        self._hash = hashlib.sha256()
        self._number = 0

    def header(self) -> PlanHeader:
        line = self._line()
        try:
            said = msgspec.json.decode(line, type=AnyHeader)
        except _UNREADABLE:
            said = None
        if said is None or said.format != FORMAT:
            raise _refused(self._path, f"is not a plan of mpesa-sync; {_AGAIN}")
        if said.version > VERSION:
            raise _refused(
                self._path,
                f"was written by a newer mpesa-sync (version {said.version} of plans, this one reads {VERSION}); "
                f"apply it with that one, or {_AGAIN}",
            )
        header = self._decoded(line, PlanHeader)
        if header.version != VERSION or header.expires_at <= header.created_at or not has_clean_texts(header):
            raise self._changed()
        self._hash.update(line)
        return header

    def bars(self, into: IO[bytes], *, mirrors: bool) -> tuple[int, str]:
        """Copy the bars, packed, and return how many there are and the digest that is right."""
        count, last = 0, b""
        while not (line := self._line()).startswith(b'{"count"'):
            bar = self._decoded(line, PlannedBar)
            is_meant = bar.is_drift and (mirrors or bar.direction != LEGACY)
            if not is_meant or (count and bar.bar_id.bytes <= last):
                raise self._changed()
            last = bar.bar_id.bytes
            into.write(last + (b"\x01" if bar.authority else b"\x00"))
            self._hash.update(line)
            count += 1
        trailer, digest = self._decoded(line, Trailer), self._hash.hexdigest()
        if (trailer.count, trailer.digest) != (count, digest) or self._file.read(1):
            raise _refused(self._path, f"was changed since it was written; {_AGAIN}")
        return count, digest

    def _line(self) -> bytes:
        self._number += 1
        line = self._file.readline(_LONGEST_LINE)
        if not line and self._number == 1:
            raise _refused(self._path, f"is empty; {_AGAIN}")
        if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
            raise _refused(self._path, f"is not a plan of mpesa-sync: line {self._number} is too long; {_AGAIN}")
        if not line.endswith(b"\n"):
            raise _refused(self._path, f"is cut off after line {self._number - 1}; {_AGAIN}")
        return line

    def _decoded(self, line: bytes, kind: type[S]) -> S:
        """Return what a line says, if it stands there exactly as it is written."""
        try:
            value = msgspec.json.decode(line, type=kind)
        except _UNREADABLE:
            raise self._changed() from None
        if line_of(value) != line:  # as an editor leaves it: other line ends, spaces, a member twice
            raise self._changed()
        return value

    def _changed(self) -> InvalidInput:
        return _refused(self._path, f"was changed since it was written, at line {self._number}; {_AGAIN}")


def _opened(path: Path) -> IO[bytes]:
    """Open a plain file: neither through a link, nor a pipe that would be waited for."""
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as exc:
        if path.is_symlink():
            raise _refused(path, "is a symbolic link; name the file itself") from None
        raise _refused(path, f"cannot be read: {words_of(exc)}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _refused(path, "is not a plain file; name the file that --plan-out has written")
    return os.fdopen(descriptor, "rb")


def _check(path: Path, header: PlanHeader, identity: DatabaseIdentity, now: datetime) -> None:
    if header.database.differs(identity):
        raise _refused(path, f"{_of_another(header.database, identity)}; {_AGAIN} on this database")
    if now >= header.expires_at:
        raise _refused(path, f"expired at {_at(header.expires_at)}; {_AGAIN}")
    if header.created_at > now + CLOCKS_APART:
        raise _refused(
            path,
            f"was written at {_at(header.created_at)}, which is to come; set the clock of this machine "
            f"right, or {_AGAIN}",
        )


def _of_another(planned: DatabaseIdentity, here: DatabaseIdentity) -> str:
    if planned.name != here.name:
        return f"was made for the database '{planned.name}', and this is '{here.name}'"
    return (
        f"was made for another database named '{planned.name}' than this '{here.name}': a copy, one restored since, "
        "or one of another server"
    )


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _refused(path: Path, message: str) -> InvalidInput:
    return InvalidInput(READ_OPTION, f"{path} {message}")
