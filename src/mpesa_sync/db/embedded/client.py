"""What a program calls: start or find the embedded server of a home folder, and let go of it again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Literal
from urllib.parse import quote

from mpesa_sync.db.embedded import locks, options
from mpesa_sync.db.embedded.attach import attached
from mpesa_sync.db.embedded.binaries import (
    Binaries,
    Distribution,
    binaries,
    binaries_for,
)
from mpesa_sync.db.embedded.cluster import SUPERUSER
from mpesa_sync.db.embedded.layout import Layout, State
from mpesa_sync.db.embedded.postmaster import HOST
from mpesa_sync.errors import EmbeddedServerError

START_TIMEOUT_S: Final = 30.0
_STOP_WAIT_S: Final = 20.0
_HANDOVER_S: Final = 1.0
_POLL_S: Final = 0.02


class Server:
    """A running embedded server, used by this process until `close`. Also a context manager.

    `port`, `postmaster_pid` and `url` are read from the supervisor's record each time: they change when PostgreSQL
    was restarted. The password is in `url` and in nothing that is printed.
    """

    host: Final = HOST

    def __init__(self, layout: Layout, users_fd: int, request: dict[str, object]) -> None:
        self._layout = layout
        self._users_fd: int | None = users_fd
        self._request = request
        self._password = layout.read_password() if layout.has_cluster() else ""
        self._last = State("ready")

    def __repr__(self) -> str:
        return f"<embedded PostgreSQL {self.version} on {self.host}:{self.port}, {self.data_dir}>"

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """URL of the database `postgres` as its superuser, password included."""
        return self.url_for("postgres")

    def url_for(self, database: str) -> str:
        """Return the URL of a database by name, password included."""
        return f"postgresql://{SUPERUSER}:{self._password}@{HOST}:{self.port}/{quote(database, safe='')}"

    @property
    def port(self) -> int:
        """The TCP port; the last one known while PostgreSQL is being restarted."""
        return self._state().port

    @property
    def postmaster_pid(self) -> int:
        """Process id of the server."""
        return self._state().postmaster_pid

    @property
    def supervisor_pid(self) -> int:
        """Process id of the supervisor."""
        return self._state().supervisor_pid

    @property
    def version(self) -> str:
        """Version of PostgreSQL, like `18.4`."""
        return self._state().version

    @property
    def major(self) -> int:
        """Major version of PostgreSQL, like 18."""
        return int(self.version.split(".")[0])

    @property
    def bin_dir(self) -> Path:
        """Folder of the programs that run."""
        return Path(self._state().bin_dir)

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's data folder."""
        return self._layout.data

    @property
    def log_file(self) -> Path:
        """PostgreSQL's log."""
        return self._layout.server_log

    def ensure_running(self, *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start or find the server again, as after its supervisor was killed; on the same port if it is free.

        Raises `EmbeddedServerError` when it does not run within `timeout_s`, or after `close`.
        """
        if self._users_fd is None:
            raise EmbeddedServerError("this embedded server was let go")
        self._last = attached(self._layout, self._request, time.monotonic() + timeout_s)
        self._password = self._layout.read_password()

    def restart(self, mode: Literal["fast", "immediate"] = "fast", *, timeout_s: float = START_TIMEOUT_S) -> None:
        """Stop PostgreSQL, for every client, and wait until the supervisor has brought it back.

        `fast` writes everything out first; `immediate` is a crash. Raises `EmbeddedServerError`.
        """
        deadline = time.monotonic() + timeout_s
        # A fast shutdown asked for during recovery would never end.
        self.ensure_running(timeout_s=timeout_s)
        before = self.postmaster_pid
        # One that died by itself just now is being brought back anyway.
        with suppress(ProcessLookupError):
            os.kill(before, signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        while (state := self._layout.read_state()) is None or state.postmaster_pid == before:
            if time.monotonic() >= deadline:
                raise EmbeddedServerError("the embedded server did not come back in time")
            time.sleep(_POLL_S)
        self.ensure_running(timeout_s=max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """Let go of the server. The last to do so waits, 20 s at most, until it has stopped cleanly.

        A process that ends (a container) would otherwise take the server with it half way. May be repeated.
        """
        if self._users_fd is None:
            return
        last = locks.try_flock(self._users_fd)
        if last:
            # A forked child shares this lock and may live on: it must not keep newcomers out.
            locks.try_flock(self._users_fd, shared=True)
        os.close(self._users_fd)
        self._users_fd = None
        deadline = time.monotonic() + _STOP_WAIT_S
        handed_over = time.monotonic() + _HANDOVER_S
        while last and time.monotonic() < deadline and locks.is_held(self._layout.supervisor_lock):
            if time.monotonic() > handed_over and self._layout.read_state() is not None:
                return  # somebody else came meanwhile: it goes on running
            time.sleep(_POLL_S)

    def _state(self) -> State:
        current = self._layout.read_state()
        if current is not None and current.status == "ready":
            self._last = current
        return self._last


def start(
    home: Path,
    *,
    distribution: Distribution = "auto",
    extra_settings: Mapping[str, str] = {},
    timeout_s: float = START_TIMEOUT_S,
) -> Server:
    """Start the embedded server of `home`, or join the one that runs; blocks for `timeout_s` at most.

    A new data folder is made with the newest programs of the `distribution`, later starts use programs of the same
    major version. `extra_settings` (PostgreSQL's names and values) take effect when this call starts it. Raises
    `EmbeddedServerError` in plain words. Call `close` on what it returns (or use `with`).
    """
    deadline = time.monotonic() + timeout_s
    layout = Layout(home)
    extra = options.checked(extra_settings)
    chosen = _choose(layout, distribution)
    layout.prepare()
    request: dict[str, object] = {
        "home": str(layout.home),
        "bin_dir": str(chosen.bin_dir),
        "version": chosen.version,
        "major": chosen.major,
        "extra_settings": extra,
    }
    # From here on the supervisor does not stop; one that is just stopping is waited for.
    users_fd = locks.wait_lock(layout.users_lock, shared=True, deadline=deadline, what="the last server to stop")
    try:
        server = Server(layout, users_fd, request)
        server.ensure_running(timeout_s=deadline - time.monotonic())
    except BaseException:
        os.close(users_fd)
        raise
    return server


@asynccontextmanager
async def running(
    home: Path,
    *,
    distribution: Distribution = "auto",
    extra_settings: Mapping[str, str] = {},
    timeout_s: float = START_TIMEOUT_S,
) -> AsyncIterator[Server]:
    """`start` and `close` around a block, off the event loop. Arguments and errors as for `start`."""
    call = partial(
        start,
        home,
        distribution=distribution,
        extra_settings=extra_settings,
        timeout_s=timeout_s,
    )
    executor = ThreadPoolExecutor(1, thread_name_prefix="embedded-postgresql")
    starting = executor.submit(call)
    executor.shutdown(wait=False)
    try:
        server = await asyncio.wrap_future(starting)
    except asyncio.CancelledError:
        # The thread cannot be stopped: it lets go itself of what it starts, with or without this event loop.
        starting.add_done_callback(_let_go)
        raise
    try:
        yield server
    finally:
        await asyncio.shield(asyncio.to_thread(server.close))


def exists(home: Path) -> bool:
    """Whether an initialised cluster is below `home`, running or not. Raises `EmbeddedServerError` if unreadable."""
    return Layout(home).has_cluster()


def is_running(home: Path) -> bool:
    """Whether a supervisor is there for `home`: its server runs, starts or stops."""
    return locks.is_held(Layout(home).supervisor_lock)


def _let_go(done: Future[Server]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().close()


def _choose(layout: Layout, distribution: Distribution) -> Binaries:
    if not layout.has_cluster():
        return binaries(distribution)
    return binaries_for(distribution, layout.read_cluster().major, layout.folder)
