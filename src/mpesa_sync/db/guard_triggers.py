"""Installing and removing the triggers of the guards, in a transaction that the caller keeps short (G4)."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

from mpesa_sync.db import guards, installation, notices
from mpesa_sync.db.guards import GuardMode, GuardState
from mpesa_sync.db.installation import Mode

_DEFINITIONS: Final = """
select jsonb_object_agg(n.nspname || '.' || c.relname || '.' || t.tgname,
                        encode(sha256(convert_to(pg_get_triggerdef(t.oid), 'UTF8')), 'hex'))::text
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_class c on c.oid = t.tgrelid
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname in ('public', 'mpesa_sync')
 where not t.tgisinternal and t.tgname like 'mpesa\\_sync\\_guard\\_%'
"""
_SET: Final = """
insert into mpesa_sync.guard_settings as s (mode, definitions, server_major, search_path)
values ($1, $2::text::jsonb, current_setting('server_version_num')::integer / 10000,
        concat_ws(', ', nullif(current_setting('search_path'), ''), 'public', 'pg_temp'))
on conflict (id) do update
  set mode = excluded.mode, definitions = excluded.definitions, server_major = excluded.server_major,
      search_path = excluded.search_path, installed_at = now(), installed_by = session_user
"""
_LOCK_TO_ADD: Final = "lock table public.mpesa_credentials, public.bars in share row exclusive mode"
_LOCK_TO_DROP: Final = "lock table public.mpesa_credentials, public.bars in access exclusive mode"
"""Both at once, and before anything is made: with a short lock timeout this is where an attempt ends."""
_DROP: Final = """
drop trigger if exists mpesa_sync_guard_insert on public.mpesa_credentials;
drop trigger if exists mpesa_sync_guard_delete on public.mpesa_credentials;
drop trigger if exists mpesa_sync_guard_update on public.mpesa_credentials;
drop trigger if exists mpesa_sync_guard_truncate on public.mpesa_credentials;
drop trigger if exists mpesa_sync_guard_insert on public.bars;
drop trigger if exists mpesa_sync_guard_update on public.bars;
"""
_ENABLE_OURS: Final = "alter table mpesa_sync.guard_truncations enable always trigger mpesa_sync_guard_insert"
_FORGET: Final = """
with settings as (delete from mpesa_sync.guard_settings), hits as (delete from mpesa_sync.guard_hits returning 1)
select count(*) from hits
"""


async def install(connection: Any, mode: GuardMode) -> bool:
    """Install the guards in the transaction of the connection; return whether anything was changed.

    Locks the two tables only where triggers have to be made, and against readers only where some have to go first.
    """
    mended = not await guards.functions_fit(connection)
    if mended:
        await connection.execute(guards.functions_anew())
    before = await guards.status(connection)
    if before.state is GuardState.INSTALLED and before.mode is mode:
        return mended
    if before.state is not GuardState.INSTALLED:
        in_public = [trigger for trigger in before.triggers if trigger.table.startswith("public.")]
        if any(trigger.state is not GuardState.MISSING for trigger in in_public):
            await connection.execute(_LOCK_TO_DROP)
            await connection.execute(_DROP)
        else:
            await connection.execute(_LOCK_TO_ADD)
        await connection.execute((resources.files("mpesa_sync.db") / "schema" / "guards.sql").read_text("utf-8"))
        await connection.execute(_ENABLE_OURS)
    await connection.execute(_SET, mode.value, await connection.fetchval(_DEFINITIONS))
    return True


async def install_notices(connection: Any) -> bool:
    """Install the notice triggers (G3) where they do not stand; return whether anything was changed."""
    if await notices.installed(connection):
        return False
    await connection.execute(_LOCK_TO_DROP if await notices.present(connection) else _LOCK_TO_ADD)
    await notices.install(connection)
    return True


async def remove(connection: Any) -> int:
    """Remove the guards with their settings and hits, in the transaction of the connection; return how many hits.

    Attached, the notices go, too: nothing of ours is left in `public`. In a database of our own they belong to it.
    """
    found = [record["name"] for record in await connection.fetch(guards.FOUND) if record["name"].startswith("public.")]
    with_notices = await installation.mode(connection) is not Mode.GREENFIELD and await notices.present(connection)
    if found or with_notices:
        await connection.execute(_LOCK_TO_DROP)
        await connection.execute(_DROP)
    if with_notices:
        await notices.remove(connection)
    return int(await connection.fetchval(_FORGET)) if await guards.readable(connection) else 0
