"""Starts the supervisor of a home folder, or finds the one that is there, and waits for its server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from mpesa_sync.db.embedded import locks
from mpesa_sync.db.embedded.binaries import CHILD_ENV
from mpesa_sync.db.embedded.layout import Layout, State, open_log, trim_log
from mpesa_sync.db.embedded.postmaster import accepts
from mpesa_sync.errors import EmbeddedServerError

_BOOT: Final = Path(__file__).with_name("boot.py")
_LOW_DISK_BYTES: Final = 100_000_000
_SUPERVISOR_LOG_LIMIT_BYTES: Final = 1_000_000
_POLL_S: Final = 0.02


def attached(layout: Layout, request: dict[str, object], deadline: float) -> State:
    """Return the state of the server once it is ready, having started a supervisor if there was none.

    The caller holds the users' lock, so the supervisor does not stop meanwhile. `deadline` is on `time.monotonic()`,
    in seconds. Raises `EmbeddedServerError` when the server does not start in time.
    """
    try:
        return _attached(layout, request, deadline)
    except OSError as exc:
        raise EmbeddedServerError(f"the folder {layout.folder} cannot be used: {exc.strerror}") from exc


def _attached(layout: Layout, request: dict[str, object], deadline: float) -> State:
    started = False
    waiting = "another process that starts the embedded server"
    with locks.holding(layout.start_lock, deadline=deadline, what=waiting):
        while time.monotonic() < deadline:
            lock_fd = locks.try_lock(layout.supervisor_lock)
            state = layout.read_state()
            if lock_fd is not None:
                try:
                    if started:
                        raise _failure(layout, state)
                    _launch(layout, request, lock_fd, state, deadline)
                finally:
                    os.close(lock_fd)
                started = True
            elif state is not None and state.status == "ready" and accepts(state.port):
                return state
            time.sleep(_POLL_S)
    raise EmbeddedServerError(
        f"the embedded server is still starting, perhaps after a crash; {layout.server_log} "
        "shows how far it is. Try again in a while"
    )


def _failure(layout: Layout, state: State | None) -> EmbeddedServerError:
    told = state.message if state is not None and state.message else ""
    message = told or f"the embedded server did not start; {layout.supervisor_log} says why"
    free = layout.free_bytes()
    if free < _LOW_DISK_BYTES:
        message += f" (only {free // 1_000_000} MB are free on its disk)"
    return EmbeddedServerError(message)


def _launch(layout: Layout, request: dict[str, object], lock_fd: int, stale: State | None, deadline: float) -> None:
    """Start a supervisor that inherits the lock: it is never free in between, so there is never a second one."""
    layout.clear_state()
    trim_log(layout.supervisor_log, _SUPERVISOR_LOG_LIMIT_BYTES)
    preferred = stale.port if stale is not None else 0
    content = {**request, "lock_fd": lock_fd, "preferred_port": preferred}
    log_fd = open_log(layout.supervisor_log)
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(_BOOT), str(layout.home)],
            input=json.dumps(content).encode(),
            env=CHILD_ENV,  # nothing of the environment of this process, which may hold keys
            stdout=log_fd,
            stderr=log_fd,
            pass_fds=[lock_fd],
            timeout=max(1.0, deadline - time.monotonic()),
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise EmbeddedServerError("the supervisor of the embedded server cannot be run") from exc
    finally:
        os.close(log_fd)
    if done.returncode != 0:
        raise EmbeddedServerError(f"the supervisor of the embedded server failed; {layout.supervisor_log} says why")
