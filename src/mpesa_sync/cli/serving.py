"""Serves the web applications in this process until a signal, and says where."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import uvloop

from mpesa_sync import bootstrap
from mpesa_sync.cli import output, working
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.session import announce
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.web import composition, server
from mpesa_sync.web.app import create_app


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


async def _serve(
    settings: Settings, database_url: str | None, host: str, port: int, hidden: list[Secret], *, jobs: bool
) -> ExitCode:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listening = server.bound(host, port)
    async with (
        bootstrap.served(settings, database_url=database_url) as serving,
        composition.started(serving, settings) as context,
    ):
        place = serving.opened.place  # of the embedded server: its URL and its keys are known only now
        hidden.extend(filter(None, (place.url, serving.jwt_secret, *place.kms_keys)))
        await announce(serving.opened)
        await working.warn_of_spool(serving.opened)
        work = working.beside(settings, serving.opened, stop) if jobs else contextlib.nullcontext()
        async with work, server.serving(create_app(context), context.hub, listening) as running:
            url = running.url
            output.note(f"Serving on {url}: staff at {url}/staff, customers at {url}/menu/SLUG.", "green")
            output.note("Stop it with Ctrl-C or SIGTERM.")
            await running.until(stop)
            output.note("Stopping: open pages are told to come back.")
    return ExitCode.OK
