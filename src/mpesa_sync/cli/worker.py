"""`worker`: its options. What it does stands in `working`, which is loaded only when it is called for."""

from __future__ import annotations

import logging

import typer

from mpesa_sync import bootstrap
from mpesa_sync.cli.options import DatabaseUrl, examples
from mpesa_sync.cli.session import settings_of


def register(app: typer.Typer) -> None:
    """Add `worker` to the app."""
    epilog = examples(
        ("mpesa-sync worker", "Background jobs alone, until Ctrl-C."),
        ("mpesa-sync serve --no-jobs", "The web alone: one worker or several do the jobs."),
    )
    app.command("worker", epilog=epilog)(worker)


def worker(context: typer.Context, database_url: DatabaseUrl = None) -> int:
    """Do background jobs: tell people about alerts, and look for drift.

    Needs a database that 'db init' has prepared, or the embedded PostgreSQL of this folder. Several workers may run at
    once, beside 'serve', too: each job is done once. SIGTERM or Ctrl-C: what is under way may end, then it ends.
    """
    settings = settings_of(context, database_url)
    bootstrap.configure_logging(settings, level=logging.INFO)
    from mpesa_sync.cli import working  # here: no other command waits for the queue to be loaded

    return working.run(settings, database_url)
