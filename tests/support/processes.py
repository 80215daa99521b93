"""The serving processes of one `serve --workers N`, as the operating system and its log name them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from tests.support import databases
from tests.support.faults import until
from tests.support.live_crowd import offered
from tests.support.live_hub import switch
from tests.support.serving import Served
from tests.support.venues import KEY

KEYED: Final = {"MPESA_KMS_KEY": KEY.reveal(), "MPESA_SYNC_LOG_LEVEL": "info"}


def serving_pids(parent: int) -> set[int]:
    """Return the processes that another one has started and that run."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, ppid = status.read_text().rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.add(int(status.parent.name))
    return found


def is_running(pid: int) -> bool:
    """Return whether a process runs, and is not waited for as a dead one."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


async def until_said(serving: Served, words: str, times: int) -> None:
    """Wait until the log has named something so many times."""

    async def is_so() -> bool:
        return "".join(serving.said).count(words) >= times

    await until(is_so, deadline_s=90)


@asynccontextmanager
async def switching(url: str, bars: Sequence[UUID], seed: int) -> AsyncIterator[dict[UUID, tuple[str, ...]]]:
    """Switch random bars for as long as the block lasts; what each then offers stands in the mapping at its end."""
    drawn, done, truth = random.Random(seed), asyncio.Event(), dict[UUID, tuple[str, ...]]()

    async def write(connection: Any) -> None:
        while not done.is_set():
            await switch(connection, drawn.choice(bars), drawn.random() < 0.5)
            with suppress(TimeoutError):
                async with asyncio.timeout(0.02):
                    await done.wait()

    async with databases.plain(url) as connection:
        writing = asyncio.create_task(write(connection))
        try:
            yield truth
        finally:
            done.set()
            await writing
        truth.update({bar: tuple(await offered(connection, bar)) for bar in bars})
