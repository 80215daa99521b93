"""Advisory file locks. The kernel drops them when their holder dies, in whatever way: that is the point."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpesa_sync.errors import EmbeddedServerError

_POLL_S = 0.02


def try_lock(path: Path, *, shared: bool = False) -> int | None:
    """Take the lock and return its open descriptor, or None when another holds it.

    Closing the descriptor, and every copy that a child inherited, gives the lock back.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if try_flock(descriptor, shared=shared):
        return descriptor
    os.close(descriptor)
    return None


def try_flock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; whether it was got."""
    how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError as exc:
        if exc.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR):
            return False
        raise
    return True


def wait_lock(path: Path, *, shared: bool = False, deadline: float, what: str) -> int:
    """Take the lock, trying until `deadline` (on `time.monotonic()`, seconds).

    Raises `EmbeddedServerError`, saying `what` it was waiting for, when the deadline passes.
    """
    while True:
        descriptor = try_lock(path, shared=shared)
        if descriptor is not None:
            return descriptor
        if time.monotonic() >= deadline:
            raise EmbeddedServerError(f"gave up waiting for {what}")
        time.sleep(_POLL_S)


def is_held(path: Path) -> bool:
    """Whether a process holds the lock exclusively."""
    if not path.exists():
        return False
    descriptor = try_lock(path, shared=True)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


@contextmanager
def holding(path: Path, *, deadline: float, what: str) -> Iterator[None]:
    """Hold the lock exclusively for the length of a block. Raises as `wait_lock` does."""
    descriptor = wait_lock(path, deadline=deadline, what=what)
    try:
        yield
    finally:
        os.close(descriptor)
