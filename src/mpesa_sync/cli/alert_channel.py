"""`alerts channel`: over which channel the owner of a venue hears of trouble. Its address is never shown."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, Bar, DatabaseUrl, examples
from mpesa_sync.cli.passwords import hidden_line
from mpesa_sync.cli.session import bar_of, login, on_database, require_installed
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.secret import Secret
from mpesa_sync.sync import venue_channels


class OwnersChannel(msgspec.Struct, frozen=True):
    """The object of `alerts channel --json`. `channel` null: none is set, so the owner hears nothing."""

    bar_id: UUID
    channel: str | None
    set_by: str | None
    set_at: datetime | None


def add_to(alerts: typer.Typer) -> None:
    """Add `channel` to the group."""
    alerts.command(
        "channel",
        epilog=examples(
            ("mpesa-sync alerts channel mama-njeri", "Does the owner hear of trouble, and over what?"),
            ("mpesa-sync alerts channel mama-njeri --set", "Asks for the address, or reads it from stdin."),
            ("mpesa-sync alerts channel mama-njeri --remove", "The owner hears nothing any more."),
        ),
    )(channel)


def channel(
    context: typer.Context,
    bar: Bar,
    set_: Annotated[
        bool, typer.Option("--set", help="Set it; its address comes from a prompt or stdin.", show_default=False)
    ] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Remove it.", show_default=False)] = False,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Show, set or remove the channel over which the owner of a bar hears of trouble.

    Its address is a URL as Apprise writes it. It is a secret: stored sealed with MPESA_KMS_KEY, and never shown.
    """
    if set_ and remove:
        raise ConfigurationError(["--set and --remove exclude each other"])
    if set_ and sys.stdin.isatty() and not sys.stderr.isatty():  # it would be asked for unseen, and shown when typed
        raise ConfigurationError(
            ["the address is typed on a terminal and stderr is none: leave stderr there, or send the address on stdin"]
        )

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            await require_installed(connection)
            bar_id = await bar_of(connection, bar)
        if set_:
            opened.database.keys.require()  # before a person is asked for something that cannot be sealed
            url = await _address()
            context.obj.secrets.append(url)
            await venue_channels.set_channel(opened.database, bar_id, url, actor=login())
        elif remove:
            await venue_channels.remove(opened.database, bar_id)
        await _say(opened, bar_id, bar, as_json=as_json)
        return ExitCode.OK

    return on_database(context, database_url, work)


async def _address() -> Secret:
    """Return the address that is typed and not seen, or the first line of stdin where that is no terminal."""
    if sys.stdin.isatty():
        return Secret(
            (await hidden_line("Address of the channel, as Apprise writes it (not shown): ")).reveal().strip()
        )
    return Secret(sys.stdin.readline(4096).strip())


async def _say(opened: Opened, bar_id: UUID, bar: str, *, as_json: bool) -> None:
    found = await venue_channels.read(opened.database, bar_id)
    if as_json:
        known = (None, None, None) if found is None else (found.channel, found.set_by, found.set_at)
        output.json_result(OwnersChannel(bar_id, *known))
    elif found is None:
        output.result(f"No channel is set for {bar}: its owner hears nothing of trouble.")
    else:
        at = output.moment(found.set_at)
        output.result(f"The owner of {bar} hears of trouble over {found.channel}, set by {found.set_by} at {at}.")
