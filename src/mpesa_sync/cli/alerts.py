"""`alerts`: what needs a person: listed, shown, acknowledged and resolved; the rest of the group stands beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import alert_channel, alert_test, output
from mpesa_sync.cli.alert_report import AlertList, line_of, lines, shown
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, DatabaseUrl, examples, group
from mpesa_sync.cli.session import bar_text, login, on_database, require_installed
from mpesa_sync.db import alerts, deliveries
from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.errors import ConfigurationError, InvalidInput
from mpesa_sync.refusals import AlertNotFound
from mpesa_sync.settings import Settings
from mpesa_sync.sync import alert_actions, spool
from mpesa_sync.sync.alert_document import detail, document
from mpesa_sync.sync.alert_reading import Which, bar_meant, fate_of

_SHORTEST_ID = 4


Id = Annotated[
    str,
    typer.Argument(metavar="ID", help="The alert's id, or as much of its beginning as is unique.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add `alerts` to the app."""
    found = group("What needs a person: alerts, who looks after them, and the channels that they are sent over.")
    found.command(
        "list",
        epilog=examples(
            ("mpesa-sync alerts list", "What is open, those seen last first."),
            ("mpesa-sync alerts list --bar mama-njeri --state all", "Every alert of one bar."),
        ),
    )(list_)
    found.command("show", epilog=examples(("mpesa-sync alerts show 6f7d8a52", "One alert, and who was told.")))(show)
    found.command(
        "ack", epilog=examples(("mpesa-sync alerts ack 6f7d8a52", "I am at it: nobody is reminded any more."))
    )(ack)
    found.command(
        "resolve",
        epilog=examples(
            ('mpesa-sync alerts resolve 6f7d8a52 --note "disk was full"', "It is over; say what it was."),
        ),
    )(resolve)
    alert_test.add_to(found)
    alert_channel.add_to(found)
    app.add_typer(found, name="alerts")


def list_(
    context: typer.Context,
    state: Annotated[Which, typer.Option("--state", help="Which alerts.")] = Which.OPEN,
    bar: Annotated[
        str | None, typer.Option("--bar", metavar="BAR", help="Only of this bar, by id or slug.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, metavar="N", help="How many at most.")] = 50,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> int:
    """List alerts, those seen last first. Changes nothing.

    Exit code 0 whatever is open. On stderr: how many more wait in files of this machine for the database.
    """

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            await require_installed(connection)
            bar_id = None if bar is None else await bar_meant(connection, bar_text(bar))
            found = await alerts.page(connection, states=state.states, bar_id=bar_id, limit=limit + 1)
        waiting = spool.waiting(opened.database)
        if as_json:
            output.json_result(AlertList([document(one) for one in found[:limit]], len(found) > limit, waiting))
        else:
            output.results(lines(found[:limit], nothing=_nothing(state)))
        if len(found) > limit:
            output.note(f"There are more: give --limit, at most 1000. These are the newest {limit}.")
        if waiting is None:
            output.note("More may wait in files of this machine: their folder cannot be read.", "red")
        if waiting:
            verb = "waits" if waiting == 1 else "wait"
            output.note(
                f"{output.count(waiting, 'more alert')} {verb} in files of this machine for the database.", "red"
            )
        return ExitCode.OK

    return on_database(context, database_url, work)


def _nothing(which: Which) -> str:
    return "Nothing is open." if which is Which.OPEN else "There is no such alert."


def show(context: typer.Context, id_: Id, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """Show one alert: what it is, what became of its change, what to do, and who was told. Changes nothing."""

    async def work(opened: Opened) -> ExitCode:
        alert = await _meant(opened, id_)
        async with opened.database.reading() as connection:
            fate, told = await fate_of(connection, alert), await deliveries.of_alert(connection, alert.id)
        if as_json:
            output.json_result(detail(alert, fate, told))
        else:
            output.results(shown(alert, fate, told, public_url=Settings.load().public_url))
        return ExitCode.OK

    return on_database(context, database_url, work)


def ack(context: typer.Context, id_: Id, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """Say that you look after an alert. It stays open; nobody is reminded of it any more."""

    async def act(opened: Opened, alert_id: UUID) -> StoredAlert:
        return await alert_actions.acknowledge(opened.database, alert_id, actor=login())

    return _act(context, id_, act, "Acknowledged", as_json, database_url)


def resolve(
    context: typer.Context,
    id_: Id,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="What was found or done, in one line.", show_default=False)
    ] = "",
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Close an alert. If the same happens again, a new one is opened."""

    async def act(opened: Opened, alert_id: UUID) -> StoredAlert:
        return await alert_actions.resolve(opened.database, alert_id, actor=login(), note=note)

    return _act(context, id_, act, "Resolved", as_json, database_url)


def _act(
    context: typer.Context,
    text: str,
    act: Callable[[Opened, UUID], Awaitable[StoredAlert]],
    word: str,
    as_json: bool,
    database_url: str | None,
) -> int:
    async def work(opened: Opened) -> ExitCode:
        alert = await act(opened, (await _meant(opened, text)).id)
        if as_json:
            output.json_result(document(alert))
        else:
            output.result(f"{word}: {line_of(alert)}", "green")
        return ExitCode.OK

    return on_database(context, database_url, work)


async def _meant(opened: Opened, text: str) -> StoredAlert:
    """Return the alert that an id, or the beginning of one, means.

    Raises:
        ConfigurationError: several alerts begin so.
        InvalidInput: it is no beginning of an id, or too short.
        AlertNotFound: none begins so.
    """
    prefix = _prefix(text)
    async with opened.database.reading() as connection:
        await require_installed(connection)
        found: list[Any] = await alerts.starting_with(connection, prefix)
    if not found:
        raise AlertNotFound(f"There is no alert whose id begins with {prefix}. 'mpesa-sync alerts list' names them.")
    if len(found) > 1:
        raise ConfigurationError([f"several alerts begin with {prefix}: give more of the id"])
    alert: StoredAlert = found[0]
    return alert


def _prefix(text: str) -> str:
    """Return the beginning of an id as the database writes it: lower case, with its dashes."""
    digits = text.strip().lower().replace("-", "")
    if not set(digits) <= set("0123456789abcdef") or not _SHORTEST_ID <= len(digits) <= 32:
        raise InvalidInput("ID", f"must be the id of an alert, or at least {_SHORTEST_ID} of its first digits")
    cuts = ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
    return "-".join(part for part in (digits[start:end] for start, end in cuts) if part)
