"""Bars of a platform that still has `bars.payment_mpesa_enabled`, the flag that an old customer page reads."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from mpesa_sync import RunOptions
from tests.support.venues import Flag, add_bar

COLUMN: Final = "alter table public.bars add column payment_mpesa_enabled boolean"
MIRROR: Final = RunOptions(mirror_legacy=True)
_FLAGS: Final = "select id, mpesa_enabled, payment_mpesa_enabled from public.bars"


async def set_legacy(sql: Any, bar: UUID, flag: Flag) -> None:
    """Set the older flag of a bar, as an old program would."""
    await sql.execute("update public.bars set payment_mpesa_enabled = $2 where id = $1", bar, flag)


async def flags(sql: Any) -> dict[UUID, tuple[Flag, Flag]]:
    """Return both flags of every bar: the newer one and the older."""
    return {bar_id: (newer, older) for bar_id, newer, older in await sql.fetch(_FLAGS)}


async def one_of_each(sql: Any) -> tuple[UUID, UUID, UUID]:
    """Return a bar that is hidden in both flags, one in the older alone, and one that is as it should be."""
    await sql.execute(COLUMN)
    both = await add_bar(sql, production=True)
    older = await add_bar(sql, mpesa_enabled=True, production=True)
    right = await add_bar(sql, mpesa_enabled=True, production=True)
    for bar, legacy in ((both, False), (older, False), (right, True)):
        await set_legacy(sql, bar, legacy)
    return both, older, right
