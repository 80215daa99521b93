"""`sync_mpesa_status` with 16 clients against pgbench running the same statements (spec 8: ≥ 0.5 ×)."""

from __future__ import annotations

import asyncio
import random
import time
from multiprocessing import get_context
from typing import Final
from uuid import UUID

from benchmarks import pgbench
from benchmarks.place import KEY, Row, make_fleet, median
from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db import embedded

BARS: Final = 1_000
SECONDS: Final = 8
ROUNDS: Final = 3

_STATEMENTS: Final = r"""
insert into mpesa_sync.operations (id, kind, bar_id, actor, reason, request)
values (('00000000-0000-4000-9000-' || lpad(to_hex(:op::bigint), 12, '0'))::uuid, 'switch',
        ('00000000-0000-4000-8000-' || lpad(to_hex(:bar::bigint), 12, '0'))::uuid, 'bench', '',
        '{"is_active": true}'::jsonb)
on conflict (id) do nothing returning true;
select * from mpesa_sync.lock_bar_v1(('00000000-0000-4000-8000-' || lpad(to_hex(:bar::bigint), 12, '0'))::uuid, true);
select * from mpesa_sync.write_status_v1(('00000000-0000-4000-8000-' || lpad(to_hex(:bar::bigint), 12, '0'))::uuid,
                                         case when :on::int = 1 then 'production' end);
select mpesa_sync.finish_operation_v1(
  ('00000000-0000-4000-9000-' || lpad(to_hex(:op::bigint), 12, '0'))::uuid,
  '{"credentials": {"production": true}, "mpesa_enabled": true}'::jsonb,
  case when :on::int = 1 then '{"credentials": {"production": true}, "mpesa_enabled": true}'::jsonb
       else '{"credentials": {"production": false}, "mpesa_enabled": false}'::jsonb end,
  '{"success": true, "credentials_updated": true, "bar_status_updated": true, "changed": true}'::jsonb,
  'mpesa' || chr(58) || 'switched_on');
commit;
"""


_SCRIPT: Final = (
    f"\\set op random(1, 200000000000000)\n\\set bar random(1, {BARS})\n\\set on random(0, 1)\n-- begin\n{_STATEMENTS}"
)


async def _clients(url: str, clients: int) -> int:
    """Switch random bars for a while and return how often."""
    done = 0
    until = time.monotonic() + SECONDS
    async with connect(url, kms_keys=[KEY], pool_size=clients) as database:
        manager = MpesaSyncManager(database)

        async def client() -> None:
            nonlocal done
            while time.monotonic() < until:
                bar = UUID(f"00000000-0000-4000-8000-{random.randint(1, BARS):012x}")
                await manager.sync_mpesa_status(bar, random.random() < 0.5, actor="bench")
                done += 1

        await asyncio.gather(*(client() for _ in range(clients)))
    return done


def _process(url: str, clients: int) -> int:
    return asyncio.run(_clients(url, clients))


def _ours(url: str, processes: int) -> float:
    """Return our operations per second with 16 clients spread over so many processes."""
    with get_context("fork").Pool(processes) as pool:
        counts = pool.starmap(_process, [(url, pgbench.CLIENTS // processes)] * processes)
    return sum(counts) / SECONDS


async def measure(server: embedded.Server) -> list[Row]:
    """Run both in turn and return a row for one process and one for two."""
    url = await make_fleet(server, "bench_sync", BARS, share=10)
    figures: dict[str, list[float]] = {"simple": [], "prepared": [], "one": [], "two": []}
    for _ in range(ROUNDS):
        for protocol in ("simple", "prepared"):
            ran = await asyncio.to_thread(pgbench.run, server, url, _SCRIPT, protocol=protocol, seconds=SECONDS)
            figures[protocol].append(ran.rate)
        figures["one"].append(await asyncio.to_thread(_ours, url, 1))
        figures["two"].append(await asyncio.to_thread(_ours, url, 2))
    limit = max(median(figures["simple"]), median(figures["prepared"]))
    return [
        Row(
            f"sync_mpesa_status, {pgbench.CLIENTS} clients, {words}",
            f"{median(figures[name]):.0f}/s",
            f"pgbench {limit:.0f}/s",
            median(figures[name]) / limit,
            "≥ 0.5",
        )
        for name, words in (("one", "one process"), ("two", "two processes"))
    ]
