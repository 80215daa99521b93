"""Sessions that run one statement each time they are told to, and that know when they wait for a lock.

A `Stepped` stands before a real asyncpg connection. Any code that talks to a connection runs on it unchanged, so the
project's own writer can be stopped between any two of its statements. Waiting is asked of the server
(`pg_blocking_pids`) until a deadline; nothing here sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from enum import StrEnum
from typing import Any, Final

from tests.support import databases

_BLOCKERS: Final = """
select coalesce(array_agg(a.pid), '{}') from pg_stat_activity a
 where a.pid = any(pg_blocking_pids($1)) and a.datname = current_database()
"""
"""A COMMIT that notifies waits for whoever on the whole server commits a notification: those are no part of the test,
and it would be taken for blocked, though nothing that the test does can release it."""
_LOOK_S: Final = 0.003
"""How long a statement may run before the server is asked whether it waits for a lock."""
DEADLINE_S: Final = 20.0


class State(StrEnum):
    """Where a stepped session stands."""

    IDLE = "idle"
    """Its work is over, or none was begun."""
    READY = "ready"
    """Before its next statement."""
    BLOCKED = "blocked"
    """Its statement waits for a lock that another session of its database holds."""


class Stepped:
    """One session: a real connection, and the gate before each of its statements."""

    def __init__(self, raw: Any, watcher: Any) -> None:
        self.raw = raw
        self.pid: int = raw.get_server_pid()
        self.next_statement: str | None = None
        self.waited = 0
        self._watcher = watcher
        self._work: asyncio.Task[Any] | None = None
        self._arrived = asyncio.Event()
        self._permitted = asyncio.Event()
        self._state = State.IDLE

    @property
    def state(self) -> State:
        return self._state

    # What the code under test sees of a connection.

    async def execute(self, query: str, *args: Any) -> Any:
        return await self._gated(self.raw.execute, query, args)

    async def fetch(self, query: str, *args: Any) -> Any:
        return await self._gated(self.raw.fetch, query, args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._gated(self.raw.fetchrow, query, args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._gated(self.raw.fetchval, query, args)

    def is_in_transaction(self) -> bool:
        return bool(self.raw.is_in_transaction())

    def is_closed(self) -> bool:
        return bool(self.raw.is_closed())

    async def _gated(self, run: Callable[..., Any], query: str, args: tuple[Any, ...]) -> Any:
        self.next_statement = query
        self._arrived.set()
        await self._permitted.wait()
        self._permitted.clear()
        self.next_statement = None
        return await run(query, *args)

    # What the test does with it.

    async def begin(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start `work`, which runs until it is before its first statement."""
        assert self._state is State.IDLE, "its last work is not over"
        self._arrived.clear()
        self._work = asyncio.create_task(work)
        self._work.add_done_callback(lambda _: self._arrived.set())
        await self._settled()

    async def step(self) -> State:
        """Run one statement; return `BLOCKED` if it waits, else where the session stands then."""
        assert self._state is State.READY, f"it is {self._state}"
        self._arrived.clear()
        self._permitted.set()
        return await self._settled()

    async def look(self) -> State:
        """Return where a session stands that was blocked, as soon as that is certain."""
        return await self._settled() if self._state is State.BLOCKED else self._state

    async def advance(self, *, to: str = "") -> None:
        """Step until it waits, its work is over, or it is before exactly this statement."""
        while self._state is State.READY and self.next_statement != to:
            await self.step()

    async def until(self, statement: str) -> None:
        """Step to just before a statement that contains these words; BEGIN is not meant, it names "committed"."""
        while statement not in (self.next_statement or "") or str(self.next_statement).lstrip().startswith("begin"):
            assert await self.step() is State.READY, f"{self._state} before {statement!r}"

    async def finish(self) -> Any:
        """Step to the end and return what the work returns; a wait for a lock must end by itself."""
        await self.end()
        return self.outcome()

    async def end(self) -> None:
        """Step to the end, whatever that is."""
        while self._state is not State.IDLE:
            if self._state is State.READY:
                await self.step()
            else:
                await self.released()

    async def arrival(self) -> None:
        """Wait until its statement has ended, however long that takes."""
        await self._arrived.wait()

    async def released(self) -> None:
        """Wait until the statement that was blocked has ended."""
        async with asyncio.timeout(DEADLINE_S):
            await self._arrived.wait()
        await self._settled()

    def outcome(self) -> Any:
        """Return what the work that is over returned, or raise what it raised."""
        assert self._work is not None, "nothing was begun"
        return self._work.result()

    def failure(self) -> BaseException | None:
        """Return what the work that is over raised, None if it did not."""
        assert self._work is not None, "nothing was begun"
        return self._work.exception()

    async def blockers(self) -> list[int]:
        """Return the backends of this database that this one waits for."""
        return list(await self._watcher.fetchval(_BLOCKERS, self.pid))

    async def _settled(self) -> State:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                try:
                    async with asyncio.timeout(_LOOK_S):
                        await self._arrived.wait()
                except TimeoutError:
                    if await self.blockers() and not self._arrived.is_set():
                        self.waited += self._state is not State.BLOCKED
                        self._state = State.BLOCKED
                        return self._state
                else:
                    over = self._work is None or self._work.done()
                    self._state = State.IDLE if over else State.READY
                    return self._state

    async def close(self) -> None:
        if self._work is not None and not self._work.done():
            self._work.cancel()
            await asyncio.wait([self._work])
        self.raw.terminate()


@asynccontextmanager
async def sessions(url: str, number: int) -> AsyncIterator[list[Stepped]]:
    """Give this many stepped sessions, and close them whatever state they are in."""
    async with AsyncExitStack() as stack:
        watcher = await stack.enter_async_context(databases.plain(url))
        made = []
        for _ in range(number):
            raw = await stack.enter_async_context(databases.plain(url))
            made.append(Stepped(raw, watcher))
            stack.push_async_callback(made[-1].close)
        yield made
