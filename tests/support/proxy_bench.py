"""A proxy before the test server, with a connection through it and one around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from mpesa_sync.demo.proxy import TcpProxy

LOST = (ConnectionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)
"""What asyncpg raises when the connection goes away. A timeout is none: that would be a hang."""


def run(story: Coroutine[Any, Any, None]) -> None:
    """Run one story, and demand that no task outlives it."""

    async def alone() -> None:
        await story
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"left behind: {others}"

    asyncio.run(alone())


class Bench:
    """A proxy, a connection through it, one that goes around it, and a table of its own."""

    def __init__(self, url: str, proxy: TcpProxy, direct: Any, connection: Any) -> None:
        self.url = url
        self.proxy = proxy
        self.direct = direct
        self.connection = connection
        self.table = f"proxy_{uuid4().hex}"

    async def connect(self, timeout_s: float = 10) -> Any:
        return await asyncpg.connect(self.proxy.url_for(self.url), timeout=timeout_s)

    async def rows(self) -> int:
        return int(await self.direct.fetchval(f"select count(*) from {self.table}"))

    async def insert(self) -> None:
        await self.connection.execute(f"insert into {self.table} values ($1)", 1)

    async def settled(self) -> None:
        """Wait until the server has noticed a reset: the lock goes with the backend that held it."""
        async with self.direct.transaction():
            await self.direct.execute(f"lock table {self.table} in access exclusive mode")


@asynccontextmanager
async def bench(url: str) -> AsyncIterator[Bench]:
    direct = await asyncpg.connect(url)
    async with TcpProxy.before(url) as proxy:
        connection = await asyncpg.connect(proxy.url_for(url))
        made = Bench(url, proxy, direct, connection)
        await direct.execute(f"create table {made.table} (n int)")
        try:
            yield made
        finally:
            made.connection.terminate()
            proxy.disarm()
            await direct.execute(f"drop table {made.table}")
            await direct.close()
