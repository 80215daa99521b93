"""SQL of which database this is, so exactly that a plan made in a copy of it is told apart. Reads only."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.db import installation

_HERE: Final = """
select d.oid::bigint as database, d.datname::text as name,
       coalesce(to_regclass('public.bars')::oid::bigint, 0) as bars_table,
       has_function_privilege('pg_catalog.pg_control_system()', 'execute')
         and has_function_privilege('pg_catalog.pg_control_checkpoint()', 'execute') as may_ask_server
  from pg_catalog.pg_database d where d.datname = current_database()
"""
_SERVER: Final = """
select s.system_identifier::text as system, c.timeline_id::bigint as timeline
  from pg_catalog.pg_control_system() s, pg_catalog.pg_control_checkpoint() c
"""
_INSTALLATION: Final = "select id from mpesa_sync.installation"


class DatabaseIdentity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which database it is.

    Attributes: `name`; `database`, its oid, another one in a copy made with CREATE DATABASE or restored beside it;
    `bars_table`, the oid of `public.bars`, another one after a restore in its place, 0 where there is none; `system`
    and `timeline` of the server, another system for another server, another timeline after a recovery to a point
    in time or a failover, both None where this role may not ask; `installation`, the id of ours, None where nothing
    is installed or this role may not know. A copy of all files of a server, started beside it without a recovery, is
    the one thing that cannot be told apart.
    """

    name: str
    database: int
    bars_table: int
    system: str | None = None
    timeline: int | None = None
    installation: UUID | None = None

    def differs(self, other: DatabaseIdentity) -> bool:
        """Return whether the two are not the same database; what one of them does not know is not compared."""
        if (self.name, self.database, self.bars_table) != (other.name, other.database, other.bars_table):
            return True
        pairs = ((self.system, other.system), (self.timeline, other.timeline), (self.installation, other.installation))
        return any(mine != theirs for mine, theirs in pairs if mine is not None and theirs is not None)

    @property
    def unknown(self) -> str | None:
        """What could not be asked, in plain words; None where all is known but what is not installed."""
        if self.system is not None:
            return None
        return (
            "This role may not execute pg_control_system() and pg_control_checkpoint(), so a database of another "
            "server with the same name and numbers cannot be told apart."
        )


async def database_identity(connection: Any) -> DatabaseIdentity:
    """Return which database this is; needs no right but to connect."""
    here = await connection.fetchrow(_HERE)
    server = await connection.fetchrow(_SERVER) if here["may_ask_server"] else {"system": None, "timeline": None}
    is_known = await installation.mode(connection) is not None
    return DatabaseIdentity(
        name=here["name"],
        database=here["database"],
        bars_table=here["bars_table"],
        system=server["system"],
        timeline=server["timeline"],
        installation=UUID(str(await connection.fetchval(_INSTALLATION))) if is_known else None,
    )
