"""`check` and `migrate` over large fleets against the single statements of spec section 8."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.place import Row, clone, drop, make_fleet, median, plain
from mpesa_sync import MpesaMigrationService, RunOptions, connect
from mpesa_sync.cli.check import Findings
from mpesa_sync.db import detection, embedded
from mpesa_sync.db.detection import FleetSummary
from mpesa_sync.migration import fleet
from mpesa_sync.migration.report import Progress

ROUNDS: Final = 3
CHECKS: Final = 9
"""A check is short: where others use the machine, too, three of each say little."""

_ONE_STATEMENT: Final = """
with truth as (
  select b.id, b.mpesa_enabled as previous, coalesce(c.active, false) as authority
    from public.bars b
    left join (select tenant_id, bool_or(is_active) as active from public.mpesa_credentials group by tenant_id) c
      on c.tenant_id = b.id
   where coalesce(b.mpesa_enabled, false) <> coalesce(c.active, false)
), changed as (
  update public.bars b set mpesa_enabled = t.authority from truth t where b.id = t.id
  returning b.id, t.previous, t.authority
)
insert into mpesa_sync.migration_journal (run_id, bar_id, previous, current)
select gen_random_uuid(), id, previous, authority from changed
"""
"""The same change and the same journal in one statement: fast, and not safe against live writers (races.md)."""


async def _bare_check(url: str) -> float:
    """Return the seconds in which a bare driver fetches the same query."""
    async with plain(url) as connection:
        began = time.perf_counter()
        async with connection.transaction(readonly=True):
            await connection.fetch(detection.DRIFT, True, timeout=600)
        return time.perf_counter() - began


async def _our_check(url: str) -> float:
    """Return the seconds of what `check --json` does with a fleet, on a connection that is there."""
    async with connect(url) as database:
        async with database.reading():
            pass
        began = time.perf_counter()
        findings = Findings(FleetSummary(0, 0, 0))
        await fleet.look(database, lambda: partial(findings.add, as_json=True))
        return time.perf_counter() - began


async def _one_statement(url: str) -> float:
    async with plain(url) as connection:
        began = time.perf_counter()
        await connection.execute(_ONE_STATEMENT, timeout=600)
        return time.perf_counter() - began


async def _migrate(url: str) -> dict[str, float]:
    """Return the seconds of the whole run and of its writing, and the milliseconds of its longest batch."""
    worst_ms, began, times = 0.0, time.perf_counter(), dict[str, float]()

    def see(progress: Progress) -> None:
        nonlocal worst_ms
        worst_ms = max(worst_ms, progress.batch_ms)
        times.setdefault(progress.phase, time.perf_counter() - began)

    async with connect(url) as database:
        run = await MpesaMigrationService(database).run(RunOptions(), progress=see)
    assert run.report.verified, run
    whole = time.perf_counter() - began
    return {"whole": whole, "writing": times["verifying"] - times["correcting"], "worst_ms": worst_ms}


def _peak_mib(url: str, *arguments: str) -> float:
    """Return the peak memory of the command line as a whole process, in MiB."""
    environment = {**os.environ, "MPESA_SYNC_DATABASE_URL": url}
    command = [sys.executable, "-m", "mpesa_sync", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    status, peak_kib = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        # Not ru_maxrss, which a child inherits from whoever forked it.
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        peak_kib = max(peak_kib, int(found[1]) if found else 0)
        time.sleep(0.01)
    assert process.returncode == 0, process.returncode
    return peak_kib / 1024


async def measure(server: embedded.Server, bars: int) -> list[Row]:
    """Measure `check`, `migrate` and their memory over a fleet of `bars` bars."""
    source = f"bench_fleet_{bars}"
    url = await make_fleet(server, source, bars, with_notices=False)
    checks = [(await _bare_check(url), await _our_check(url)) for _ in range(CHECKS + 1)][1:]
    bare, ours = (median([pair[side] for pair in checks]) for side in (0, 1))
    rows = [Row(f"check, {bars:,} bars", f"{ours:.2f} s", f"same query {bare:.2f} s", ours / bare, "≤ 1.2")]
    singles, runs = [], []
    for _ in range(ROUNDS):
        singles.append(await _one_statement(await clone(server, source, "bench_single")))
        runs.append(await _migrate(await clone(server, source, "bench_migrate")))
    limit, name = median(singles), f"migrate, {bars:,} bars"
    for part, goal in (("writing", "≤ 1.6"), ("whole", "≤ 2.5")):
        seconds = median([run[part] for run in runs])
        rows.append(Row(f"{name}, {part}", f"{seconds:.2f} s", f"one statement {limit:.2f} s", seconds / limit, goal))
    worst = max(run["worst_ms"] for run in runs)
    rows.append(Row(f"{name}, longest batch", f"{worst:.0f} ms", "200 ms", worst / 200, "≤ 1"))
    copy = await clone(server, source, "bench_migrate")
    peak = await asyncio.to_thread(_peak_mib, copy, "migrate", "--yes", "--json")
    idle = await asyncio.to_thread(_peak_mib, copy, "check", "--json")
    rows.append(Row(f"{name}, peak memory", f"{peak:.0f} MiB", f"check in sync {idle:.0f} MiB", peak / idle, "flat"))
    for database in ("bench_single", "bench_migrate", source):
        await drop(server, database)
    return rows
