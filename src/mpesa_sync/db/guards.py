"""The guards on the platform's tables as the catalog has them, and what they have met. Reads, and removes what is old.

The triggers stand in `schema/guards.sql`, what they run in migration 0010. Both are compared with what the database
holds: a guard that was edited, switched off or dropped is no guard.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.db import notices

_FILE: Final = "0010_guards.sql"
_FUNCTION: Final = re.compile(
    r"^create function mpesa_sync\.(guard_\w+)\(.*?\) returns \w+\s(?P<manner>.*?)as \$\$(?P<body>.*?)\$\$;",
    re.MULTILINE | re.DOTALL,
)
FOUND: Final = """
select n.nspname || '.' || c.relname || '.' || t.tgname as name, t.tgenabled = 'A' as is_always,
       t.tgtype::integer as type, t.tginitdeferred as is_deferred, t.tgqual is not null as has_when,
       t.tgattr::text = '' as has_no_columns, coalesce(p.proname, '')::text as function,
       encode(sha256(convert_to(pg_get_triggerdef(t.oid), 'UTF8')), 'hex') as digest
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_class c on c.oid = t.tgrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  left join pg_catalog.pg_proc p on p.oid = t.tgfoid and p.pronamespace = to_regnamespace('mpesa_sync')
 where not t.tgisinternal and t.tgname like 'mpesa\\_sync\\_guard\\_%'
   and n.nspname in ('public', 'mpesa_sync')
"""
_FUNCTIONS: Final = """
select p.proname::text as name, encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex') as digest,
       p.prosecdef as is_definer, coalesce(p.proconfig::text, '') as settings
  from pg_catalog.pg_proc p
 where p.pronamespace = to_regnamespace('mpesa_sync') and p.proname like 'guard\\_%'
"""
_READABLE: Final = """
select count(*) = 2
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where n.nspname = 'mpesa_sync' and c.relname in ('guard_settings', 'guard_hits')
   and has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select')
"""
_SETTINGS: Final = """
select mode, definitions::text, server_major = current_setting('server_version_num')::integer / 10000 as same_major
  from mpesa_sync.guard_settings
"""
_RIGHTS: Final = """
select c.relname::text as name, pg_has_role(c.relowner, 'usage') as is_owner, d.rolname::text as definer,
       has_table_privilege(d.oid, c.oid, 'select')
       and (c.relname <> 'bars' or has_column_privilege(d.oid, c.oid, 'mpesa_enabled', 'update')) as may,
       c.relrowsecurity and not d.rolsuper and not d.rolbypassrls
       and (c.relforcerowsecurity or not pg_has_role(d.oid, c.relowner, 'usage')) as is_hidden
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
 cross join pg_catalog.pg_proc p
  join pg_catalog.pg_roles d on d.oid = p.proowner
 where c.relname in ('bars', 'mpesa_credentials')
   and p.pronamespace = to_regnamespace('mpesa_sync') and p.proname = 'guard_settle_v1'
 order by 1
"""
_HITS: Final = """
select at, kind, bar_id, table_name, operation, previous, current, session_user_name as session_user, application_name
  from mpesa_sync.guard_hits order by at desc, id desc limit $1
"""
_COUNTS: Final = "select kind, count(*) as hits from mpesa_sync.guard_hits group by kind"
_PRUNE: Final = """
delete from mpesa_sync.guard_hits
 where id in (select id from mpesa_sync.guard_hits where at < now() - interval '400 days' limit 10000)
"""
_ROW, _INSERT, _DELETE, _UPDATE, _TRUNCATE = 1, 4, 8, 16, 32
"""Bits of `pg_trigger.tgtype`."""


HIT_KINDS: Final = ("carried", "healed", "logged")


class GuardMode(StrEnum):
    """What becomes of a direct write to `bars.mpesa_enabled` that disagrees with the credentials (G2)."""

    HEAL = "heal"
    LOG = "log"
    REJECT = "reject"


class GuardState(StrEnum):
    """How guards stand (G4), from well to worst. POWERLESS: they work as a role that may not see or write all rows."""

    INSTALLED = "installed"
    OUTDATED = "outdated"
    POWERLESS = "powerless"
    DISABLED = "disabled"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class TriggerStatus:
    """One trigger of the guards."""

    table: str
    name: str
    state: GuardState


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """How the guards stand. `state` is the worst of all; MISSING also where they were never installed.

    `mode` is None where they are not meant to be installed, or this role may not know. `notices`: whether every
    change of either table is announced (G3).
    """

    state: GuardState
    mode: GuardMode | None
    triggers: tuple[TriggerStatus, ...]
    notices: bool

    @property
    def is_broken(self) -> bool:
        """Return whether guards that are meant to be installed do not stand as they must."""
        return self.mode is not None and self.state is not GuardState.INSTALLED


@dataclass(frozen=True, slots=True)
class GuardHit:
    """What a guard met. `previous` and `current`: `bars.mpesa_enabled` before and after it."""

    at: datetime
    kind: str
    bar_id: UUID
    table_name: str
    operation: str
    previous: bool | None
    current: bool | None
    session_user: str
    application_name: str


@dataclass(frozen=True, slots=True)
class Right:
    """Who may do what with one of the two tables: we install triggers, `definer` is the role that they work as."""

    name: str
    is_owner: bool
    definer: str
    may: bool
    is_hidden: bool

    @property
    def is_powerless(self) -> bool:
        """Return whether `definer` may not read and write the table as a whole."""
        return not self.may or self.is_hidden


@dataclass(frozen=True, slots=True)
class _Wanted:
    name: str
    type: int
    function: str
    has_when: bool = True

    @property
    def is_deferred(self) -> bool:
        return not self.type & _TRUNCATE


_TRIGGERS: Final = (
    _Wanted("public.mpesa_credentials.mpesa_sync_guard_insert", _ROW | _INSERT, "guard_credentials_v1"),
    _Wanted("public.mpesa_credentials.mpesa_sync_guard_delete", _ROW | _DELETE, "guard_credentials_v1"),
    _Wanted("public.mpesa_credentials.mpesa_sync_guard_update", _ROW | _UPDATE, "guard_credentials_v1"),
    _Wanted("public.mpesa_credentials.mpesa_sync_guard_truncate", _TRUNCATE, "guard_truncated_v1", has_when=False),
    _Wanted("public.bars.mpesa_sync_guard_insert", _ROW | _INSERT, "guard_bars_v1", has_when=False),
    _Wanted("public.bars.mpesa_sync_guard_update", _ROW | _UPDATE, "guard_bars_v1"),
    _Wanted("mpesa_sync.guard_truncations.mpesa_sync_guard_insert", _ROW | _INSERT, "guard_truncation_v1", False),
)


@cache
def _packaged() -> Mapping[str, tuple[str, bool, str]]:
    """Return the functions as this program has them: digest of the body, whether definer, and their settings."""
    text = (resources.files("mpesa_sync.db") / "schema" / "migrations" / _FILE).read_text("utf-8")
    return {
        match[1]: (
            hashlib.sha256(match["body"].encode()).hexdigest(),
            "security definer" in match["manner"],
            '{"search_path=pg_catalog, pg_temp"}' if "set search_path" in match["manner"] else "",
        )
        for match in _FUNCTION.finditer(text)
    }


@cache
def functions_anew() -> str:
    """Return the SQL that makes the functions as this program has them, in place of what they are."""
    text = (resources.files("mpesa_sync.db") / "schema" / "migrations" / _FILE).read_text("utf-8")
    made = "\n".join(match[0] for match in _FUNCTION.finditer(text))
    return made.replace("create function mpesa_sync.", "create or replace function mpesa_sync.")


async def functions_fit(connection: Any) -> bool:
    """Return whether every function of the guards is as this program has it; reads only."""
    found = {
        record["name"]: (record["digest"], record["is_definer"], record["settings"])
        for record in await connection.fetch(_FUNCTIONS)
    }
    return all(found.get(name) == made for name, made in _packaged().items())


async def status(connection: Any) -> GuardStatus:
    """Return how the guards stand; reads only, and needs no right on the schema `mpesa_sync`."""
    as_packaged = await functions_fit(connection)
    settings = await connection.fetchrow(_SETTINGS) if await readable(connection) else None
    digests = msgspec.json.decode(settings["definitions"]) if settings and settings["same_major"] else None
    found = {record["name"]: record for record in await connection.fetch(FOUND)}
    triggers = []
    for wanted in _TRIGGERS:
        record = found.get(wanted.name)
        fits = as_packaged and (record is None or digests is None or digests.get(wanted.name) == record["digest"])
        schema_and_table, _, name = wanted.name.rpartition(".")
        triggers.append(TriggerStatus(schema_and_table, name, _state(wanted, record, fits=fits)))
    order, states = list(GuardState), [trigger.state for trigger in triggers]
    if any(right.is_powerless for right in await rights(connection)):
        states.append(GuardState.POWERLESS)
    return GuardStatus(
        state=max(states, key=order.index),
        mode=GuardMode(settings["mode"]) if settings else None,
        triggers=tuple(triggers),
        notices=await notices.installed(connection),
    )


def _state(wanted: _Wanted, record: Any, *, fits: bool) -> GuardState:
    if record is None:
        return GuardState.MISSING
    if not record["is_always"]:
        return GuardState.DISABLED
    is_as_wanted = (
        record["type"] == wanted.type
        and record["function"] == wanted.function
        and record["is_deferred"] == wanted.is_deferred
        and record["has_when"] == wanted.has_when
        and record["has_no_columns"]
    )
    return GuardState.INSTALLED if fits and is_as_wanted else GuardState.OUTDATED


async def readable(connection: Any) -> bool:
    """Return whether this role may read the settings and the hits; False where there are none to read."""
    return bool(await connection.fetchval(_READABLE))


async def rights(connection: Any) -> Sequence[Right]:
    """Return who may do what with the two tables; nothing where the schema `mpesa_sync` is not there."""
    return [Right(**record) for record in await connection.fetch(_RIGHTS)]


async def hits(connection: Any, limit: int) -> list[GuardHit]:
    """Return the newest hits, at most `limit`."""
    return [GuardHit(**record) for record in await connection.fetch(_HITS, limit)]


async def counts(connection: Any) -> dict[str, int]:
    """Return how many hits are kept, by kind."""
    return {record["kind"]: record["hits"] for record in await connection.fetch(_COUNTS)}


async def prune_hits(connection: Any) -> int:
    """Forget hits older than 400 days, at most 10,000; return how many were forgotten."""
    return int((await connection.execute(_PRUNE)).rpartition(" ")[2])
