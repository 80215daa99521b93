"""`sync_mpesa_status` with 16 clients against pgbench running the same statements (spec 8: ≥ 0.5 ×)."""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from benchmarks.place import KEY, Row, make_fleet, median
from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db import embedded, session

BARS: Final = 1_000
CLIENTS: Final = 16
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
update mpesa_sync.operations
   set before = '{"credentials": {"production": true}, "mpesa_enabled": true}'::jsonb,
       after = '{"credentials": {"production": true}, "mpesa_enabled": true}'::jsonb,
       result = '{"success": true, "credentials_updated": true, "bar_status_updated": true, "changed": true}'::jsonb
 where id = ('00000000-0000-4000-9000-' || lpad(to_hex(:op::bigint), 12, '0'))::uuid;
commit;
"""


def _script(begin: str) -> str:
    draw = f"\\set op random(1, 200000000000000)\n\\set bar random(1, {BARS})\n\\set on random(0, 1)\n"
    return draw + begin + _STATEMENTS


def _pgbench(server: embedded.Server, url: str, protocol: str) -> float:
    """Return pgbench's transactions per second. The transaction begins with one round trip, as ours does."""
    begin = session.WRITE.sql.strip()
    if protocol == "simple":
        begin = begin.replace(";", " \\;").removesuffix(" \\;") + ";"
    parts = urlsplit(url)
    target = ["-h", str(parts.hostname), "-p", str(parts.port), "-U", str(parts.username), parts.path.lstrip("/")]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "switch.sql"
        script.write_text(_script(begin))
        arguments = [
            "-n",
            "-c",
            str(CLIENTS),
            "-j",
            "2",
            "-T",
            str(SECONDS),
            "-M",
            protocol,
            "-f",
            str(script),
            *target,
        ]
        done = subprocess.run(
            [server.bin_dir / "pgbench", *arguments],
            env={**os.environ, "PGPASSWORD": str(parts.password)},
            capture_output=True,
            text=True,
            check=False,
        )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stderr[-2000:]
    return float(found[1])


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
        counts = pool.starmap(_process, [(url, CLIENTS // processes)] * processes)
    return sum(counts) / SECONDS


async def measure(server: embedded.Server) -> list[Row]:
    """Run both in turn and return a row for one process and one for two."""
    url = await make_fleet(server, "bench_sync", BARS, share=10)
    figures: dict[str, list[float]] = {"simple": [], "prepared": [], "one": [], "two": []}
    for _ in range(ROUNDS):
        for protocol in ("simple", "prepared"):
            figures[protocol].append(await asyncio.to_thread(_pgbench, server, url, protocol))
        figures["one"].append(await asyncio.to_thread(_ours, url, 1))
        figures["two"].append(await asyncio.to_thread(_ours, url, 2))
    limit = max(median(figures["simple"]), median(figures["prepared"]))
    return [
        Row(
            f"sync_mpesa_status, {CLIENTS} clients, {words}",
            f"{median(figures[name]):.0f}/s",
            f"pgbench {limit:.0f}/s",
            median(figures[name]) / limit,
            "≥ 0.5",
        )
        for name, words in (("one", "one process"), ("two", "two processes"))
    ]
