"""SQL of `mpesa_sync.venue_channels`: where the owner of a venue hears of trouble. The URL is sealed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

SET: Final = """
insert into mpesa_sync.venue_channels (bar_id, channel, url, set_by) values ($1, $2, $3, $4)
on conflict (bar_id) do update
   set channel = excluded.channel, url = excluded.url, set_by = excluded.set_by, set_at = now()
"""
REMOVE: Final = "delete from mpesa_sync.venue_channels where bar_id = $1 returning true"
READ: Final = "select bar_id, channel, url, set_by, set_at from mpesa_sync.venue_channels where bar_id = $1"
FORGET_GONE: Final = """
delete from mpesa_sync.venue_channels v
 where set_at < now() - interval '1 day' and not exists (select 1 from public.bars b where b.id = v.bar_id)
"""
BAR_EXISTS: Final = "select exists (select 1 from public.bars where id = $1)"


@dataclass(frozen=True, slots=True)
class VenueChannel:
    """The channel of a venue's owner: its short name, who set it and when. `url` is sealed."""

    bar_id: UUID
    channel: str
    url: bytes
    set_by: str
    set_at: datetime


async def save(connection: Any, bar_id: UUID, channel: str, url: bytes, actor: str) -> None:
    """Set the channel of a venue's owner, in the place of an earlier one."""
    await connection.execute(SET, bar_id, channel, url, actor)


async def remove(connection: Any, bar_id: UUID) -> bool:
    """Remove it; return whether there was one."""
    return bool(await connection.fetchval(REMOVE, bar_id))


async def read(connection: Any, bar_id: UUID) -> VenueChannel | None:
    """Return it, None where none is set."""
    record = await connection.fetchrow(READ, bar_id)
    return None if record is None else VenueChannel(**dict(record))


async def forget_gone(connection: Any) -> None:
    """Remove the channels of owners whose bar is gone."""
    await connection.execute(FORGET_GONE)


async def bar_exists(connection: Any, bar_id: UUID) -> bool:
    """Return whether there is such a bar."""
    return bool(await connection.fetchval(BAR_EXISTS, bar_id))
