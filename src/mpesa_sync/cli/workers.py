"""Serves from several processes: this one takes the port, keeps the database and the processes, and serves nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final

from prometheus_client import multiprocess

from mpesa_sync import bootstrap
from mpesa_sync.bootstrap import Serving
from mpesa_sync.cli import output, working
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.serving import say_open_files, secrets_of
from mpesa_sync.cli.session import announce
from mpesa_sync.db.room import room
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.secret import Secret
from mpesa_sync.settings import DATABASE_URL, METRICS_FOLDER, POOL_SIZE, Settings, environment_with
from mpesa_sync.web import server
from mpesa_sync.web.composition import SPARE
from mpesa_sync.web.ports import Port, port
from mpesa_sync.web.supervisor import Supervisor

_LISTENER: Final = 1
_JOBS: Final = 3
"""Connections of background jobs, which the first process does."""
_OTHERS: Final = 5
"""Left for psql, backups, and the commands of this program."""
_SMALLEST_POOL: Final = 2


def run(
    settings: Settings,
    database_url: str | None,
    host: str,
    number: int,
    hidden: list[Secret],
    *,
    jobs: bool,
    debug: bool,
) -> ExitCode:
    """Serve from `settings.workers` processes until SIGTERM or SIGINT; return 0. SIGHUP replaces them in turn.

    Arguments:
        jobs: whether the first of them does background jobs, too.
        hidden: what must not appear in anything that is printed about an error; what becomes known is added.
        debug: of every process.
    Raises:
        MpesaSyncError: it cannot be served.
    """
    with port(host, number) as taken:
        return asyncio.run(_serve(settings, database_url, taken, hidden, jobs=jobs, debug=debug))


async def _serve(
    settings: Settings, database_url: str | None, taken: Port, hidden: list[Secret], *, jobs: bool, debug: bool
) -> ExitCode:
    stop, again = _signals()
    say_open_files(settings)
    async with bootstrap.served(settings, database_url=database_url) as serving:
        hidden.extend(secrets_of(serving))
        await announce(serving.opened)
        await working.warn_of_spool(serving.opened)
        variables = {POOL_SIZE: str(await _pool_size(serving, settings, jobs=jobs))}
        if database_url is not None:
            variables[DATABASE_URL] = database_url
        with _counted() as counting:
            supervisor = Supervisor(
                taken,
                settings.workers,
                command=_Command(jobs=jobs, debug=debug),
                environment=environment_with(variables | counting),
                ended=partial(_forgotten, counting[METRICS_FOLDER]),
            )
            try:
                await supervisor.start()
                url = server.url_of(taken.taken)
                output.note(f"Serving on {url}: staff at {url}/staff, customers at {url}/menu/SLUG.", "green")
                output.note(f"Processes: {', '.join(map(str, supervisor.pids))}. SIGHUP replaces them one by one.")
                output.note("Stop it with Ctrl-C or SIGTERM.")
                await supervisor.run(stop, again)
                output.note("Stopping: open pages are told to come back.")
            finally:
                await supervisor.stop()
    return ExitCode.OK


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Return what is set when it shall stop, and when its processes shall be replaced."""
    stop, again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    has_terminal = _has_terminal()

    def hang_up() -> None:
        (stop if has_terminal and not _has_terminal() else again).set()

    loop.add_signal_handler(signal.SIGHUP, hang_up)
    return stop, again


def _has_terminal() -> bool:
    """Return whether there is a terminal: where it was closed, SIGHUP says that, and asks for nothing else."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


class _Command:
    """The command line of a process of a slot, which inherits two sockets."""

    def __init__(self, *, jobs: bool, debug: bool) -> None:
        self._jobs = jobs
        self._options = ["--debug"] if debug else []

    def __call__(self, slot: int, listening: int, control: int) -> Sequence[str]:
        jobs = "--jobs" if self._jobs and slot == 0 else "--no-jobs"
        program = (sys.executable, "-m", "mpesa_sync", *self._options)
        return (*program, "serve", jobs, "--inherited", f"{listening},{control}")


@contextmanager
def _counted() -> Iterator[dict[str, str]]:
    """Give the variable that names the folder in which all processes count, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="mpesa-sync-metrics-", ignore_cleanup_errors=True) as folder:
        yield {METRICS_FOLDER: folder}


def _forgotten(folder: str, pid: int) -> None:
    """Have the gauges of a process that has ended count no longer; its counters stay."""
    multiprocess.mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]  # of the library


async def _pool_size(serving: Serving, settings: Settings, *, jobs: bool) -> int:
    """Return how many connections the requests of each process may have, so that all fit into the server's limit.

    Raises:
        ConfigurationError: so many processes do not fit at all.
    """
    async with serving.database.reading() as connection:
        limit = await room(connection)
    each = SPARE + _LISTENER
    left = limit - _OTHERS - (_JOBS if jobs else 0)
    size = left // settings.workers - each
    if size < _SMALLEST_POOL:
        most = max(left // (each + _SMALLEST_POOL), 1)
        raise ConfigurationError(
            [
                f"{settings.workers} processes are too many for this database, which has room for {limit} connections: "
                f"use {most} at most (--workers), or raise its max_connections"
            ]
        )
    if size < settings.pool_size:
        output.note(
            f"Each process gets {size} connections for requests instead of {settings.pool_size} ({POOL_SIZE}): the "
            f"database has room for {limit} in all.",
            "yellow",
        )
    return min(size, settings.pool_size)
