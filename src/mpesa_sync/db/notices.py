"""The notice triggers on the platform's tables: in a database of our own, elsewhere with the guards (G3)."""

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
_HAS_COLUMNS: Final = """
select count(*) = 4 from pg_catalog.pg_attribute a
 where a.attrelid = 'public.bars'::regclass and not a.attisdropped
   and a.attname in ('slug', 'active', 'payment_cash_enabled', 'payment_card_enabled')
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
    schema = resources.files("mpesa_sync.db") / "schema"
    of_bars = "notices_of_bars.sql" if await connection.fetchval(_HAS_COLUMNS) else "notices_of_bars_any.sql"
    for file in ("notices.sql", of_bars):
        await connection.execute((schema / file).read_text("utf-8"))


async def present(connection: Any) -> bool:
    """Return whether there is any notice trigger, working or not; reads only."""
    found = await connection.fetchrow(_FOUND)
    return int(found["present"]) > 0


async def remove(connection: Any) -> None:
    """Remove the notice triggers where there are any."""
    if await present(connection):
        await connection.execute(_REMOVE)
