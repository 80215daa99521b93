"""One PostgreSQL server process: started on a free port, watched, stopped. Who needs it is not known here."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mpesa_sync.db.embedded import leftovers, options, runas
from mpesa_sync.db.embedded.binaries import CHILD_ENV
from mpesa_sync.db.embedded.layout import Layout, open_log
from mpesa_sync.errors import EmbeddedServerError

HOST: Final = "127.0.0.1"
_PORTS_TRIED: Final = 10
_OTHER_FAILURES: Final = 2
_READY_TIMEOUT_S: Final = 600
"""Recovery after a crash may take minutes and must not be cut short: it would begin again."""
_RECOVERY_PATIENCE_S: Final = 10.0
_ANSWER_TIMEOUT_S: Final = 2.0
_STOP_PATIENCE_S: Final = ((signal.SIGINT, 30), (signal.SIGQUIT, 10), (signal.SIGKILL, 10))
_POLL_S: Final = 0.01


class Postmaster:
    """The server of one data folder. At most one process at a time; the caller holds the supervisor's lock."""

    def __init__(self, layout: Layout, bin_dir: Path, prefix: list[str], extra: Mapping[str, str]) -> None:
        self._layout = layout
        self._program = bin_dir / "postgres"
        self._prefix = prefix
        self._extra = extra
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The id of the running process, 0 when there is none."""
        return self._process.pid if self._process and not self.exited() else 0

    def exited(self) -> bool:
        """Whether no server process is running."""
        return self._process is None or self._process.poll() is not None

    def start(self, ports: Iterator[int]) -> int:
        """Start on the first of `ports` that works, wait until it accepts connections, return the port.

        Whether a port is free is only known by using it, so one that was taken meanwhile costs one attempt. Raises
        `EmbeddedServerError` when the server does not start.
        """
        failures = 0
        for _ in range(_PORTS_TRIED):
            port = next(ports)
            if self._started(port):
                return port
            failures += not is_taken(port)
            if failures == _OTHER_FAILURES:
                break
        raise EmbeddedServerError(
            f"PostgreSQL could not be started on {self._layout.data}; the end of {self._layout.server_log} says why"
        )

    def stop(self) -> None:
        """Stop the server: cleanly (a fast shutdown) if that can be done in time, else by force.

        PostgreSQL (15 and 18, measured) never ends when the request reaches it while it recovers from a crash: so
        that is waited for.
        """
        deadline = time.monotonic() + _RECOVERY_PATIENCE_S
        while not self.exited() and not accepts(self._port) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        for signum, patience_s in _STOP_PATIENCE_S:
            if self._process is None or self._process.poll() is not None:
                break
            self._process.send_signal(signum)
            try:
                self._process.wait(patience_s)
            except subprocess.TimeoutExpired:
                continue
        self._process = None

    def _started(self, port: int) -> bool:
        self._port = port
        argv = [str(self._program), "-D", str(self._layout.data)]
        argv += options.arguments(port, self._extra)
        log = open_log(self._layout.server_log)
        try:
            self._process = subprocess.Popen(
                runas.bound(self._prefix, argv, on_death="QUIT"),
                env=CHILD_ENV,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        finally:
            os.close(log)
        return self._ready(self._process)

    def _ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the server itself says so, in the eighth line of its `postmaster.pid`."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while process.poll() is None:
            lines = leftovers.pidfile(self._layout.data)
            if len(lines) > 7 and lines[0] == str(process.pid) and lines[7].strip() == "ready":
                return True
            if time.monotonic() >= deadline:
                self.stop()
                break
            time.sleep(_POLL_S)
        return False


def free_ports(*preferred: int) -> Iterator[int]:
    """Yield ports for `Postmaster.start`: first those preferred (0 is skipped), then ones free at this moment."""
    for port in preferred:
        if port and not is_taken(port):
            yield port
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            found: int = probe.getsockname()[1]
        yield found


def is_taken(port: int) -> bool:
    """Whether a port of the loopback address is in use, judged as PostgreSQL does (SO_REUSEADDR)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def accepts(port: int) -> bool:
    """Whether a server there lets clients in: it asks for a password instead of saying that it is starting.

    Also false while PostgreSQL recovers from the death of a backend; its pid file says "ready" all the while.
    """
    try:
        with socket.create_connection((HOST, port), timeout=_ANSWER_TIMEOUT_S) as asking:
            asking.sendall(_STARTUP_PACKET)
            return asking.recv(1) == b"R"
    except OSError:
        return False


def _startup_packet() -> bytes:
    body = struct.pack("!I", 3 << 16) + b"user\0postgres\0database\0postgres\0\0"
    return struct.pack("!I", len(body) + 4) + body


_STARTUP_PACKET: Final = _startup_packet()
