"""`guard`: triggers on the platform's tables that keep the two fields alike whoever writes them (G1–G5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import AsJson, DatabaseUrl, examples, group
from mpesa_sync.cli.output import labelled
from mpesa_sync.cli.prompt import YES, agreed
from mpesa_sync.cli.session import on_database
from mpesa_sync.cli.status import guard_words
from mpesa_sync.db import guards as stored
from mpesa_sync.db import identity
from mpesa_sync.db.guards import GuardMode, GuardState, GuardStatus
from mpesa_sync.migration import fleet
from mpesa_sync.sync import guards
from mpesa_sync.sync.guards import Installed

_ALL: Final = (
    "This puts triggers on public.bars and public.mpesa_credentials, which act on every program that writes them. "
    "'mpesa-sync guard remove' takes them away again."
)
_NOTICES: Final = (
    "This puts triggers on public.bars and public.mpesa_credentials that announce every change and alter none. "
    "'mpesa-sync guard remove' takes them away again."
)
_REMOVES: Final = (
    "This removes the triggers from public.bars and public.mpesa_credentials, and the record of what they met."
)
_HOLDS: Final = "no committed state is drifted from now on."
_LAST: Final = 5
_INDENT: Final = 11

Yes = Annotated[bool, typer.Option(YES, help="Do not ask.", show_default=False)]


class Trigger(msgspec.Struct, frozen=True):
    """One trigger of the guards."""

    table: str
    name: str
    state: str


class Hit(msgspec.Struct, frozen=True):
    """What a guard met. `previous` and `current`: bars.mpesa_enabled before and after it."""

    at: datetime
    kind: str
    bar_id: UUID
    table_name: str
    operation: str
    previous: bool | None
    current: bool | None
    session_user: str
    application_name: str


class Status(msgspec.Struct, frozen=True):
    """The object of `guard status --json`. `hits` is None where this role may not read them."""

    state: str
    mode: str | None
    triggers: list[Trigger]
    notices: bool
    hits: Mapping[str, int] | None
    last_hits: list[Hit]


def register(app: typer.Typer) -> None:
    """Add `guard` to the app."""
    guard = group("Triggers that keep both fields alike, whoever writes them.")
    guard.command(
        "install",
        epilog=examples(
            ("mpesa-sync guard install", "Ask, then install: what disagrees is healed in its own transaction."),
            ("mpesa-sync guard install --mode log --yes", "Only write down who writes bars.mpesa_enabled wrongly."),
            ("mpesa-sync guard install --notices-only", "Announce every change, alter none."),
        ),
    )(install)
    guard.command(
        "status",
        epilog=examples(
            ("mpesa-sync guard status", "Do they stand, and whom did they meet?"),
            ("mpesa-sync guard status --json", "The same for a program."),
        ),
    )(status)
    guard.command(
        "remove",
        epilog=examples(
            ("mpesa-sync guard remove", "Ask, then take the triggers away."),
            ("mpesa-sync guard remove --yes", "The same without asking, for scripts."),
        ),
    )(remove)
    app.add_typer(guard, name="guard")


def install(
    context: typer.Context,
    mode: Annotated[
        GuardMode,
        typer.Option(
            "--mode", help="What becomes of a direct write to bars.mpesa_enabled that disagrees with the credentials."
        ),
    ] = GuardMode.HEAL,
    notices_only: Annotated[
        bool, typer.Option("--notices-only", help="Announce every change, and guard nothing.", show_default=False)
    ] = False,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Install guards on bars and mpesa_credentials, or mend those that are there; then look at all bars once.

    A change of credentials by any program is carried to bars.mpesa_enabled in its own transaction, whatever the mode.
    It never makes the platform wait for more than a moment, and gives up after 30 s of trying. Needs the owner of the
    tables. Exit code 2 where bars have drifted before: run 'mpesa-sync migrate' then.
    """

    async def work(opened: Opened) -> ExitCode:
        if not yes and not await agreed(_NOTICES if notices_only else _ALL, "Go on?"):
            output.note("Nothing was changed.")
            return ExitCode.ERROR
        if await fleet.prepare(opened.database):
            output.note("The schema mpesa_sync was absent and has been made; 'mpesa-sync db uninstall' removes it.")
        installed = await guards.install(opened.database, mode=mode, notices_only=notices_only)
        if notices_only:
            output.result("Every change of bars and mpesa_credentials is announced.", "green")
            return ExitCode.OK
        return report_installed(installed)

    return on_database(context, database_url, work)


def report_installed(installed: Installed) -> ExitCode:
    """Print how the guards stand after their installation and its first check; return the exit code."""
    mode = installed.status.mode
    output.result(f"Guards are on, mode {mode}{'' if installed.changed else ', as before'}.", "green")
    lets_be = mode is GuardMode.LOG
    if not installed.drifted:
        since = "a direct write that disagrees is written down, and left." if lets_be else _HOLDS
        output.result(f"All bars are in sync, and {since}", "green")
        return ExitCode.OK
    output.result(f"{output.count(len(installed.drifted), 'bar')} had drifted before, and still are.", "yellow")
    output.results(f"  {bar_id}" for bar_id in installed.drifted[:_LAST])
    rest = "direct writes that disagree are written down, and left." if lets_be else "guards keep the rest."
    output.result(f"Run 'mpesa-sync migrate' to correct them; {rest}")
    return ExitCode.DRIFT


def status(context: typer.Context, as_json: AsJson = False, database_url: DatabaseUrl = None) -> int:
    """Show how the guards stand, and whom they have met. Changes nothing.

    Exit code 0 where all of them are installed and as they must be, 2 otherwise.
    """

    async def work(opened: Opened) -> ExitCode:
        async with opened.database.reading() as connection:
            guarded = await stored.status(connection)
            found = await _status(connection, guarded)
        if as_json:
            output.json_result(found)
        else:
            output.results(_lines(found))
        return ExitCode.OK if guarded.state is GuardState.INSTALLED else ExitCode.DRIFT

    return on_database(context, database_url, work)


async def _status(connection: Any, guarded: GuardStatus) -> Status:
    readable = await stored.readable(connection)
    last = await stored.hits(connection, _LAST) if readable else []
    return Status(
        state=guarded.state,
        mode=guarded.mode,
        triggers=[Trigger(one.table, one.name, one.state) for one in guarded.triggers],
        notices=guarded.notices,
        hits=dict.fromkeys(stored.HIT_KINDS, 0) | await stored.counts(connection) if readable else None,
        last_hits=[msgspec.convert(hit, Hit, from_attributes=True) for hit in last],
    )


def _lines(found: Status) -> Iterator[str]:
    yield from labelled("Guards", guard_words(found.state, found.mode, more=""))
    if found.mode is not None or found.state != GuardState.MISSING:
        for trigger in found.triggers:
            if trigger.state != GuardState.INSTALLED:
                yield from labelled("", f"{trigger.name} on {trigger.table}: {trigger.state}")
    if found.mode is not None and found.state != GuardState.INSTALLED:
        mends = "says which rights are missing" if found.state == GuardState.POWERLESS else "puts them right"
        yield from labelled("", f"'mpesa-sync guard install' {mends}")
    yield from labelled("Notices", "every change is announced" if found.notices else "off")
    if found.hits is None:
        return
    counted = [f"{number:,} {kind}" for kind, number in sorted(found.hits.items()) if number]
    yield from labelled("Hits", ", ".join(counted) or "none")
    for hit in found.last_hits:
        yield " " * _INDENT + _hit_words(hit)


def _hit_words(hit: Hit) -> str:
    program = hit.application_name or "a program without a name"
    return (
        f"{output.moment(hit.at)}  {hit.kind}  {hit.bar_id}  {output.flag(hit.previous)} → "
        f"{output.flag(hit.current)}  {hit.operation} of {hit.table_name} by {hit.session_user}, {program}"
    )


def remove(context: typer.Context, yes: Yes = False, database_url: DatabaseUrl = None) -> int:
    """Take the guards away, with what they have written down. Where we are attached, the notices go, too."""

    async def work(opened: Opened) -> ExitCode:
        if not yes and not await agreed(_REMOVES, "Remove them from this database?"):
            output.note("Nothing was removed.")
            return ExitCode.ERROR
        hits = await guards.remove(opened.database)
        async with opened.database.reading() as connection:
            server = await identity.server(connection)
        output.result(f"No guard stands on {server.database} any more.", "green")
        if hits:
            output.note(f"The record of {output.count(hits, 'hit')} went with them.")
        return ExitCode.OK

    return on_database(context, database_url, work)
