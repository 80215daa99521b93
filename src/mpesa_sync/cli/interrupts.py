"""Ctrl-C: once asks for an orderly end, twice ends the process at once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from mpesa_sync.cli.exit_codes import ExitCode

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR: Final = b"\x1b[?25h"
_AT_ONCE: Final = (
    b"\nStopped at once. The server rolls back what was not committed; nothing is half done.\n"
    b"To go on, run the same command again.\n"
)


class Interrupts:
    """Counts interruptions while it is installed. `asked` says whether there was one.

    Arguments:
        on_first: called in the event loop at the first one.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self._on_first = on_first
        self._loop = asyncio.get_running_loop()
        self.asked = False

    def _hit(self, _signal: int, _frame: FrameType | None) -> None:
        if self.asked:
            _end_at_once()
        self.asked = True
        self._loop.call_soon_threadsafe(self._on_first)


def _end_at_once() -> NoReturn:
    """End without unwinding: the connection drops, and the server rolls the open transaction back."""
    if sys.stderr.isatty():
        os.write(2, _SHOW_CURSOR)
    os.write(2, _AT_ONCE)
    os._exit(ExitCode.INTERRUPTED)


@contextmanager
def orderly(on_first: Callable[[], None]) -> Iterator[Interrupts]:
    """Take SIGINT and SIGTERM as requests for an orderly end, inside the block."""
    interrupts = Interrupts(on_first)
    before = {number: signal.signal(number, interrupts._hit) for number in _SIGNALS}
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
