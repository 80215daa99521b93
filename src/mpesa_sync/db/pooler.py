"""Poolers between us and the server (existing-platform.md): seen, and lived with.

A pooler gives each session a backend key of its own; the server's own is the process id of the backend. In
transaction mode two transactions of one session may be two backends, so a statement that was prepared by name on one
is not there on the other, or is somebody else's. A pooler in session mode looks the same, and loses little by it.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.settings import LISTEN_URL

_log: Final = logs.get("pool")
BACKEND: Final = "select pg_backend_pid()"
_UNNAMED: Final = ""


async def is_between(connection: Any) -> bool:
    """Return whether a pooler stands between this connection and the server."""
    await connection.execute("begin read only")
    statement = await connection.prepare(BACKEND, name=_UNNAMED)
    backend = await statement.fetchval()
    await connection.execute("rollback")
    return bool(backend != connection.get_server_pid())


async def warn_of(connection: Any) -> None:
    """Say where a connection that listens goes through a pooler: in transaction mode it hears nothing."""
    if await is_between(connection):
        _log.warning(Event.LISTENS_THROUGH_POOLER, set=LISTEN_URL)


class Connecting:
    """Opens the connections of a pool: asked of the first one, none behind a pooler keeps prepared statements.

    `is_pooled`: whether there is a pooler; None until a connection was opened.
    """

    def __init__(self) -> None:
        self.is_pooled: bool | None = None

    async def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Open a connection as `asyncpg.connect` does."""
        if not self.is_pooled:
            connection = await asyncpg.connect(*arguments, **options)
            try:
                if self.is_pooled is None:
                    self.is_pooled = await is_between(connection)
            except BaseException:
                connection.terminate()
                raise
            if not self.is_pooled:
                return connection
            await connection.close()
        return await asyncpg.connect(*arguments, **options, statement_cache_size=0)
