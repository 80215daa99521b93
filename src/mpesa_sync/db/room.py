"""How many connections the server has room for: what processes that share it divide among them."""

from __future__ import annotations

from typing import Any, Final

ROOM: Final = """
select current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true)::int, 0)
"""


async def room(connection: Any) -> int:
    """Return how many connections programs like this one may have, all together."""
    return int(await connection.fetchval(ROOM))
