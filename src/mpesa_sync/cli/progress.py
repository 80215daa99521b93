"""Progress of a migration on stderr: a bar on a terminal, plain lines otherwise. Never above 100 %."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from mpesa_sync.cli import output
from mpesa_sync.migration.report import Progress as Moment

FIRST_LINES_S: Final = (1.0, 5.0)
LINES_EVERY_S: Final = 30.0
"""When plain lines come: after 1 s, after 5 s, then every 30 s."""
_WORDS: Final = {
    "detecting": "Looking at all bars",
    "correcting": "Correcting",
    "verifying": "Verifying: looking at all bars again",
}


def percent(moment: Moment) -> int:
    """Return how much of the phase is done, 0 to 100, rounded down: 100 only where nothing is left."""
    return min(100, 100 * moment.settled // moment.total) if moment.total else 0


def line(moment: Moment, elapsed_s: float) -> str:
    """Return one moment as a plain line."""
    parts = [_WORDS.get(moment.phase, moment.phase)]
    if moment.total:
        settled = min(moment.settled, moment.total)
        parts[0] += f": {settled:,} of {moment.total:,} bars ({percent(moment)} %)"
        parts += _outcomes(moment)
    return f"{', '.join(parts)}; {elapsed_s:.0f} s"


def _outcomes(moment: Moment) -> list[str]:
    report = moment.report
    counted = {"fixed": report.fixed, "already right": report.already_consistent, "quarantined": report.quarantined}
    return [f"{number:,} {words}" for words, number in counted.items() if number or words == "fixed"]


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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
    )
    console = Console(file=sys.stderr, highlight=False)
    with Progress(*columns, console=console, transient=True) as progress, _logs_above_the_bar():
        task = progress.add_task("", total=None, counts="")
        yield lambda moment: _draw(progress, task, moment)


def _draw(progress: Progress, task: TaskID, moment: Moment) -> None:
    counts = ""
    if moment.total:
        counts = f"{percent(moment)} % of {moment.total:,}, {moment.report.fixed:,} fixed"
        if moment.report.quarantined:
            counts += f", {moment.report.quarantined:,} quarantined"
    progress.update(
        task,
        description=_WORDS.get(moment.phase, moment.phase).partition(":")[0],
        total=moment.total or None,
        completed=min(moment.settled, moment.total),
        counts=counts,
    )


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
    due_s = FIRST_LINES_S[-1]
    while True:
        due_s += LINES_EVERY_S
        yield due_s
