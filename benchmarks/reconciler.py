"""What a cycle of the reconciler costs when nothing drifts, against one bare detection query over the same bars."""

from __future__ import annotations

import time
from typing import Final

from benchmarks.place import Row, drop, make_fleet, median, plain
from mpesa_sync import connect
from mpesa_sync.db import detection, embedded
from mpesa_sync.sync.reconciler import Reconciler

ROUNDS: Final = 5
_SETTLE: Final = """
update public.bars b set mpesa_enabled = exists (
  select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
 where coalesce(b.mpesa_enabled, false) <> exists (
  select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
"""


async def measure(server: embedded.Server, bars: int) -> list[Row]:
    """Sweep a fleet without drift several times, each beside the bare query."""
    name = f"bench_reconciler_{bars}"
    url = await make_fleet(server, name, bars, with_notices=False)
    sweeps, slices, bare = [], list[float](), []
    async with plain(url) as sql:
        await sql.execute(_SETTLE, timeout=600)
        await sql.execute("vacuum analyze", timeout=600)
        async with connect(url) as database:
            reconciler = Reconciler(database)
            assert await reconciler.sweep() is not None  # the number of bars of a slice has found its measure
            for _ in range(ROUNDS):
                began = time.perf_counter()
                done = None
                while done is None or done.cycle is None:
                    slice_began = time.perf_counter()
                    done = await reconciler.slice(is_forced=True)
                    assert done is not None
                    slices.append(time.perf_counter() - slice_began)
                assert done.cycle.bars == bars
                assert (done.cycle.hidden, done.cycle.exposed) == (0, 0)
                sweeps.append(time.perf_counter() - began)
                began = time.perf_counter()
                async with sql.transaction(readonly=True):
                    await sql.fetch(detection.DRIFT, True, timeout=600)
                bare.append(time.perf_counter() - began)
    await drop(server, name)
    ours, limit = median(sweeps), median(bare)
    return [
        Row(
            f"a cycle of the reconciler, {bars:,} bars, nothing drifts",
            f"{ours * 1000:.0f} ms in {len(slices) // ROUNDS} slices, the longest {max(slices) * 1000:.0f} ms",
            f"one bare query {limit * 1000:.0f} ms",
            ours / limit,
            "slices <= 2 s, cycle <= 15 min",
        )
    ]
