"""`mpesa-sync serve` as a process of its own, and its address as it prints it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.programs import Program, program

_SERVING: Final = re.compile(r"Serving on (http://\S+):")


@dataclass
class Served(Program):
    """A serving process."""

    @property
    def url(self) -> str:
        """Where it serves."""
        return self.ready[1]


@asynccontextmanager
async def served(cwd: Path, *arguments: str, url: str | None = None, **variables: str) -> AsyncIterator[Served]:
    """Start `serve` on a free port and give it as soon as it says its address; it is killed if it still runs."""
    begin = ("serve", "--port", "0", *arguments)
    async with program(cwd, *begin, ready=_SERVING, url=url, **variables) as started:
        yield Served(started.process, started.ready, started.said, started.reading)
