"""What is committed, read in one statement and judged by an oracle in plain Python that shares no SQL with the code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

_OBSERVE: Final = """
select b.id, b.mpesa_enabled,
       (select json_object_agg(k.environment, k.is_active) from public.mpesa_credentials k where k.tenant_id = b.id)
         ::text as flags
  from public.bars b
"""
_ALL: Final = _OBSERVE + " order by b.id"
_ONE: Final = _OBSERVE + " where b.id = $1"
_TABLES: Final = """
select schemaname, tablename from pg_tables where schemaname in ('public', 'mpesa_sync') order by 1, 2
"""


@dataclass(frozen=True)
class Seen:
    """Both fields of a bar at one moment."""

    bar_id: UUID
    mpesa_enabled: bool | None
    flags: dict[str, bool | None]

    @property
    def authority(self) -> bool:
        return any(flag is True for flag in self.flags.values())

    @property
    def drifted(self) -> bool:
        return (self.mpesa_enabled is True) != self.authority

    @property
    def active(self) -> list[str]:
        return sorted(environment for environment, flag in self.flags.items() if flag is True)


def _seen(record: Any) -> Seen:
    return Seen(record["id"], record["mpesa_enabled"], json.loads(record["flags"] or "{}"))


async def see(connection: Any, bar_id: UUID) -> Seen | None:
    """Return what is committed of one bar, None where it does not exist."""
    record = await connection.fetchrow(_ONE, bar_id)
    return _seen(record) if record else None


async def see_all(connection: Any) -> dict[UUID, Seen]:
    """Return what is committed of every bar."""
    return {record["id"]: _seen(record) for record in await connection.fetch(_ALL)}


async def database_hash(connection: Any) -> dict[str, str]:
    """Return a digest of every table of `public` and `mpesa_sync`: equal means that nothing changed, xmin included."""
    tables = [tuple(record) for record in await connection.fetch(_TABLES)]
    if not tables:
        return {}
    digests = " union all ".join(
        f"select '{schema}.{table}', coalesce(md5(string_agg(line, chr(10) order by line)), '') "
        f'from (select t.xmin::text || t::text as line from "{schema}"."{table}" t) lines'
        for schema, table in tables
    )
    return dict(await connection.fetch(digests))


OF_ALERTS: Final = {"mpesa_sync.alerts", "mpesa_sync.alert_occurrences"}
"""What an alert is kept in: a failure is alerted, in a transaction of its own, and that is no part of it (R5.2)."""
OF_THE_PLATFORMS_AUDIT: Final = {"public.audit_logs", "public.mpesa_credential_events"}
"""Where the platform keeps its own history, in which an operation that is applied leaves an entry."""

MISSING: Final = "missing"
AMBIGUOUS: Final = "ambiguous"


def becomes_active(flags: dict[str, bool | None], *, named: str | None, last: str | None) -> str:
    """Say which environment a switch-on must make the active one (R1), or `MISSING`, or `AMBIGUOUS`.

    Written from the specification, apart from the code: the named one; else the only row present; else the only
    row already active; else the one last seen active. `last` must be of a row that may have been deleted since.
    """
    if named is not None:
        return named if named in flags else MISSING
    if len(flags) < 2:
        return next(iter(flags), MISSING)
    on = [environment for environment, flag in flags.items() if flag is True]
    if len(on) == 1:
        return on[0]
    return last or AMBIGUOUS


def changed_tables(before: dict[str, str], after: dict[str, str]) -> set[str]:
    """Return the tables whose digests of `database_hash` differ."""
    return {table for table in before.keys() | after.keys() if before.get(table) != after.get(table)}
