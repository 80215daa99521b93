"""Where the benchmarks run: an embedded server of their own with `fsync` on, and fleets of any size."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.db import embedded, migrations, notices
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.secret import Secret

KEY: Final = generate_key()

_BARS: Final = """
insert into public.bars (id, name, slug, mpesa_enabled)
select ('00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, 'Bar ' || i, 'bar-' || i,
       i % 2 = 0 and abs(hashtext('bar-' || i)) % 10 < $2::int
  from generate_series(1, $1::bigint) i
"""
_CREDENTIALS: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
select b.id, 'production', '600123', $1, $2, $3,
       case when abs(hashtext(b.id::text)) % 100 < 30 then not b.mpesa_enabled else b.mpesa_enabled end
  from public.bars b
 where abs(hashtext(b.slug)) % 10 < $4::int
"""


@dataclass(frozen=True)
class Row:
    """One line of the table: what was measured, its limit, and their ratio."""

    what: str
    ours: str
    limit: str
    ratio: float
    goal: str


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Any]:
    """A bare driver connection."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


def url_of(server: embedded.Server, database: str) -> str:
    """Return the URL of a database on the server."""
    return urlunsplit(urlsplit(server.url)._replace(path=f"/{database}"))


async def make_fleet(
    server: embedded.Server, name: str, bars: int, *, share: int = 6, with_notices: bool = True
) -> str:
    """Make a database of `bars` bars; return its URL.

    `with_notices`: with the notice triggers of a database of our own; False for one like a platform's, which a
    migration attaches to.

    `share` tenths of them have credentials, and 30 % of those have drifted, half in each direction: with the
    default share 18 % of all bars (spec section 8). A bar without credentials does not show M-Pesa.
    """
    async with plain(server.url) as admin:
        await admin.execute(f'drop database if exists "{name}" with (force)')
        await admin.execute(f'create database "{name}"')
    url = url_of(server, name)
    async with connect(url) as database:
        await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)
    ring = KeyRing.from_texts([KEY])
    sealed = [seal(ring, Secret(f"benchmark-{number}-secret")) for number in range(3)]
    async with plain(url) as connection:
        await notices.remove(connection)  # put back below: the fleet itself need not be announced
        await connection.execute(_BARS, bars, share, timeout=600)
        await connection.execute(_CREDENTIALS, *sealed, share, timeout=600)
        if with_notices:
            await notices.install(connection)
        await connection.execute("vacuum analyze", timeout=600)
        await connection.execute("checkpoint", timeout=600)
    return url


async def clone(server: embedded.Server, source: str, name: str) -> str:
    """Copy a database, so that every measurement starts from the same pages; return its URL."""
    async with plain(server.url) as admin:
        await admin.execute(f'drop database if exists "{name}" with (force)')
        await admin.execute(f'create database "{name}" template "{source}" strategy file_copy', timeout=600)
        await admin.execute("checkpoint", timeout=600)
    return url_of(server, name)


async def drop(server: embedded.Server, name: str) -> None:
    """Drop a database made here."""
    async with plain(server.url) as admin:
        await admin.execute(f'drop database if exists "{name}" with (force)')


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def machine(server: embedded.Server) -> str:
    """Return what this was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}, "
        f"PostgreSQL {server.version}"
    )
