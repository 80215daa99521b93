"""The composition root: from settings to an open database, and where log events go. Decides nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from mpesa_sync.crypto import keyfile
from mpesa_sync.db import embedded, migrations, shape
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import ConfigurationError, SchemaError
from mpesa_sync.identity import token_key
from mpesa_sync.monitoring import logs
from mpesa_sync.secret import Secret
from mpesa_sync.settings import DATABASE_URL, KMS_KEY, Settings
from mpesa_sync.settings_reader import database_url_fault
from mpesa_sync.sync import guards

HOME: Final = Path(".mpesa-sync")
"""Where the embedded server of a folder lives."""
KEY_FILE: Final = "kms.key"
"""In `HOME`: the key of the embedded server's secrets, 0600."""
OPTION: Final = "--database-url"


@dataclass(frozen=True, slots=True)
class Place:
    """Which database is meant, and who says so.

    `url` with its password, `source` in words for people, `kms_keys` the keys that belong to it.
    """

    url: Secret
    source: str
    kms_keys: tuple[Secret, ...]
    is_embedded: bool = False

    @property
    def host(self) -> str | None:
        """Return the host (with its port) as the URL names it, None where it leaves that to the driver."""
        parts = urlsplit(self.url.reveal())
        named = parts.netloc.rpartition("@")[2] or _query(parts.query, "host")
        return unquote(named) if named else None

    @property
    def database(self) -> str | None:
        """Return the database as the URL names it, None where it leaves that to the driver."""
        parts = urlsplit(self.url.reveal())
        named = parts.path.removeprefix("/") or _query(parts.query, "database") or _query(parts.query, "dbname")
        return unquote(named) if named else None


@dataclass(frozen=True, slots=True)
class Opened:
    """An open database, and the place it was found at."""

    database: Database
    place: Place


@dataclass(frozen=True, slots=True)
class Serving:
    """What a serving process works on. `jwt_secret` None: bearer tokens are not accepted."""

    opened: Opened
    jwt_secret: Secret | None

    @property
    def database(self) -> Database:
        """Return the open database."""
        return self.opened.database


@asynccontextmanager
async def opened(settings: Settings, *, database_url: str | None = None, home: Path = HOME) -> AsyncIterator[Opened]:
    """Open the database that is meant: the one given, else the one of the settings, else the embedded one.

    Nothing is sent to a served database before the first use; an embedded server is started.

    Arguments:
        settings: what the environment says.
        database_url: outranks the settings; None where nothing was given.
        home: the folder of the embedded server.
    Raises:
        ConfigurationError: nothing names a database, or the URL or the key file is not fit for use (spec 6).
        EmbeddedServerError: there is an embedded server here, and it does not start.
    """
    place = _named(settings, database_url)
    if place is not None:
        async with _connected(place, settings) as found:
            yield found
    elif embedded.exists(home):
        keys = settings.kms_keys or _key_of(home)
        async with embedded.running(home) as server:
            place = Place(Secret(server.url), f"the embedded server in ./{home}", keys, is_embedded=True)
            async with _connected(place, settings) as found:
                yield found
    else:
        raise ConfigurationError(
            [
                f"no database is named: set {DATABASE_URL} to postgresql://user:password@host:port/database, or give "
                f"{OPTION}; and there is no embedded server in ./{home}"
            ]
        )


@asynccontextmanager
async def served(settings: Settings, *, database_url: str | None = None, home: Path = HOME) -> AsyncIterator[Serving]:
    """Open the database that a serving process works on, ready for it.

    Where nothing names one, the embedded server of `home` is started, made from nothing where there is none, with a
    key of its own (0600); a database that is named must have been prepared by `db init`.

    Arguments:
        settings: what the environment says.
        database_url: outranks the settings; None where nothing was given.
        home: the folder of the embedded server.
    Raises:
        ConfigurationError: a URL or a key file is not fit for use.
        EmbeddedServerError: the embedded server does not start.
        SchemaError: the database named lacks what is ours, or has it in another version.
    """
    place = _named(settings, database_url)
    if place is not None:
        if not place.kms_keys:
            raise ConfigurationError(
                [f"{KMS_KEY} is not set: without the key of the stored secrets no venue could offer M-Pesa"]
            )
        async with _connected(place, settings) as found:
            async with found.database.reading() as connection:
                await _require_current(connection)
            yield Serving(found, settings.jwt_secret)
        return
    async with embedded.running(home) as server:
        place = Place(Secret(server.url), f"the embedded server in ./{home}", (), is_embedded=True)
        async with _connected(place, settings) as looking, looking.database.reading() as connection:
            empty = not (await shape.inspect(connection)).tables
        place = replace(place, kms_keys=settings.kms_keys or _key_of(home) or _first_key(home, empty=empty))
        async with _connected(place, settings) as found:
            applied = await migrations.migrate(found.database, mode=Mode.GREENFIELD, create_platform_tables=empty)
            await guards.install_with(found.database, applied)
            yield Serving(found, settings.jwt_secret or token_key.read(home) or token_key.create(home))


async def _require_current(connection: Any) -> None:
    state = await migrations.state(connection)
    if not state.is_current:
        found = "is not installed" if state.applied is None else f"is at version {state.applied}, not {state.newest}"
        raise SchemaError(f"The schema mpesa_sync {found} in this database. Run 'mpesa-sync db init' first.")
    await shape.require(connection)


def configure_logging(settings: Settings, *, level: int = logging.INFO) -> None:
    """Send log events to stderr.

    Arguments:
        level: the lowest level of `logging` that is written where the settings name none.
    """
    logs.configure(
        form=settings.log_format,
        level=level if settings.log_level is None else settings.log_level,
    )


@asynccontextmanager
async def _connected(place: Place, settings: Settings) -> AsyncIterator[Opened]:
    async with connect(
        place.url,
        kms_keys=place.kms_keys,
        allow_sandbox=settings.allow_sandbox,
        reconcile=settings.reconcile,
        pool_size=settings.pool_size,
        alert_spool=settings.alert_spool,
    ) as database:
        if place.is_embedded:  # whose port is another one after each start
            database.alert_spool = settings.alert_spool / "embedded"
        yield Opened(database, place)


def _named(settings: Settings, database_url: str | None) -> Place | None:
    if database_url is not None:
        # An option that is there and empty is a variable of the caller's that was not set: never fall back.
        if fault := database_url_fault(database_url):
            raise ConfigurationError([f"{OPTION} {fault}"])
        return Place(Secret(database_url), OPTION, settings.kms_keys)
    if settings.database_url is not None:
        return Place(settings.database_url, DATABASE_URL, settings.kms_keys)
    return None


def _key_of(home: Path) -> tuple[Secret, ...]:
    """Return the key of the embedded server, none where it has no key file yet."""
    try:
        return (keyfile.read(home / KEY_FILE),)
    except FileNotFoundError:
        return ()


def _first_key(home: Path, *, empty: bool) -> tuple[Secret, ...]:
    """Make the key of a new database's secrets, and keep it; two programs at once get the same.

    Raises:
        ConfigurationError: the database holds something already, which another key may have sealed.
    """
    if not empty:
        raise ConfigurationError(
            [
                f"the database in ./{home} holds data, and its key file {KEY_FILE} is not there: set {KMS_KEY} to the "
                "key that its secrets were sealed with, or put the file back"
            ]
        )
    return (keyfile.read_or_create(home / KEY_FILE),)


def _query(query: str, name: str) -> str | None:
    return next(iter(parse_qs(query).get(name, ())), None)
