"""Real databases for tests: one embedded server a run, a template with our schema, a clone of it for every test."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg

from mpesa_sync.db import migrations
from mpesa_sync.db import notices as notice_triggers
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.sync import guards

_CREATE: Final = "create database {} template {} encoding 'UTF8' strategy file_copy"
_DROP: Final = "drop database if exists {} with (force)"


def url_of(server_url: str, database: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


async def make_database(server_url: str, *, template: str = "template0") -> str:
    """Create a database with a name of its own and return its URL."""
    name = f"t_{uuid4().hex}"
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(_CREATE.format(name, template))
    finally:
        await connection.close()
    return url_of(server_url, name)


async def drop_database(server_url: str, url: str) -> None:
    """Drop a database made here, whoever is connected to it."""
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(_DROP.format(urlsplit(url).path.lstrip("/")))
    finally:
        await connection.close()


class Clerk:
    """Makes and drops databases over one connection that is kept, for fixtures that run outside of any event loop."""

    def __init__(self, server_url: str) -> None:
        self._url = server_url
        self._loop = asyncio.new_event_loop()
        self._connection: Any = None

    def make(self, template: str) -> str:
        """Create a database from a template and return its URL."""
        name = f"t_{uuid4().hex}"
        self._execute(_CREATE.format(name, template))
        return url_of(self._url, name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._execute(_DROP.format(urlsplit(url).path.lstrip("/")))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    def _execute(self, statement: str) -> None:
        async def run() -> None:
            if self._connection is None or self._connection.is_closed():
                self._connection = await asyncpg.connect(self._url)
            await self._connection.execute(statement)

        self._loop.run_until_complete(run())


async def quick_sign_in(server_url: str) -> None:
    """Store the server's password again, under one round of hashing in the place of 4,096: a test connects often.

    Every worker process of a run does this as it starts, and PostgreSQL refuses two that alter a role at once
    ("tuple concurrently updated"): they wait for each other.
    """
    parts = urlsplit(server_url)
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", str(parts.password).encode(), salt, 1)
    client = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    keys = [base64.b64encode(part).decode() for part in (salt, client, hmac.digest(salted, b"Server Key", "sha256"))]
    async with plain(server_url) as connection, connection.transaction():
        await connection.execute("select pg_advisory_xact_lock(hashtext('tests: quick sign-in'))")
        await connection.execute(
            f"alter role {parts.username} password 'SCRAM-SHA-256$1:{keys[0]}${keys[1]}:{keys[2]}'"
        )


async def make_template(
    server_url: str, *, platform_only: bool = False, notices: bool = True, guarded: bool = False
) -> str:
    """Create a database with the platform's tables (and, unless told otherwise, our schema); return its name.

    `guarded`: with guards, as `db init` leaves it; most tests make drift, and must be able to.
    `notices`: False takes the notice triggers away again, as in a database that mpesa-sync is attached to.
    """
    url = await make_database(server_url)
    if platform_only:
        connection = await asyncpg.connect(url)
        await connection.execute(migrations.platform_tables())
        await connection.close()
    else:
        async with connect(url) as database:
            await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)
            if guarded:
                await guards.install(database)
        if not notices:
            async with plain(url) as connection:
                await notice_triggers.remove(connection)
    return urlsplit(url).path.lstrip("/")


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Any]:
    """A plain connection, as any other program has it."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()
