"""`first_answer`: what a read finds, without waiting for the end of its transaction, on which nothing depends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mpesa_sync.db.pool import Database
from mpesa_sync.db.session import Begin

T = TypeVar("T")


async def first_answer(database: Database, begin: Begin, look: Callable[[Any], Awaitable[T]]) -> T:
    """Return what `look` finds in a transaction as of `Database.reading`, as soon as it is found.

    Who is cancelled stops waiting; the transaction goes on to its end, within the budget of `begin`.

    Raises:
        DatabaseFault, SchemaError: translated from whatever the driver raises before there is an answer.
    """
    answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    async def unit() -> None:
        try:
            async with database.reading(begin) as connection:
                found = await look(connection)
                if not answer.done():
                    answer.set_result(found)
        except BaseException as exc:  # noqa: BLE001 - for whoever waits; after the answer it changes nothing
            if not answer.done():
                answer.set_exception(exc)

    database.background(unit())
    return await answer
