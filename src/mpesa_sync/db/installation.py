"""SQL of `mpesa_sync.installation`: whether this database is ours (greenfield) or a platform's (attached)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from mpesa_sync.db.pool import Database

_READABLE: Final = """
select exists (
  select 1
    from pg_catalog.pg_class c
    join pg_catalog.pg_namespace n on n.oid = c.relnamespace
   where n.nspname = 'mpesa_sync' and c.relname = 'installation'
     and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select'))
"""
_MODE: Final = "select mode from mpesa_sync.installation"


class Mode(StrEnum):
    """How the database came to be."""

    GREENFIELD = "greenfield"
    ATTACHED = "attached"


async def mode(connection: Any) -> Mode | None:
    """Return how `db init` found this database; None where it has not been run, or this role may not know."""
    if not await connection.fetchval(_READABLE):
        return None
    found = await connection.fetchval(_MODE)
    return Mode(found) if found else None


async def allows_sandbox(connection: Any, database: Database) -> bool:
    """Return whether sandbox credentials may serve customers here (`MPESA_SYNC_ALLOW_SANDBOX`).

    Unset: yes in a database that mpesa-sync made, no in one that it was attached to (spec 2) or does not know.
    """
    if database.allow_sandbox is None:
        return await mode(connection) is Mode.GREENFIELD
    return database.allow_sandbox
