"""Where the machine over real processes plays: the server behind a proxy, a worker, open pages, and who may ask."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx

from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.identity.tokens import Tokens
from tests.support.cli import Ended, cli
from tests.support.databases import plain
from tests.support.e2e_eyes import Eyes
from tests.support.harness import Harness
from tests.support.processes import KEYED
from tests.support.programs import Program
from tests.support.serving import Served, served
from tests.support.stream_clients import Clients, open_clients
from tests.support.venues import KEY, add_bar
from tests.support.web import JWT_SECRET, NO_TLS
from tests.support.whole_faults import INSTALL, Lane
from tests.support.workers import worker

BARS: Final = 8
TROUBLED: Final = 2
"""Of these: bars that no other program writes, whose staff meet a database that fails."""
_PAGES: Final = 2 * BARS
_TOKEN_S: Final = 6 * 3600
_ACCOUNT: Final = "insert into mpesa_sync.accounts (name, password_hash) values ($1, '!') returning id"
_MEMBER: Final = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, $3)"
_NO_BUDGET: Final = {"MPESA_SYNC_RECONCILE_BUDGET": "1000000"}


class Place:
    """The processes, and everybody's way to them. `signed_in`: headers by who asks."""

    def __init__(self, home: Path, url: str, sql: Any, proxy: TcpProxy, serving: Served, eyes: Eyes) -> None:
        self.home, self.url, self.sql, self.proxy, self.serving, self.eyes = home, url, sql, proxy, serving, eyes
        self.bars: list[UUID] = []
        self.signed_in: dict[str, dict[str, str]] = {}
        self.lane = Lane(sql, 0)
        self.client: httpx.AsyncClient
        self.pages: Clients
        self.harness: Harness
        self._worker: Program
        self._workers = AsyncExitStack()

    async def settle(self) -> None:
        """Make the bars, those who may ask for them, and the database's faults."""
        await self.sql.execute(INSTALL)
        await self.lane.open()
        tokens = Tokens(JWT_SECRET, issuer=None, audience="authenticated")
        self.bars = [await add_bar(self.sql) for _ in range(BARS)]
        for role in ("owner", "manager", "staff", "stranger"):
            person = await self.sql.fetchval(_ACCOUNT, role)
            for bar in self.bars if role != "stranger" else ():
                await self.sql.execute(_MEMBER, person, bar, role)
            self.signed_in[role] = {"authorization": f"Bearer {tokens.mint(person, _TOKEN_S).reveal()}"}

    async def cli(self, *arguments: str, **variables: str) -> Ended:
        """Run a command to its end."""
        return await asyncio.to_thread(cli, *arguments, url=self.url, cwd=self.home, **variables)

    async def start_worker(self) -> None:
        """Start the background jobs: a reconciler that repairs."""
        starting = worker(self.home, self.url, **KEYED, **_NO_BUDGET, MPESA_SYNC_RECONCILE="repair")
        self._worker = await self._workers.enter_async_context(starting)

    async def kill_worker(self) -> bool:
        """Kill it, and return whether that is what ended it."""
        return await self._worker.stop(signal.SIGKILL) == -signal.SIGKILL

    async def stop(self) -> None:
        """End the background jobs and the server as an operator does: both are done with what they had."""
        assert await self._worker.stop() == 0
        assert await self.serving.stop() == 0

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run the background jobs, until the block ends."""
        async with self._workers:
            await self.start_worker()
            yield


@asynccontextmanager
async def place(home: Path, url: str) -> AsyncIterator[Place]:
    """Start everything on a greenfield database without guards, and end it with the block."""
    variables = {**KEYED, "MPESA_SYNC_JWT_SECRET": JWT_SECRET.reveal()}
    limits = httpx.Limits(max_keepalive_connections=0)  # a process that is killed takes only one request along
    async with plain(url) as sql, plain(url) as eyes, TcpProxy.before(url) as proxy:
        starting = served(home, "--workers", "2", "--no-jobs", url=proxy.url_for(url), **variables)
        async with starting as serving:
            found = Place(home, url, sql, proxy, serving, Eyes(eyes))
            await found.settle()
            async with (
                httpx.AsyncClient(base_url=serving.url, verify=NO_TLS, limits=limits, timeout=30) as found.client,
                open_clients(serving.url, found.bars, _PAGES) as found.pages,
                Harness.started(url, KEY) as found.harness,
                found.working(),
            ):
                yield found
