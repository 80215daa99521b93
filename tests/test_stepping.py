"""The stepped sessions of the tests themselves: who is taken for blocked, and who is not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import databases
from tests.support.stepping import State, Stepped, sessions

_SHARED = "comment on tablespace pg_default is 'tests: stepping'"
"""Takes a lock that all databases of the server share, as a COMMIT that notifies does."""
_WAITS = "select cardinality(pg_blocking_pids($1))"


async def _commenting(session: Any) -> None:
    await session.execute("begin")
    await session.execute(_SHARED)
    await session.execute("rollback")


def _looks(session: Stepped, monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[list[int]]:
    """Return what the session learns each time that it asks who blocks it."""
    looks: asyncio.Queue[list[int]] = asyncio.Queue()
    ask = session.blockers

    async def blockers() -> list[int]:
        looks.put_nowait(blockers := await ask())
        return blockers

    monkeypatch.setattr(session, "blockers", blockers)
    return looks


async def test_a_wait_for_another_database_is_waited_out(
    sql: Any, database_url: str, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that took such a COMMIT for blocked forgot what it changed, and called the next one drift."""
    elsewhere = await databases.make_database(server_url)
    async with databases.plain(elsewhere) as stranger, sessions(database_url, 1) as (session,):
        await stranger.execute("begin")
        await stranger.execute(_SHARED)
        await session.begin(_commenting(session))
        await session.step()
        looks = _looks(session, monkeypatch)
        stepping = asyncio.create_task(session.step())
        async with asyncio.timeout(10):
            while not await sql.fetchval(_WAITS, session.pid):
                await looks.get()
            for _ in range(2):
                await looks.get()
        await stranger.execute("rollback")
        assert await stepping is State.READY
        assert session.waited == 0
        await session.end()
    await databases.drop_database(server_url, elsewhere)


async def test_a_wait_for_its_own_database_is_told(database_url: str) -> None:
    """The twin: nothing but the other session's end releases it, and the test must be free to step there."""
    async with sessions(database_url, 2) as (first, second):
        for session in (first, second):
            await session.begin(_commenting(session))
            await session.step()
        assert await first.step() is State.READY
        assert await second.step() is State.BLOCKED
        await first.end()
        await second.released()
        assert second.state is State.READY
        await second.end()
