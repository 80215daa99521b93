"""Real databases for tests: one embedded server a run, a template with our schema, a clone of it for every test."""

from __future__ import annotations

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

_DROP: Final = "drop database if exists {} with (force)"


def url_of(server_url: str, database: str) -> str:
    """Return the URL of another database on the same server."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


async def make_database(server_url: str, *, template: str = "template0") -> str:
    """Create a database with a name of its own and return its URL."""
    name = f"t_{uuid4().hex}"
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f"create database {name} template {template} encoding 'UTF8'")
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


async def make_template(server_url: str, *, platform_only: bool = False, notices: bool = True) -> str:
    """Create a database with the platform's tables (and, unless told otherwise, our schema); return its name.

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
