"""`serve`: its options. What it does stands in `serving`, which is loaded only when it is called for."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from mpesa_sync import bootstrap
from mpesa_sync.cli.options import DatabaseUrl, examples
from mpesa_sync.cli.session import Invocation
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings


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
    invocation.secrets.extend(
        filter(None, (settings.database_url, settings.listen_url, settings.jwt_secret, *settings.kms_keys))
    )
    bootstrap.configure_logging(settings, level=logging.INFO)
    address = (host or settings.http_host, settings.http_port if port is None else port)
    from mpesa_sync.cli import serving  # here: no other command waits for a web server to be loaded

    return serving.run(settings, database_url, *address, invocation.secrets)
