"""Background tasks that do not die silently: whatever goes wrong is logged, and the work goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from mpesa_sync.clock import Clock
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("live")
_PAUSE_S: Final = 0.5


async def for_ever(name: str, clock: Clock, work: Callable[[], Awaitable[None]]) -> None:
    """Do `work` again and again until cancelled; after an error it goes on half a second later."""
    while True:
        try:
            await work()
        except Exception as exc:  # noqa: BLE001 - a background task must not end by it; it is logged
            report(name, exc)
            await clock.sleep(_PAUSE_S)


def report(name: str, exc: BaseException) -> None:
    """Log what a background task met: our own errors by their code, others with their traceback."""
    if isinstance(exc, MpesaSyncError):
        _log.warning(Event.FEED_TASK_FAILED, task=name, error=exc.code, sqlstate=exc.sqlstate)
    else:
        _log.error(Event.FEED_TASK_FAILED, task=name, error=type(exc).__name__, exc_info=exc)


class Tasks:
    """Tasks that belong together: kept alive by being held, reported when they fail, cancelled together."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in a task of its own."""
        task = asyncio.create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            report(task.get_name(), exc)

    async def stop(self) -> None:
        """Cancel every task and wait until the last has ended."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
