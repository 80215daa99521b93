"""SQL of who is who: which database this is, what our role may do in it, and which bar a person means. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mpesa_sync.errors import BarNotFound

SUPPORTED: Final = range(15, 19)
"""Major versions of PostgreSQL that are supported (spec 7)."""

_SERVER: Final = """
select current_database()::text as database, current_user::text as role,
       current_setting('server_version') as version, current_setting('server_version_num')::int as version_number,
       host(inet_server_addr()) as address, inet_server_port() as port
"""
_ROLE: Final = """
select r.rolname::text as name, r.rolsuper as is_superuser, r.rolbypassrls as bypasses_rls,
       has_database_privilege(current_database(), 'create') as may_create_schema
  from pg_catalog.pg_roles r where r.rolname = current_user
"""
_TABLES: Final = """
select c.relname::text as name, c.relrowsecurity as has_rls, row_security_active(c.oid) as hides_rows
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
 where c.relkind in ('r', 'p') and c.relname = any($1::text[])
 order by c.relname
"""
_MISSING_RIGHTS: Final = """
with to_write (schema_name, table_name, column_name, privilege) as (values
  ('public', 'bars', null, 'SELECT'), ('public', 'bars', 'mpesa_enabled', 'UPDATE'),
  ('public', 'mpesa_credentials', null, 'SELECT'), ('public', 'mpesa_credentials', 'is_active', 'UPDATE'),
  ('mpesa_sync', 'installation', null, 'SELECT'), ('mpesa_sync', 'schema_migrations', null, 'SELECT'),
  ('mpesa_sync', 'operations', null, 'SELECT'), ('mpesa_sync', 'operations', null, 'INSERT'),
  ('mpesa_sync', 'operations', null, 'UPDATE'), ('mpesa_sync', 'bar_state', null, 'SELECT'),
  ('mpesa_sync', 'bar_state', null, 'INSERT'), ('mpesa_sync', 'bar_state', null, 'UPDATE'),
  ('mpesa_sync', 'alerts', null, 'SELECT'), ('mpesa_sync', 'alerts', null, 'INSERT'),
  ('mpesa_sync', 'alerts', null, 'UPDATE'), ('mpesa_sync', 'migration_runs', null, 'SELECT'),
  ('mpesa_sync', 'migration_runs', null, 'INSERT'), ('mpesa_sync', 'migration_journal', null, 'SELECT'),
  ('mpesa_sync', 'migration_journal', null, 'INSERT'), ('mpesa_sync', 'migration_runs', null, 'UPDATE'),
  ('mpesa_sync', 'migration_candidates', null, 'SELECT'), ('mpesa_sync', 'migration_candidates', null, 'INSERT'),
  ('mpesa_sync', 'migration_candidates', null, 'DELETE'), ('mpesa_sync', 'migration_quarantine', null, 'SELECT'),
  ('mpesa_sync', 'migration_quarantine', null, 'INSERT'), ('mpesa_sync', 'migration_quarantine', null, 'UPDATE')
), ours (table_name, privileges) as (values
  ('alert_occurrences', '{SELECT,INSERT,DELETE}'), ('alert_deliveries', '{SELECT,INSERT,UPDATE,DELETE}'),
  ('alert_channels', '{SELECT,INSERT,UPDATE,DELETE}'), ('venue_channels', '{SELECT,INSERT,UPDATE,DELETE}'),
  ('queue', '{SELECT,INSERT,UPDATE,DELETE}'), ('queue_id_seq', '{USAGE}'),
  ('queue_log', '{SELECT,INSERT,UPDATE,DELETE}'), ('queue_statistics', '{SELECT,INSERT,UPDATE,DELETE}'),
  ('queue_statistics_id_seq', '{USAGE}'), ('idempotency_keys', '{SELECT,INSERT,UPDATE,DELETE}'),
  ('credential_details', '{SELECT,INSERT,UPDATE}'), ('reconciler', '{SELECT,INSERT,UPDATE}'),
  ('reconciler_cycles', '{SELECT,INSERT,DELETE}'),
  ('guard_settings', '{SELECT}'), ('guard_hits', '{SELECT,DELETE}')
), needed as (
  select * from to_write
  union all
  select 'mpesa_sync', o.table_name, null, unnest(o.privileges::text[]) from ours o where $1
  union all
  select 'public', 'bars', 'payment_mpesa_enabled', 'UPDATE' where $2
)
select concat(nullif(w.schema_name || '.', 'public.'), w.table_name, '.' || w.column_name, ': ', w.privilege) as lacking
  from needed w
  join pg_catalog.pg_namespace n on n.nspname = w.schema_name
  join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.table_name
  left join pg_catalog.pg_attribute a
    on a.attrelid = c.oid and a.attname = w.column_name and not a.attisdropped
 where not case when c.relkind = 'S' then has_sequence_privilege(c.oid, w.privilege)
                when w.column_name is null then has_table_privilege(c.oid, w.privilege)
                else a.attnum is null or has_column_privilege(c.oid, a.attnum, w.privilege) end
 order by w.schema_name desc, lacking
"""
_HOME: Final = """
select has_schema_privilege(n.oid, 'usage')
       and coalesce(bool_and(has_table_privilege(c.oid, 'select')), true) as may_read
  from pg_catalog.pg_namespace n
  left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p')
 where n.nspname = 'mpesa_sync'
 group by n.oid
"""
_TABLE_IS_LOCKED: Final = """
select exists (
  select 1
    from pg_catalog.pg_locks l
    join pg_catalog.pg_class c on c.oid = l.relation
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
   where l.locktype = 'relation' and l.granted and l.pid <> pg_backend_pid()
     and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
     and c.relname in ('bars', 'mpesa_credentials')
     and l.mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'))
"""
_OPEN_MEMBERSHIP: Final = """
select p.polname::text as name
  from pg_catalog.pg_policy p
  join pg_catalog.pg_class c on c.oid = p.polrelid and c.relname = 'user_bars' and c.relrowsecurity
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
 where p.polpermissive and p.polcmd in ('a', '*')
 order by p.polname
"""
_BAR_BY_ID: Final = "select id from public.bars where id = $1"
_BARS_BY_SLUG: Final = """
select b.id
  from public.bars b
 cross join (select null::text as slug) absent
 cross join lateral (
   -- a shape of bars without slugs finds the column one level further out, in "absent"
   select slug::text as slug from (select b.*) present
 ) o
 where o.slug = $1
 order by b.id limit 2
"""


@dataclass(frozen=True, slots=True)
class Server:
    """The database at the other end of the connection, as the server itself says.

    `address` and `port` are None over a local socket. `role` is the role whose rights count.
    """

    database: str
    role: str
    version: str
    major: int
    address: str | None
    port: int | None

    @property
    def is_supported(self) -> bool:
        """Return whether this version of PostgreSQL is one that mpesa-sync is tested on."""
        return self.major in SUPPORTED


@dataclass(frozen=True, slots=True)
class Role:
    """What the connected role is."""

    name: str
    is_superuser: bool
    bypasses_rls: bool
    may_create_schema: bool


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """Row level security of one table of the platform, and whether its policies would hide rows from the role."""

    name: str
    has_rls: bool
    hides_rows: bool


async def server(connection: Any) -> Server:
    """Return which database this is."""
    record = await connection.fetchrow(_SERVER)
    return Server(
        database=record["database"],
        role=record["role"],
        version=record["version"].split()[0],
        major=record["version_number"] // 10_000,
        address=record["address"],
        port=record["port"],
    )


async def role(connection: Any) -> Role:
    """Return what the connected role is."""
    return Role(**await connection.fetchrow(_ROLE))


async def row_security(connection: Any, tables: Sequence[str]) -> list[RowSecurity]:
    """Return the row level security of those of the tables of `public` that exist, by name."""
    return [RowSecurity(**record) for record in await connection.fetch(_TABLES, tables)]


async def missing_rights(connection: Any, *, with_services: bool = False, with_legacy: bool = False) -> list[str]:
    """Return the rights that this role lacks, on the tables that exist: `bars.mpesa_enabled: UPDATE`.

    Arguments:
        with_services: ask not only for what a write or a migration needs, but for all that `serve` and `worker` do.
        with_legacy: ask also for what a migration needs that mirrors the older flag (`payment_mpesa_enabled`).
    """
    records = await connection.fetch(_MISSING_RIGHTS, with_services, with_legacy)
    return [record["lacking"] for record in records]


async def may_read_ours(connection: Any) -> bool | None:
    """Return whether the role may read the schema `mpesa_sync`; None where there is no such schema."""
    answer: bool | None = await connection.fetchval(_HOME)
    return answer


async def table_is_locked(connection: Any) -> bool:
    """Return whether somebody holds one of the two tables as a whole against writers, as CREATE INDEX does."""
    return bool(await connection.fetchval(_TABLE_IS_LOCKED))


async def open_membership_policies(connection: Any) -> list[str]:
    """Return policies that let users insert rows into `user_bars` (existing-platform.md)."""
    return [record["name"] for record in await connection.fetch(_OPEN_MEMBERSHIP)]


async def bar_named(connection: Any, text: str) -> UUID:
    """Return the id of the bar that a person means by an id or a slug; an id wins (spec 6).

    Raises:
        BarNotFound: there is none, or several bars have this slug.
    """
    bar_id = _as_uuid(text)
    if bar_id is not None and await connection.fetchval(_BAR_BY_ID, bar_id):
        return bar_id
    found = [record["id"] for record in await connection.fetch(_BARS_BY_SLUG, text)]
    if len(found) > 1:
        raise BarNotFound("Several bars have this slug. Give the id of the one that is meant.")
    if not found:
        raise BarNotFound(f"There is no bar with the id or slug '{text}' in this database.")
    return UUID(str(found[0]))


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
