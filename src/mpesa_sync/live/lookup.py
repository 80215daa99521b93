"""`Lookup`: which bar a text means, asked of the database at most once at a time for each text."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID


class Lookup:
    """Shares one answer among all who ask while it is under way: a storm of reconnects is one question.

    Arguments:
        ask: asks the database; it raises where there is no such bar, or no answer.
    """

    def __init__(self, ask: Callable[[str], Awaitable[UUID]]) -> None:
        self._ask = ask
        self._asked: dict[str, asyncio.Task[UUID]] = {}

    async def __call__(self, text: str) -> UUID:
        """Return the id of the bar.

        Raises:
            Whatever `ask` raises.
        """
        task = self._asked.get(text)
        if task is None:
            task = self._asked[text] = asyncio.create_task(self._answer(text), name="lookup")
            task.add_done_callback(lambda done: None if done.cancelled() else done.exception())
        return await asyncio.shield(task)

    async def _answer(self, text: str) -> UUID:
        try:
            return await self._ask(text)
        finally:
            del self._asked[text]
