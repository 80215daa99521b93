"""Reads whose answer does not wait for the end of their transaction."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from mpesa_sync.db import session
from mpesa_sync.db.first_answer import FirstAnswers
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from tests.support.faults import until
from tests.support.waiting import open_transactions


async def test_the_answer_comes_while_the_connection_is_still_held(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spec 8: a page does not wait for a rollback; the connection goes back all the same."""
    release, held = db.release, asyncio.Event()

    async def release_later(*arguments: Any, **options: Any) -> None:
        await held.wait()
        await release(*arguments, **options)

    monkeypatch.setattr(db, "release", release_later)
    reads = FirstAnswers(db, session.READ)
    assert await reads(lambda connection: connection.fetchval("select 7")) == 7
    assert db.connections[0] == 1
    following = asyncio.create_task(reads(lambda connection: connection.fetchval("select pg_backend_pid()")))
    await asyncio.sleep(0)
    assert db.connections[0] == 1, "the next one waits, and takes no second connection"
    held.set()
    await following

    async def is_given_back() -> bool:
        return db.connections[0] == 0

    await until(is_given_back)


async def test_a_failure_is_translated_and_leaves_no_transaction(db: Database, sql: Any) -> None:
    """Faults: as of any reading."""
    with pytest.raises(MpesaSyncError):
        await FirstAnswers(db, session.READ)(lambda connection: connection.fetchval("select 1 / 0"))

    async def none_is_open() -> bool:
        return await open_transactions(sql) == 0

    await until(none_is_open)


async def test_who_is_cancelled_ends_the_read(db: Database, sql: Any) -> None:
    """Faults: a read that is given up holds no connection, however long the server would take."""
    looking, ended = asyncio.Event(), asyncio.Event()

    async def look(connection: Any) -> None:
        looking.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    waiting = asyncio.create_task(FirstAnswers(db, replace(session.READ, budget_s=3_600.0))(look))
    await looking.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(20):
        await ended.wait()

    async def is_over() -> bool:
        return db.connections[0] == 0 and await open_transactions(sql) == 0

    await until(is_over)
