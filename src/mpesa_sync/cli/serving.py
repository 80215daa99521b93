"""Serves the web applications in this process until a signal, and says where."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from contextlib import AbstractAsyncContextManager
from typing import Final

import uvloop

from mpesa_sync import bootstrap
from mpesa_sync.bootstrap import Opened, Serving
from mpesa_sync.cli import output, working
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.session import announce
from mpesa_sync.secret import Secret
from mpesa_sync.settings import MAX_STREAMS, Settings
from mpesa_sync.web import composition, server
from mpesa_sync.web.app import create_app
from mpesa_sync.web.supervisor import READY

_OTHER_FILES: Final = 200
"""Of a process: connections to the database, requests that are being answered, and what it has loaded."""


def run(
    settings: Settings, database_url: str | None, host: str, port: int, hidden: list[Secret], *, jobs: bool = True
) -> ExitCode:
    """Serve until SIGTERM or SIGINT; return 0.

    Arguments:
        jobs: whether background jobs are done here, too; else `worker` has to do them.
        hidden: what must not appear in anything that is printed about an error; what becomes known is added.
    Raises:
        MpesaSyncError: it cannot be served, or the server has ended by itself.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, database_url, host, port, hidden, jobs=jobs))


def run_inherited(settings: Settings, sockets: str, hidden: list[Secret], *, jobs: bool) -> ExitCode:
    """Serve as one of several processes, until SIGTERM or until the one that started this is gone; return 0.

    Arguments:
        sockets: the numbers of the listening socket and of the one to the supervisor, with a comma between.
        jobs, hidden: as in `run`.
    Raises:
        MpesaSyncError: as in `run`.
    """
    listening, control = (socket.socket(fileno=int(number)) for number in sockets.split(","))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, control:
        return runner.run(_serve_inherited(settings, listening, control, hidden, jobs=jobs))


async def _serve(
    settings: Settings, database_url: str | None, host: str, port: int, hidden: list[Secret], *, jobs: bool
) -> ExitCode:
    stop = _stop_signal()
    say_open_files(settings)
    listening = server.bound(host, port)
    async with bootstrap.served(settings, database_url=database_url) as serving:
        hidden.extend(secrets_of(serving))
        async with composition.started(serving, settings) as context:
            await announce(serving.opened)
            await working.warn_of_spool(serving.opened)
            pages = server.serving(create_app(context), context.hub, listening)
            async with _work(settings, serving.opened, stop, jobs=jobs), pages as running:
                url = running.url
                output.note(f"Serving on {url}: staff at {url}/staff, customers at {url}/menu/SLUG.", "green")
                output.note("Stop it with Ctrl-C or SIGTERM.")
                await running.until(stop)
                output.note("Stopping: open pages are told to come back.")
    return ExitCode.OK


async def _serve_inherited(
    settings: Settings, listening: socket.socket, control: socket.socket, hidden: list[Secret], *, jobs: bool
) -> ExitCode:
    stop = _stop_signal()
    server.allow_open_files()
    asyncio.get_running_loop().add_reader(control, stop.set)  # it says nothing: what can be read is its end
    async with bootstrap.served(settings) as serving:
        hidden.extend(secrets_of(serving))
        async with composition.started(serving, settings) as context:
            pages = server.serving(create_app(context), context.hub, listening)
            async with _work(settings, serving.opened, stop, jobs=jobs), pages as running:
                with contextlib.suppress(OSError):
                    control.send(READY)
                await running.until(stop)
    return ExitCode.OK


def _work(settings: Settings, opened: Opened, stop: asyncio.Event, *, jobs: bool) -> AbstractAsyncContextManager[None]:
    """Give the jobs that run beside the pages, where this process does them."""
    return working.beside(settings, opened, stop) if jobs else contextlib.nullcontext()


def say_open_files(settings: Settings) -> None:
    """Have as many open files as the system allows, and say where those are too few for the pages that there may be."""
    allowed = server.allow_open_files()
    if 0 <= allowed < settings.max_streams + _OTHER_FILES:
        output.note(
            f"This system allows a process {allowed} open files, too few for {settings.max_streams} open pages "
            f"({MAX_STREAMS}): raise it (ulimit -n), or set the other to {max(allowed - _OTHER_FILES, 1)}.",
            "yellow",
        )


def _stop_signal() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def secrets_of(serving: Serving) -> list[Secret]:
    """Return what must not be printed: of the embedded server, its URL and its keys are known only now."""
    place = serving.opened.place
    return list(filter(None, (place.url, serving.jwt_secret, *place.kms_keys)))
