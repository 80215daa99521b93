"""Two serving processes with thousands of open pages: replaced one after the other, and killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.processes import KEYED, is_running, serving_pids, switching, until_said
from tests.support.serving import served
from tests.support.stream_clients import open_clients
from tests.support.venues import add_bar

pytestmark = [pytest.mark.prove, pytest.mark.usefixtures("many_files")]

STREAMS: Final = 2_000
BARS: Final = 20


async def test_a_rolling_restart_loses_no_page_and_takes_none_back(tmp_path: Path, sql: Any, database_url: str) -> None:
    """L3, L4: both processes are replaced while bars are switched; every page is told, comes back, and ends right."""
    bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(BARS)]
    async with served(tmp_path, "--workers", "2", url=database_url, **KEYED) as serving:
        before = serving_pids(serving.process.pid)
        async with open_clients(serving.url, bars, STREAMS) as clients:
            async with switching(database_url, bars, seed=1) as truth:
                serving.process.send_signal(signal.SIGHUP)
                await until_said(serving, "workers.replaced", 2)
            await clients.until_shown(truth)
            assert [client for client in clients.all if client.went_back] == []
            assert clients.ends() == {"bye": clients.ends()["bye"]}, "each was told; none lost, refused or reset"
            assert all(client.ends["bye"] >= 1 for client in clients.all)
        after = serving_pids(serving.process.pid)
        assert (len(before), len(after), before & after) == (2, 2, set())
        assert await serving.stop() == 0


async def test_a_killed_process_takes_half_of_the_pages_along_and_they_come_back_right(
    tmp_path: Path, sql: Any, database_url: str
) -> None:
    """L3, L4: SIGKILL, with bars being switched; the other process stays, another one comes."""
    bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(BARS)]
    async with served(tmp_path, "--workers", "2", url=database_url, **KEYED) as serving:
        victim = min(serving_pids(serving.process.pid))
        async with open_clients(serving.url, bars, STREAMS) as clients:
            async with switching(database_url, bars, seed=2) as truth:
                os.kill(victim, signal.SIGKILL)
                await until_said(serving, "workers.died", 1)
                await until_said(serving, "feed.live", 3)
            await clients.until_shown(truth)
            assert [client for client in clients.all if client.went_back] == []
            assert set(clients.ends()) == {"lost"}, "a killed process says nothing"
            assert 0.3 * STREAMS < clients.ends()["lost"] < 0.7 * STREAMS, "the kernel spreads them evenly"
        assert not is_running(victim)
        assert len(serving_pids(serving.process.pid)) == 2
        assert await serving.stop() == 0
