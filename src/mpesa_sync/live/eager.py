"""`begun`: runs a coroutine up to where it has to wait, so that one that need not wait costs no task."""

from __future__ import annotations

import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import Any


def begun(work: Coroutine[Any, Any, None]) -> Awaitable[None] | None:
    """Run a coroutine until it waits; return the rest of it, None where it has ended.

    It must not ask for the current task before it waits: that is the caller's, or none.

    Raises:
        Whatever it raises before it waits.
    """
    try:
        awaited = work.send(None)
    except StopIteration:
        return None
    return _rest(work, awaited)


@types.coroutine
def _rest(work: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, None, None]:
    while True:
        resume: Callable[[], Any] = partial(work.send, None)
        try:
            yield awaited
        except BaseException as exc:  # noqa: BLE001 - it is the coroutine's, as a cancellation is
            resume = partial(work.throw, exc)
        try:
            awaited = resume()
        except StopIteration:
            return
