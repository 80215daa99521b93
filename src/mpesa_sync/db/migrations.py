"""Numbered SQL migrations of the schema `mpesa_sync`, and the platform's tables where we make the database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from mpesa_sync.db import session, transaction
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import SchemaError
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("schema")
_FILE: Final = re.compile(r"(\d{4})_(\w+)\.sql")
_LOCK: Final = 7_262_617_001
"""Key of the advisory lock under which only one program migrates; any constant would do."""

_HOME: Final = """
create schema if not exists mpesa_sync;
comment on schema mpesa_sync is 'mpesa-sync: alerts, journal, operations. Removed by mpesa-sync db uninstall.';
create table if not exists mpesa_sync.schema_migrations (
  version integer primary key,
  name text not null,
  digest text not null,
  applied_at timestamptz not null default now()
);
"""
_APPLIED: Final = "select version, digest from mpesa_sync.schema_migrations order by version"
_RECORD: Final = "insert into mpesa_sync.schema_migrations (version, name, digest) values ($1, $2, $3)"
_EXISTS: Final = """
select exists (
  select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where n.nspname = 'mpesa_sync' and c.relname = 'schema_migrations')
"""
_INSTALL: Final = "insert into mpesa_sync.installation (mode) values ($1) on conflict do nothing"
_LOCK_STATEMENT: Final = "select pg_advisory_xact_lock($1)"
_UNINSTALL: Final = "drop schema if exists mpesa_sync cascade"


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """Return the SHA-256 of its text, so that an edited migration is noticed."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """How the schema `mpesa_sync` stands against this program. `applied` is None where it is absent."""

    applied: int | None
    newest: int

    @property
    def is_current(self) -> bool:
        """Return whether nothing has to be done."""
        return self.applied == self.newest


def available() -> Sequence[Migration]:
    """Return the migrations that this program knows, in order."""
    folder = resources.files("mpesa_sync.db") / "schema" / "migrations"
    found = []
    for file in folder.iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            found.append(Migration(int(match[1]), match[2], file.read_text("utf-8")))
    return sorted(found, key=lambda migration: migration.version)


def platform_tables() -> str:
    """Return the SQL that makes the platform's tables in a database of our own."""
    return (resources.files("mpesa_sync.db") / "schema" / "platform.sql").read_text("utf-8")


async def state(connection: Any) -> SchemaState:
    """Return how far the schema is; reads only."""
    newest = available()[-1].version
    if not await connection.fetchval(_EXISTS):
        return SchemaState(None, newest)
    applied = await connection.fetch(_APPLIED)
    return SchemaState(applied[-1]["version"] if applied else 0, newest)


async def migrate(database: Database, *, mode: Mode, create_platform_tables: bool = False) -> list[Migration]:
    """Bring the schema `mpesa_sync` up to date, in one transaction under an advisory lock.

    Arguments:
        mode: recorded at the first installation; a later call does not change it.
        create_platform_tables: make `bars`, `mpesa_credentials` and the rest first (greenfield).
    Returns:
        The migrations that were applied, none where it was up to date.
    Raises:
        SchemaError: a migration was edited after it was applied, or the database is newer than this program.
        DatabaseFault: no rights, or another program held the lock for longer than 1.5 s.
    """

    async def work(connection: Any) -> list[Migration]:
        await connection.execute(_LOCK_STATEMENT, _LOCK)
        if create_platform_tables:
            await connection.execute(platform_tables())
        await connection.execute(_HOME)
        pending = _pending(await connection.fetch(_APPLIED))
        for migration in pending:
            await connection.execute(migration.sql)
            await connection.execute(_RECORD, migration.version, migration.name, migration.digest)
        await connection.execute(_INSTALL, mode)
        return pending

    applied = await transaction.once(database, session.SCHEMA, work)
    for migration in applied:
        _log.info(Event.SCHEMA_MIGRATED, version=migration.version, name=migration.name)
    return applied


def _pending(applied: Sequence[Any]) -> list[Migration]:
    known = {migration.version: migration for migration in available()}
    for row in applied:
        migration = known.pop(row["version"], None)
        if migration is None:
            raise SchemaError(
                f"The schema mpesa_sync is at version {row['version']}, newer than this program. "
                "Install a newer mpesa-sync."
            )
        if migration.digest != row["digest"]:
            raise SchemaError(
                f"Migration {migration.version} ({migration.name}) was applied with another text than "
                "this program has. Install the mpesa-sync that made this database."
            )
    return sorted(known.values(), key=lambda migration: migration.version)


async def uninstall(database: Database) -> None:
    """Remove everything that is ours: the schema `mpesa_sync` with all it holds. `public` stays as it is."""

    async def work(connection: Any) -> None:
        await connection.execute(_LOCK_STATEMENT, _LOCK)
        await connection.execute(_UNINSTALL)

    await transaction.once(database, session.SCHEMA, work)
