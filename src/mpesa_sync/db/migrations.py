"""Numbered SQL migrations of the schema `mpesa_sync`, and the platform's tables where we make the database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from mpesa_sync.db import guard_triggers, installation, notices, session, transaction
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.patience import between_writers
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
_ANEW: Final = "'mpesa-sync db uninstall', then 'mpesa-sync db init' make it anew; its history is lost then."
_INSTALL: Final = "insert into mpesa_sync.installation (mode) values ($1) on conflict do nothing"
_OURS: Final = """
select wanted.name
  from unnest($1::text[]) as wanted (name)
 where not exists (
   select 1 from pg_catalog.pg_namespace n
     left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
     left join pg_catalog.pg_proc p on p.pronamespace = n.oid and p.proname = wanted.name
    where n.nspname = 'mpesa_sync' and (c.oid is not null or p.oid is not null))
 order by 1
"""
_PARTS: Final = re.compile(r"^create (?:table|function) mpesa_sync\.(\w+)", re.MULTILINE | re.IGNORECASE)
_DEPENDENTS: Final = """
with ours as (
  select 'pg_class'::regclass as class, c.oid from pg_class c where c.relnamespace = 'mpesa_sync'::regnamespace
  union all
  select 'pg_type'::regclass, t.oid from pg_type t where t.typnamespace = 'mpesa_sync'::regnamespace
  union all
  select 'pg_proc'::regclass, p.oid from pg_proc p where p.pronamespace = 'mpesa_sync'::regnamespace
)
select distinct pg_describe_object(d.classid, d.objid, 0) as dependent
  from pg_depend d
  join ours o on o.class = d.refclassid and o.oid = d.refobjid
 cross join lateral pg_identify_object(d.classid, d.objid, 0) i
 where d.deptype in ('n', 'a')
   and case when i.schema is null then i.identity like '% on %' and i.identity not like '% on mpesa_sync.%'
            else i.schema not in ('mpesa_sync', 'pg_toast') end
 order by 1
"""
_FOREIGN: Final = """
select exists (select 1 from pg_catalog.pg_namespace where nspname = 'mpesa_sync') and not exists (
  select 1 from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where n.nspname = 'mpesa_sync' and c.relname = 'schema_migrations')
"""
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
    """How the schema `mpesa_sync` stands against this program. `applied` is None where it is absent.

    `missing` names tables and functions that the applied migrations made and that are gone, and migrations that
    were applied with another text.
    """

    applied: int | None
    newest: int
    missing: tuple[str, ...] = ()

    @property
    def is_current(self) -> bool:
        """Return whether nothing has to be done."""
        return self.applied == self.newest and not self.missing


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


async def lock(connection: Any) -> None:
    """Wait for every other program that migrates, installs or removes, until this transaction ends."""
    await connection.execute(_LOCK_STATEMENT, _LOCK)


async def state(connection: Any) -> SchemaState:
    """Return how far the schema is; reads only."""
    newest = available()[-1].version
    if not await connection.fetchval(_EXISTS):
        return SchemaState(None, newest)
    applied = {row["version"]: row["digest"] for row in await connection.fetch(_APPLIED)}
    known = [migration for migration in available() if migration.version in applied]
    parts = [name for migration in known for name in _PARTS.findall(migration.sql)]
    gone = [f"mpesa_sync.{row['name']}" for row in await connection.fetch(_OURS, parts)]
    odd = [f"migration {m.version} as this program has it" for m in known if m.digest != applied[m.version]]
    return SchemaState(max(applied, default=0), newest, (*gone, *odd))


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
        await lock(connection)
        if await connection.fetchval(_FOREIGN):
            raise SchemaError("This database has a schema mpesa_sync that mpesa-sync did not make. It is left alone.")
        if create_platform_tables:
            await connection.execute(platform_tables())
        await connection.execute(_HOME)
        pending = _pending(await connection.fetch(_APPLIED))
        for migration in pending:
            await connection.execute(migration.sql)
            await connection.execute(_RECORD, migration.version, migration.name, migration.digest)
        await connection.execute(_INSTALL, mode)
        if await installation.mode(connection) is Mode.GREENFIELD and not await notices.installed(connection):
            await notices.install(connection)
        if missing := (await state(connection)).missing:
            raise SchemaError(f"The schema mpesa_sync is damaged: {', '.join(missing)} is missing. {_ANEW}")
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
    """Remove everything that is ours: the schema `mpesa_sync` with all it holds. `public` stays as it is.

    Raises:
        SchemaError: something outside of it depends on it, or it is not ours. Named; nothing is removed.
    """

    async def work(connection: Any) -> None:
        await lock(connection)
        if await connection.fetchval(_FOREIGN):
            raise SchemaError("The schema mpesa_sync of this database was not made by mpesa-sync. It is left alone.")
        await guard_triggers.remove(connection)
        await notices.remove(connection)
        if await connection.fetchval(_EXISTS):
            dependents = [row["dependent"] for row in await connection.fetch(_DEPENDENTS)]
            if dependents:
                raise SchemaError(
                    f"Other objects depend on the schema mpesa_sync: {'; '.join(dependents)}. Nothing was removed. "
                    "Drop or change them first."
                )
        await connection.execute(_UNINSTALL)

    await between_writers(database, work)
