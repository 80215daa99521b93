"""Under faults (issue 4): 10,000 failures of one cause, and saves while one connection in twenty is cut."""

from __future__ import annotations

import asyncio
import gc
import random
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

from benchmarks.place import KEY, Row, make_fleet, plain
from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.backoff import Backoff
from mpesa_sync.db import embedded
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.errors import MpesaSyncError

BARS: Final = 1_000
CLIENTS: Final = 16
FAILURES: Final = 10_000
SWITCHES: Final = 4_000
CUT_SHARE: Final = 0.05
_PERCENTILES: Final = 100
_REFUSE: Final = """
create function public.refuse() returns trigger language plpgsql as $$
begin raise exception 'refused'; end $$;
create trigger refuse before update on public.bars for each row execute function public.refuse();
"""


def _bar(number: int) -> UUID:
    return UUID(f"00000000-0000-4000-8000-{number:012x}")


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


async def _failures(server: embedded.Server) -> Row:
    """Refuse every switch of one bar by a trigger; see how many alerts that makes, and what it leaves in memory."""
    url = await make_fleet(server, "bench_failures", 10, share=10)
    async with plain(url) as sql:
        await sql.execute("update public.bars set mpesa_enabled = false")
        await sql.execute(_REFUSE)
        with tempfile.TemporaryDirectory() as folder:
            async with connect(url, kms_keys=[KEY], alert_spool=Path(folder)) as database:
                manager = MpesaSyncManager(database)
                left = iter(range(FAILURES))

                async def client(numbers: Any) -> None:
                    for _ in numbers:
                        try:
                            await manager.sync_mpesa_status(_bar(1), True, actor="bench")
                        except MpesaSyncError:
                            continue
                        raise AssertionError("nothing was refused")

                await client(iter(range(500)))  # whatever is allocated once
                gc.collect()
                before = _rss_mib()
                began = time.monotonic()
                await asyncio.gather(*(client(left) for _ in range(CLIENTS)))
                took = time.monotonic() - began
                gc.collect()
                grown = _rss_mib() - before
        found = await sql.fetch("select state, count from mpesa_sync.alerts")
    assert [tuple(row) for row in found] == [("firing", FAILURES + 500)], found
    return Row(
        f"{FAILURES} failures of one cause",
        f"1 open alert, + {grown:.1f} MiB, {FAILURES / took:.0f}/s",
        f"{before:.0f} MiB before",
        (before + grown) / before,
        "flat",
    )


async def _switch(manager: MpesaSyncManager, waits: list[float]) -> None:
    began = time.monotonic()
    await manager.sync_mpesa_status(
        _bar(random.randint(1, BARS)), random.random() < 0.5, actor="bench", operation_id=uuid4()
    )
    waits.append(time.monotonic() - began)


async def _saves(url: str, proxy: TcpProxy, *, cut: bool) -> list[float]:
    """Switch for a while through the proxy; where `cut`, one switch in twenty loses its connection at its commit."""
    waits: list[float] = []
    async with connect(proxy.url_for(url), kms_keys=[KEY], pool_size=CLIENTS, retry=Backoff()) as database:
        manager = MpesaSyncManager(database)
        left = iter(range(SWITCHES))

        async def client() -> None:
            for _ in left:
                if cut and random.random() < CUT_SHARE:
                    random.choice([proxy.cut_before_commit, proxy.cut_after_commit])()
                await _switch(manager, waits)

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return sorted(waits)


def _p99_ms(waits: list[float]) -> float:
    return statistics.quantiles(waits, n=_PERCENTILES)[-1] * 1000


async def _cuts(server: embedded.Server) -> Row:
    url = await make_fleet(server, "bench_cuts", BARS, share=10)
    proxy = TcpProxy.before(url)
    async with proxy:
        calm = await _saves(url, proxy, cut=False)
        cut = await _saves(url, proxy, cut=True)
        cuts = sum(proxy.fired.values())
    assert cuts >= SWITCHES * CUT_SHARE / 2, cuts
    async with plain(url) as sql:
        applied = await sql.fetchval("select count(*) from mpesa_sync.operations where outcome = 'applied'")
    assert applied == 2 * SWITCHES, applied
    return Row(
        f"p99 of a switch, {cuts} of {SWITCHES} cut at their commit, {CLIENTS} clients",
        f"{_p99_ms(cut):.0f} ms (p50 {statistics.median(cut) * 1000:.0f} ms)",
        f"uncut {_p99_ms(calm):.0f} ms (p50 {statistics.median(calm) * 1000:.0f} ms)",
        _p99_ms(cut) / _p99_ms(calm),
        "",
    )


async def measure(server: embedded.Server) -> list[Row]:
    """Return both rows."""
    return [await _failures(server), await _cuts(server)]
