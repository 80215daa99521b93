"""What every command that works on a database does first and last: settings, the database, its identity on stderr."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID

import typer

from mpesa_sync import bootstrap
from mpesa_sync.bootstrap import Opened, Place
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.db import identity, migrations
from mpesa_sync.db.identity import Server
from mpesa_sync.domain.inputs import line_of_text
from mpesa_sync.errors import InvalidInput, MpesaSyncError, SchemaError
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings

Work = Callable[[Opened], Awaitable[ExitCode]]


@dataclass(slots=True)
class Invocation:
    """One run of the program. `secrets` is what must not appear in anything it prints about an error."""

    debug: bool = False
    secrets: list[Secret] = field(default_factory=list)


def on_database(
    context: typer.Context, database_url: str | None, work: Work, *, log_level: int = logging.WARNING
) -> int:
    """Open the database that is meant, say on stderr which it is, and do `work` on it.

    Arguments:
        context: of the command.
        database_url: the option of this name, None where it was not given.
        work: what the command does; it prints its own result, outside of any `reading` block.
        log_level: the lowest level that is logged where the settings name none.
    Returns:
        The exit code of `work`.
    Raises:
        ConfigurationError: nothing names a database, or settings are wrong.
        MpesaSyncError: whatever `work` raises.
    """
    settings = settings_of(context, database_url)
    bootstrap.configure_logging(settings, level=log_level)
    return asyncio.run(_run(settings, database_url, work))


def settings_of(context: typer.Context, database_url: str | None) -> Settings:
    """Return the settings, once none of their secrets can appear in anything that is printed about an error.

    Arguments:
        context: of the command.
        database_url: the option of this name, None where it was not given.
    Raises:
        ConfigurationError: settings are wrong.
    """
    invocation: Invocation = context.obj
    if database_url:
        invocation.secrets.append(Secret(database_url))
    settings = Settings.load()
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Secret):
                invocation.secrets.append(part)
    return settings


async def _run(settings: Settings, database_url: str | None, work: Work) -> ExitCode:
    async with bootstrap.opened(settings, database_url=database_url) as opened:
        await announce(opened)
        return await work(opened)


async def announce(opened: Opened) -> None:
    """Print which database this is, before anything is said about it (spec 6)."""
    try:
        async with opened.database.reading() as connection:
            server = await identity.server(connection)
    except MpesaSyncError:
        place = opened.place
        output.note(f"Database: {place.database or '?'} on {place.host or '?'} (from {place.source})")
        raise
    known = (
        "" if server.is_supported else f" (not supported: {identity.SUPPORTED.start} to {identity.SUPPORTED[-1]} are)"
    )
    output.note(
        f"Database: {server.database} on {host_of(opened.place, server)}, PostgreSQL {server.version}{known}, "
        f"as {server.role} (from {opened.place.source})"
    )


def host_of(place: Place, server: Server) -> str:
    """Return the host and port as the URL names them; where it does not, as the server does."""
    if place.host:
        return place.host
    return f"{server.address}:{server.port}" if server.address else "a local socket"


async def bar_of(connection: Any, text: str) -> UUID:
    """Return the id of the bar that BAR on the command line means.

    Raises:
        InvalidInput: the text cannot be an id or a slug.
        BarNotFound: there is no such bar here.
    """
    return await identity.bar_named(connection, bar_text(text))


def bar_text(text: str) -> str:
    """Return BAR of the command line without the white space around it.

    Raises:
        InvalidInput: it cannot be an id or a slug.
    """
    try:
        return line_of_text("BAR", text, longest=500)
    except InvalidInput:
        raise InvalidInput("BAR", "must be the id or the slug of a bar") from None


async def require_installed(connection: Any) -> None:
    """Refuse to go on where the schema `mpesa_sync` is absent or of another version.

    Raises:
        SchemaError: says what to do.
    """
    state = await migrations.state(connection)
    if state.applied is None:
        raise SchemaError("mpesa-sync is not installed in this database. Run 'mpesa-sync db init' first.")
    if not state.is_current:
        raise SchemaError(
            f"The schema mpesa_sync is at version {state.applied}, this program needs {state.newest}. "
            "Run 'mpesa-sync db init', or use the program that belongs to it."
        )


def login() -> str:
    """Return the operating system's name for who runs this, which no variable can change."""
    try:
        return f"cli:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli:uid {os.getuid()}"
