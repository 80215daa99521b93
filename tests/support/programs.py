"""`mpesa-sync` as a long-running process of its own: what it says, when it is ready, and how it ends."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.cli import environment
from tests.support.faults import until

_START_S: Final = 60.0
STOP_S: Final = 30.0
"""Draining, the server's own grace, and the embedded server's stop, some 12 s: with room on a busy machine."""


@dataclass
class Program:
    """A process that runs. `said` is what it printed on stderr until now, `ready` what made it count as ready."""

    process: asyncio.subprocess.Process
    ready: re.Match[str]
    said: list[str]
    reading: asyncio.Task[None]

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code, once it has ended and all that it said is read.

        Raises:
            TimeoutError: it did not end in time.
        """
        self.process.send_signal(number)
        async with asyncio.timeout(STOP_S):
            code = await self.process.wait()
            await asyncio.shield(self.reading)
            return code

    async def until_it_says(self, words: str) -> None:
        """Wait until it has printed these words."""

        async def is_so() -> bool:
            return words in "".join(self.said)

        await until(is_so)


@asynccontextmanager
async def program(
    cwd: Path, *arguments: str, ready: re.Pattern[str], url: str | None, **variables: str
) -> AsyncIterator[Program]:
    """Start it and give it as soon as a line that it prints matches `ready`; it is killed if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mpesa_sync", *arguments),
        cwd=cwd,
        env=environment(url, **variables),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    said: list[str] = []
    reading = None
    try:
        async with asyncio.timeout(_START_S):
            while not (found := ready.search(said[-1] if said else "")):
                line = await process.stderr.readline()
                assert line, "".join(said)
                said.append(line.decode())
        reading = asyncio.create_task(_keep_reading(process.stderr, said))
        yield Program(process, found, said, reading)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        if reading is not None:
            await reading


async def _keep_reading(stream: asyncio.StreamReader, said: list[str]) -> None:
    while line := await stream.readline():
        said.append(line.decode())
