"""`FirstAnswers`: reads whose answer does not wait for the end of their transaction, on which nothing depends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mpesa_sync.db.pool import Database
from mpesa_sync.db.session import Begin

T = TypeVar("T")


class FirstAnswers:
    """Reads one after the other, so that one connection is enough: the next waits for the end of the last.

    Arguments:
        database: read through its pool.
        begin: how each transaction begins, as of `Database.reading`.
    """

    def __init__(self, database: Database, begin: Begin) -> None:
        self._db = database
        self._begin = begin
        self._last: asyncio.Task[None] | None = None

    async def __call__(self, look: Callable[[Any], Awaitable[T]]) -> T:
        """Return what `look` finds, as soon as it is found. Who is cancelled ends it, and gives its connection back.

        Raises:
            DatabaseFault, SchemaError: translated from whatever the driver raises before there is an answer.
        """
        if self._last is not None:
            await asyncio.wait([self._last])
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        task = self._last = self._db.background(self._unit(look, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def _unit(self, look: Callable[[Any], Awaitable[T]], answer: asyncio.Future[T]) -> None:
        try:
            async with self._db.reading(self._begin) as connection:
                found = await look(connection)
                if not answer.done():
                    answer.set_result(found)
        except BaseException as exc:  # noqa: BLE001 - for whoever waits; after the answer it changes nothing
            if not answer.done():
                answer.set_exception(exc)
