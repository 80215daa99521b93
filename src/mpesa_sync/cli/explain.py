"""`explain`: why one bar offers M-Pesa or not: facts, rule, verdict, remedy, last change, open alerts."""

from __future__ import annotations

import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.explanation import lines
from mpesa_sync.cli.options import AsJson, Bar, DatabaseUrl, examples
from mpesa_sync.cli.session import bar_of, on_database
from mpesa_sync.db import shape
from mpesa_sync.sync import explaining


def register(app: typer.Typer) -> None:
    """Add `explain` to the app."""
    epilog = examples(
        ("mpesa-sync explain mama-njeri", "One bar, by slug."),
        ("mpesa-sync explain 7d9c2f64-0f0b-4d1e-9f0e-5a9b3c1d2e4f --json", "By id, for a program."),
    )
    app.command("explain", epilog=epilog)(explain)


def explain(context: typer.Context, bar: Bar, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """Say why one bar offers M-Pesa or not, and what to do.

    Reads only; needs no 'db init'. Stored secrets are judged where MPESA_KMS_KEY is set, and never shown.
    """

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            await shape.require(connection)
            bar_id = await bar_of(connection, bar)
            explanation = await explaining.explain(connection, opened.database, bar_id, called=bar)
        if as_json:
            output.json_result(explanation)
        else:
            output.results(lines(explanation))
        return ExitCode.OK

    return on_database(context, database_url, work)
