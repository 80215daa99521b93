"""The detached process that owns one embedded server; `boot` runs it.

Started by `attach` alone, with the supervisor's lock already held on an inherited descriptor and the request as JSON
on its standard input. It runs PostgreSQL as its child for as long as any process holds the users' lock, starts it
again when it dies, and stops it cleanly when nobody is left. It knows no other process by name: the kernel drops the
lock of a client that was killed. It imports only the standard library and its neighbours.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mpesa_sync.db.embedded import cluster, leftovers, locks, runas
from mpesa_sync.db.embedded.layout import Layout, State, trim_log
from mpesa_sync.db.embedded.postmaster import Postmaster, free_ports
from mpesa_sync.errors import EmbeddedServerError

log = logging.getLogger("mpesa_sync.embedded")

POLL_S: Final = 0.1
_LOG_LIMIT_BYTES: Final = 16_000_000
_LEFTOVER_GRACE_S: Final = 10.0
_RESTART_DELAYS_S: Final = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0)
_HEALTHY_AFTER_S: Final = 30.0
"""A server that ran this long before it died is given all the attempts again."""


class Supervisor:
    """Keeps the server of one home running while it is used. One thread; every wait is bounded."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._layout = Layout(Path(request["home"]))
        self._request = request
        self._bin_dir = Path(request["bin_dir"])
        self._port = int(request["preferred_port"])
        self._users = os.open(self._layout.users_lock, os.O_RDWR | os.O_CREAT, 0o600)
        self._asked_to_stop = False
        self._wake = _wake_on_signals(self._stop_asked)

    def run(self) -> int:
        """Serve until nobody is left; return the exit code."""
        server: Postmaster | None = None
        try:
            server = self._server()
            self._start(server)
            self._watch(server)
        except EmbeddedServerError as exc:
            log.error("%s", exc)
            self._layout.write_state(State("failed", message=exc.message, port=self._port))
            return 1
        else:
            self._layout.clear_state()
            return 0
        finally:
            if server is not None:
                server.stop()
            log.info("stopped")

    def _server(self) -> Postmaster:
        """Return the server, not yet started, having made its data folder if there was none."""
        layout = self._layout
        leftovers.end(layout.data, grace_s=_LEFTOVER_GRACE_S)
        existing = layout.read_cluster() if layout.has_cluster() else None
        way = existing.way if existing else runas.choose_way(layout.folder, self._bin_dir)
        if existing and existing.major != self._request["major"]:
            # Two first starts at once chose different programs: `binaries_for` refuses this before, as a rule.
            raise EmbeddedServerError(
                f"the data in {layout.folder} was just written by PostgreSQL {existing.major}: try again"
            )
        prefix = runas.prefix(way, layout.folder, self._bin_dir)
        if prefix is None:
            raise EmbeddedServerError(
                f"the data in {layout.folder} is used in the way '{way}', which is not possible "
                "here or for this user: use it as before, or set the folder aside"
            )
        if existing is None:
            cluster.create(layout, self._bin_dir, self._request["major"], way, prefix)
        return Postmaster(layout, self._bin_dir, prefix, self._request["extra_settings"])

    def _start(self, server: Postmaster) -> None:
        trim_log(self._layout.server_log, _LOG_LIMIT_BYTES)
        self._port = server.start(free_ports(self._port))
        log.info("PostgreSQL %s runs on port %d", self._request["version"], self._port)
        self._layout.write_state(
            State(
                "ready",
                port=self._port,
                postmaster_pid=server.pid,
                supervisor_pid=os.getpid(),
                bin_dir=str(self._bin_dir),
                version=self._request["version"],
            )
        )

    def _watch(self, server: Postmaster) -> None:
        """Return when nobody is left; raise `EmbeddedServerError` when the server cannot be kept running."""
        failures, started = 0, time.monotonic()
        while not self._finished():
            if not server.exited():
                trim_log(self._layout.server_log, _LOG_LIMIT_BYTES)
                self._sleep(POLL_S)
                continue
            self._layout.clear_state()
            if time.monotonic() - started > _HEALTHY_AFTER_S:
                failures = 0
            if failures == len(_RESTART_DELAYS_S):
                raise EmbeddedServerError(
                    f"PostgreSQL ended again and again; the end of {self._layout.server_log} says why"
                )
            log.warning("PostgreSQL ended; starting it again")
            self._back_off(_RESTART_DELAYS_S[failures])
            failures, started = failures + 1, time.monotonic()
            self._restart(server)

    def _restart(self, server: Postmaster) -> None:
        try:
            leftovers.end(self._layout.data, grace_s=_LEFTOVER_GRACE_S)
            self._start(server)
        except EmbeddedServerError as exc:
            log.warning("%s", exc)

    def _finished(self) -> bool:
        """Whether to stop: asked to, or nobody holds the users' lock. Newcomers then wait until this process ends."""
        return self._asked_to_stop or locks.try_flock(self._users)

    def _back_off(self, delay_s: float) -> None:
        """Let `delay_s` seconds go by, whatever children die meanwhile, unless there is nobody left to serve."""
        deadline = time.monotonic() + delay_s
        while (left_s := deadline - time.monotonic()) > 0 and not self._finished():
            self._sleep(min(POLL_S, left_s))

    def _sleep(self, duration_s: float) -> None:
        """Sleep, but not through the death of a child or a request to stop."""
        if select.select([self._wake], [], [], duration_s)[0]:
            os.read(self._wake, 4096)

    def _stop_asked(self) -> None:
        self._asked_to_stop = True


def _wake_on_signals(stop: Callable[[], None]) -> int:
    """Return a descriptor that becomes readable at every signal; SIGTERM and SIGINT call `stop`."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: stop())
    return reading


def main() -> int:
    """Detach from the client that started this process, then supervise. Returns the exit code."""
    request: dict[str, Any] = json.load(sys.stdin)
    os.set_inheritable(int(request["lock_fd"]), False)
    if os.fork():
        # The client waits for this process only, so none of its children is left for it to collect.
        os._exit(0)
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s [%(process)d] %(message)s")
    try:
        return Supervisor(request).run()
    except Exception:
        log.exception("the supervisor failed")
        return 1
