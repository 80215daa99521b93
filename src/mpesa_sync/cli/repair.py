"""`repair`: where a bar's two fields disagree, what staff switched wins (R5.4)."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import Authority, Bar, DatabaseUrl, examples
from mpesa_sync.cli.session import bar_of, login, on_database, require_installed
from mpesa_sync.db import shape
from mpesa_sync.db.operations import Origin
from mpesa_sync.errors import StaleAuthority
from mpesa_sync.sync.manager import MpesaSyncManager

_STALE: Final = (
    "This bar keeps M-Pesa secrets in bars, and has no credentials row or one with others, so is_active may not be "
    "the truth. "
    "Look at it with 'mpesa-sync explain'; if it is the truth, repeat this with '--authority credentials'."
)


def register(app: typer.Typer) -> None:
    """Add `repair` to the app."""
    epilog = examples(
        ("mpesa-sync repair mama-njeri", "Correct one bar, by id or slug."),
        ("mpesa-sync repair mama-njeri --reason 'ticket 512'", "The same, with the reason in the history."),
    )
    app.command("repair", epilog=epilog)(repair)


def repair(
    context: typer.Context,
    bar: Bar,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")] = "",
    authority: Annotated[
        Authority | None,
        typer.Option(
            "--authority",
            help="Repair also a bar whose M-Pesa secrets stand in bars while no credentials row holds them.",
            show_default=False,
        ),
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option("--actor", metavar="NAME", help="Who does this, for the history.", show_default="your login"),
    ] = None,
    database_url: DatabaseUrl = None,
) -> int:
    """Correct what one bar's customers are shown.

    bars.mpesa_enabled becomes what its staff have switched, never the other way. A bar in sync is left as it is.
    Needs 'db init' and no key.
    """

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            await shape.require(connection)
            await require_installed(connection)
            bar_id = await bar_of(connection, bar)
        try:
            repaired = await MpesaSyncManager(opened.database).repair_inconsistency(
                bar_id,
                actor=login() if actor is None else actor,
                reason=reason,
                authority=None if authority is None else "credentials",
                origin=Origin(client="mpesa-sync repair"),
            )
        except StaleAuthority as exc:
            raise StaleAuthority(_STALE) from exc
        before, after = output.flag(repaired.previous_bar_status), output.flag(repaired.new_bar_status)
        if repaired.repaired:
            output.result(f"{bar}: repaired. bars.mpesa_enabled was {before} and is {after}.", "green")
        else:
            output.result(f"{bar}: in sync already, nothing was changed. bars.mpesa_enabled is {after}.", "green")
        output.note(f"Operation {repaired.operation_id}")
        return ExitCode.OK

    return on_database(context, database_url, work)
