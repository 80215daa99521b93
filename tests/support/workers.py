"""`mpesa-sync worker` as a process of its own."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.support.programs import Program, program

READY: Final = re.compile("jobs.started")


@asynccontextmanager
async def worker(cwd: Path, url: str | None, *channels: Any, **variables: str) -> AsyncIterator[Program]:
    """Start a worker with these channels and give it once it works; it is killed if it still runs."""
    named = {"MPESA_SYNC_ALERT_URLS": json.dumps([channel.reveal() for channel in channels])} if channels else {}
    async with program(cwd, "worker", ready=READY, url=url, **named, **variables) as started:
        yield started
