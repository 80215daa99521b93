"""The notice triggers on the platform's tables: installed in a database of our own, removed with what is ours."""

from __future__ import annotations

from importlib import resources
from typing import Any, Final

CHANNEL: Final = "mpesa_sync"
"""What notices are sent on: the id of a bar, or `EVERY_BAR`."""
EVERY_BAR: Final = "*"

_TRIGGERS: Final = 8
_FOUND: Final = """
select count(*) filter (where t.tgenabled = 'A') as working, count(*) as present
  from pg_catalog.pg_trigger t
  join pg_catalog.pg_class c on c.oid = t.tgrelid and c.relnamespace = 'public'::regnamespace
  join pg_catalog.pg_proc p on p.oid = t.tgfoid and p.pronamespace = to_regnamespace('mpesa_sync')
 where c.relname in ('bars', 'mpesa_credentials') and t.tgname like 'mpesa\\_sync\\_notice\\_%'
"""
_REMOVE: Final = """
drop trigger if exists mpesa_sync_notice_insert on public.bars;
drop trigger if exists mpesa_sync_notice_delete on public.bars;
drop trigger if exists mpesa_sync_notice_update on public.bars;
drop trigger if exists mpesa_sync_notice_truncate on public.bars;
drop trigger if exists mpesa_sync_notice_insert on public.mpesa_credentials;
drop trigger if exists mpesa_sync_notice_delete on public.mpesa_credentials;
drop trigger if exists mpesa_sync_notice_update on public.mpesa_credentials;
drop trigger if exists mpesa_sync_notice_truncate on public.mpesa_credentials;
"""


async def installed(connection: Any) -> bool:
    """Return whether every notice trigger is there and enabled; reads only."""
    found = await connection.fetchrow(_FOUND)
    return int(found["working"]) == _TRIGGERS


async def install(connection: Any) -> None:
    """Install the notice triggers anew, in the transaction of the connection."""
    await remove(connection)
    await connection.execute((resources.files("mpesa_sync.db") / "schema" / "notices.sql").read_text("utf-8"))


async def remove(connection: Any) -> None:
    """Remove the notice triggers where there are any."""
    found = await connection.fetchrow(_FOUND)
    if found["present"]:
        await connection.execute(_REMOVE)
