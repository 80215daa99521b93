"""The full pass of a verification: which bars of the whole fleet are drifted, and nothing else about them (R2.3).

What a look reads beside that, the counts and warnings of every bar, would cost a verification twice its time.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

DRIFTED: Final = """
select b.id
  from public.bars b
  left join (
    select c.tenant_id, bool_or(c.is_active) as authority
      from public.mpesa_credentials c
     where c.environment in ('sandbox', 'production')
     group by c.tenant_id
  ) c on c.tenant_id = b.id
 where coalesce(b.mpesa_enabled, false) <> coalesce(c.authority, false)
"""
DRIFTED_OR_LEGACY: Final = DRIFTED + " or coalesce(b.payment_mpesa_enabled, false) <> coalesce(c.authority, false)"
"""Also bars whose older flag alone is not as the authority. Only for a shape that has `payment_mpesa_enabled`."""
_PREFETCH_ROWS: Final = 5_000


async def drifted(connection: Any, *, with_legacy: bool = False) -> list[UUID]:
    """Return every bar that is drifted, as one statement sees them; the connection must be in a transaction.

    Arguments:
        with_legacy: also bars whose `payment_mpesa_enabled` alone is not as the authority; this shape must have it.
    """
    # Without a name: behind a pooler a name may be another program's.
    statement = await connection.prepare(DRIFTED_OR_LEGACY if with_legacy else DRIFTED, name="")
    cursor = await statement.cursor()
    found: list[UUID] = []
    while records := await cursor.fetch(_PREFETCH_ROWS):
        found += [record["id"] for record in records]
    return found
