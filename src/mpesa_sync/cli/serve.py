"""`serve`: the staff app, the customer app and the API over HTTP, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Annotated

import typer
import uvloop

from mpesa_sync import bootstrap
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import DatabaseUrl, examples
from mpesa_sync.cli.session import Invocation, announce
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.web import composition, server


def register(app: typer.Typer) -> None:
    """Add `serve` to the app."""
    epilog = examples(
        ("mpesa-sync serve", "With the embedded PostgreSQL in ./.mpesa-sync, made where there is none."),
        ("mpesa-sync serve --port 0", "On any free port, which is printed."),
        ("mpesa-sync staff add asha --bar mama-njeri", "Somebody who may sign in."),
    )
    app.command("serve", epilog=epilog)(serve)


def serve(
    context: typer.Context,
    host: Annotated[
        str | None, typer.Option("--host", help="Listen on this address.", show_default="MPESA_SYNC_HTTP_HOST")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65_535, help="Listen on this port.", show_default="MPESA_SYNC_HTTP_PORT"),
    ] = None,
    database_url: DatabaseUrl = None,
) -> int:
    """Serve the staff app, the customers' pages and the API.

    Where nothing names a database, an embedded PostgreSQL is started, and made from nothing where there is none. A
    database of yours must have been prepared by 'db init'. SIGTERM or Ctrl-C: open streams say goodbye, then it ends.
    """
    invocation: Invocation = context.obj
    if database_url:
        invocation.secrets.append(Secret(database_url))
    settings = Settings.load()
    invocation.secrets.extend(filter(None, (settings.database_url, settings.jwt_secret, *settings.kms_keys)))
    bootstrap.configure_logging(settings, level=logging.INFO)
    address = (host or settings.http_host, settings.http_port if port is None else port)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, database_url, *address))


async def _serve(settings: Settings, database_url: str | None, host: str, port: int) -> ExitCode:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    listening = server.bound(host, port)
    async with (
        bootstrap.served(settings, database_url=database_url) as serving,
        composition.started(serving, settings) as (context, hub),
    ):
        await announce(serving.opened)
        async with server.serving(composition.app_of(context), hub, listening) as url:
            output.note(f"Serving on {url}: staff at {url}/staff, customers at {url}/menu/SLUG.", "green")
            output.note("Stop it with Ctrl-C or SIGTERM.")
            await stop.wait()
            output.note("Stopping: open pages are told to come back.")
    return ExitCode.OK
