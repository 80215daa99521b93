"""Progress of a migration on stderr: one line on a terminal, plain lines otherwise. Never above 100 %."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from mpesa_sync.cli import output
from mpesa_sync.cli.progress_line import fitted, line, percent
from mpesa_sync.migration.report import Progress as Moment

__all__ = ["drawn", "line", "on_a_terminal", "percent", "shown"]

FIRST_LINES_S: Final = (1.0, 5.0)
LINES_EVERY_S: Final = 30.0
"""When plain lines come: after 1 s, 5 s, 30 s, and every 30 s from there."""
REDRAWN_PER_S: Final = 5
_BAR_WIDTH: Final = 20
_LEAST_WIDTH_WITH_BAR: Final = 100
"""Narrower terminals have better use for the room than a drawn bar."""


def on_a_terminal() -> bool:
    """Return whether stderr is a terminal that can redraw a line."""
    return sys.stderr.isatty() and not Console(file=sys.stderr).is_dumb_terminal


@asynccontextmanager
async def shown() -> AsyncIterator[Callable[[Moment], None]]:
    """Show progress inside the block; gives what is to be called at each moment."""
    if on_a_terminal():
        with _bar() as tell:
            yield tell
    else:
        async with _lines() as tell:
            yield tell


@contextmanager
def _bar() -> Iterator[Callable[[Moment], None]]:
    console = Console(file=sys.stderr, highlight=False)
    drawn = _Drawn()
    with (
        Live(drawn, console=console, transient=True, refresh_per_second=REDRAWN_PER_S),
        _logs_above_the_bar(),
    ):
        yield drawn.take


class _Drawn:
    """The line of the latest moment, drawn anew as time goes by and as wide as the terminal is by then."""

    def __init__(self) -> None:
        self._moment: Moment | None = None
        self._began = time.monotonic()

    def take(self, moment: Moment) -> None:
        self._moment = moment

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._moment is not None:
            yield drawn(self._moment, time.monotonic() - self._began, options.max_width, ascii_only=options.ascii_only)


def drawn(moment: Moment, elapsed_s: float, width: int, *, ascii_only: bool = False) -> Text:
    """Return one moment as one line of a terminal of `width` columns; the last one stays free, so it never wraps."""
    room, bar = width - 1, Text()
    if width >= _LEAST_WIDTH_WITH_BAR and moment.total > 0:
        full = _BAR_WIDTH * percent(moment) // 100
        bar.append(("#" if ascii_only else "━") * full, style="green")
        bar.append(("-" if ascii_only else "━") * (_BAR_WIDTH - full), style="dim")
        bar.append(" ")
    words = fitted(moment, elapsed_s, room - bar.cell_len)
    if ascii_only:
        words = words.encode("ascii", "replace").decode()
    text = bar.append(words, style="yellow" if moment.throttle else "cyan")
    text.no_wrap, text.overflow, text.end = True, "crop", ""
    return text


@contextmanager
def _logs_above_the_bar() -> Iterator[None]:
    """Send log lines through the stream that the bar has put in place of stderr, so that they do not tear it."""
    handlers = [
        handler for handler in logging.getLogger("mpesa_sync").handlers if type(handler) is logging.StreamHandler
    ]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)


@asynccontextmanager
async def _lines() -> AsyncIterator[Callable[[Moment], None]]:
    latest: list[Moment] = []
    ticker = asyncio.create_task(_tick(latest))
    try:
        yield lambda moment: latest.__setitem__(slice(None), [moment])
    finally:
        ticker.cancel()
        with suppress(asyncio.CancelledError):
            await ticker


async def _tick(latest: list[Moment]) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    for due_s in _due_times():
        await asyncio.sleep(started + due_s - loop.time())
        if latest:
            output.note(line(latest[0], loop.time() - started))


def _due_times() -> Iterator[float]:
    yield from FIRST_LINES_S
    due_s = 0.0
    while True:
        due_s += LINES_EVERY_S
        yield due_s
