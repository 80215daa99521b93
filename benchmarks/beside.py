"""Staff who switch while a migration runs: 50 switches a second, their p99 beside that of a quiet database (spec 8)."""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

from benchmarks.place import KEY, Row, clone, drop, make_fleet, plain
from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db import embedded

RATE: Final = 50
"""Switches a second. Each begins at its time, whether those before it have ended or not, and is timed from there."""
QUIET_S: Final = 15.0
ROUNDS: Final = 3

_WITH_CREDENTIALS: Final = "select tenant_id from public.mpesa_credentials order by random() limit 20000"


async def _switches(manager: MpesaSyncManager, bars: list[UUID], goes_on: Callable[[], bool]) -> list[float]:
    """Switch random bars at the rate until told to stop; return the milliseconds that each took."""
    took: list[float] = []

    async def switch(due: float) -> None:
        await manager.sync_mpesa_status(random.choice(bars), random.random() < 0.5, actor="bench")
        took.append((time.perf_counter() - due) * 1000)

    began = due = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        while goes_on():
            tasks.create_task(switch(due))
            due += 1 / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
    assert len(took) >= 0.9 * RATE * (time.perf_counter() - began), "the clients kept their rate"
    return took


async def _round(url: str) -> tuple[list[float], list[float]]:
    """Return what the switches took on a quiet database, and beside a migration, which is a process of its own."""
    async with plain(url) as connection:
        bars = [record["tenant_id"] for record in await connection.fetch(_WITH_CREDENTIALS)]
    async with connect(url, kms_keys=[KEY], pool_size=16) as database:
        manager = MpesaSyncManager(database)
        end = time.perf_counter() + QUIET_S
        quiet = await _switches(manager, bars, lambda: time.perf_counter() < end)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mpesa_sync", "migrate", "--yes", "--json"),
            env={**os.environ, "MPESA_SYNC_DATABASE_URL": url},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        beside = await _switches(manager, bars, lambda: process.returncode is None)
    assert process.returncode == 0, process.returncode
    return quiet, beside


async def measure(server: embedded.Server, bars: int) -> list[Row]:
    """Measure switches beside a migration of `bars` bars; p50 and p99 over all rounds."""
    source = f"bench_fleet_{bars}"
    await make_fleet(server, source, bars, with_notices=False)
    quiet, beside = list[float](), list[float]()
    for _ in range(ROUNDS):
        before, during = await _round(await clone(server, source, "bench_beside"))
        quiet += before
        beside += during
    for database in ("bench_beside", source):
        await drop(server, database)
    rows = []
    for name, percent, goal in (("p50", 50, ""), ("p99", 99, "≤ 2")):
        ours, limit = (statistics.quantiles(times, n=100)[percent - 1] for times in (beside, quiet))
        what = f"{RATE} switches/s beside migrate of {bars:,} bars, {name} of {len(beside):,}"
        rows.append(Row(what, f"{ours:.1f} ms", f"quiet {limit:.1f} ms", ours / limit, goal))
    return rows
