"""Looking at guards, and weakening them: wrong forms are made from ours, so that a test sees exactly one difference."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from tests.support.observer import see_all
from tests.support.venues import SEALED

OFF: Final = "update public.mpesa_credentials set is_active = false where tenant_id = $1"
BARS: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
INSERT: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, '600123', $3, $4, $5, $6)
"""
_HITS: Final = """
select bar_id, kind, table_name, operation, previous, current from mpesa_sync.guard_hits order by id
"""
_NAMED: Final = """
select pg_get_functiondef(p.oid) from pg_proc p where p.pronamespace = 'mpesa_sync'::regnamespace and p.proname = $1
"""


async def insert(connection: Any, bar: UUID, environment: str = "production", is_active: bool | None = True) -> None:
    """Insert a credentials row with plain SQL."""
    await connection.execute(INSERT, bar, environment, *SEALED, is_active)


async def drifted(connection: Any) -> list[UUID]:
    """Return the bars that are committed drifted, by the oracle."""
    return [bar for bar, seen in (await see_all(connection)).items() if seen.drifted]


async def hits(connection: Any, bar: UUID | None = None) -> list[tuple[Any, ...]]:
    """Return what guards met, oldest first: kind, table, operation, previous, current."""
    found = await connection.fetch(_HITS)
    return [tuple(record)[1:] for record in found if bar is None or record["bar_id"] == bar]


async def forget_hits(connection: Any) -> None:
    """Forget what guards met while a test was prepared."""
    await connection.execute("delete from mpesa_sync.guard_hits")


async def set_mode(connection: Any, mode: str) -> None:
    """Change the mode as `guard install --mode` does."""
    await connection.execute("update mpesa_sync.guard_settings set mode = $1", mode)


async def weaken(connection: Any, function: str, old: str, new: str) -> None:
    """Replace a text that stands once in a function of the guards."""
    text = await connection.fetchval(_NAMED, function)
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {function}"
    await connection.execute(text.replace(old, new))
