"""`serve`: its options. What it does stands in `serving`, which is loaded only when it is called for."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Annotated

import typer

from mpesa_sync import bootstrap
from mpesa_sync.cli.options import DatabaseUrl, examples
from mpesa_sync.cli.session import Invocation, settings_of


def register(app: typer.Typer) -> None:
    """Add `serve` to the app."""
    epilog = examples(
        ("mpesa-sync serve", "With the embedded PostgreSQL in ./.mpesa-sync, made where there is none."),
        ("mpesa-sync serve --port 0", "On any free port, which is printed."),
        ("mpesa-sync serve --workers 4", "From four processes on one port; SIGHUP replaces them one by one."),
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
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, max=100, help="Serve from so many processes.", show_default="1"),
    ] = None,
    jobs: Annotated[
        bool, typer.Option("--jobs/--no-jobs", help="Do background jobs here, too, or leave them to 'worker'.")
    ] = True,
    database_url: DatabaseUrl = None,
    inherited: Annotated[str | None, typer.Option("--inherited", hidden=True)] = None,
) -> int:
    """Serve the staff app, the customers' pages and the API.

    Where nothing names a database, an embedded PostgreSQL is started, and made from nothing where there is none. A
    database of yours must have been prepared by 'db init'. SIGTERM or Ctrl-C: open streams say goodbye, then it ends.
    """
    invocation: Invocation = context.obj
    settings = settings_of(context, database_url)
    bootstrap.configure_logging(settings, level=logging.INFO)
    address = (host or settings.http_host, settings.http_port if port is None else port)
    settings = replace(settings, workers=workers or settings.workers)
    from mpesa_sync.cli import serving  # here: no other command waits for a web server to be loaded

    if inherited is not None:
        return serving.run_inherited(settings, inherited, invocation.secrets, jobs=jobs)
    if settings.workers == 1:
        return serving.run(settings, database_url, *address, invocation.secrets, jobs=jobs)
    from mpesa_sync.cli import workers as several

    return several.run(settings, database_url, *address, invocation.secrets, jobs=jobs, debug=invocation.debug)
