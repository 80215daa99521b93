"""What guards cost other programs and us, with pgbench: unrelated updates, flips of one field or both, our switch."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks import pgbench
from benchmarks.place import Row, make_fleet, median, plain
from mpesa_sync.db import embedded
from mpesa_sync.db.pool import connect
from mpesa_sync.sync import guards

BARS: Final = 1_000
SECONDS: Final = 4
ROUNDS: Final = 3

_BAR: Final = "('00000000-0000-4000-8000-' || lpad(to_hex(:bar::bigint), 12, '0'))::uuid"
_DRAW: Final = f"\\set bar random(1, {BARS})\n\\set on random(0, 1)\n-- begin\n"
_CREDENTIALS: Final = f"update public.mpesa_credentials set is_active = :on::int = 1 where tenant_id = {_BAR};\n"
_BARS: Final = f"update public.bars set mpesa_enabled = :on::int = 1 where id = {_BAR};\n"
WRITES: Final = {
    "unrelated update of bars": f"update public.bars set updated_at = now() where id = {_BAR};\n",
    "unrelated update of credentials": (
        f"update public.mpesa_credentials set business_shortcode = '600123' where tenant_id = {_BAR};\n"
    ),
    "both fields, credentials first": _CREDENTIALS + _BARS,
    "credentials alone (carried)": _CREDENTIALS,
    "bars alone (healed)": _BARS,
    "our own switch": (
        f"select * from mpesa_sync.lock_bar_v1({_BAR}, false);\n"
        f"select * from mpesa_sync.write_status_v1({_BAR}, case when :on::int = 1 then 'production' end);\n"
    ),
}


async def measure(server: embedded.Server) -> list[Row]:
    """Run each write in turn without and with guards, notices on in both; return a row for each."""
    bare = await make_fleet(server, "bench_unguarded", BARS, share=10)
    guarded = await make_fleet(server, "bench_guarded", BARS, share=10)
    async with connect(guarded) as database:
        await guards.install(database)
    rows = []
    for name, statements in WRITES.items():
        rates: dict[str, list[float]] = {bare: [], guarded: []}
        waits: dict[str, list[float]] = {bare: [], guarded: []}
        for _ in range(ROUNDS):
            for url in (bare, guarded):
                script = _DRAW + statements + "commit;\n"
                ran = await asyncio.to_thread(pgbench.run, server, url, script, protocol="prepared", seconds=SECONDS)
                rates[url].append(ran.rate)
                waits[url].append(ran.latency_ms)
        limit, without_ms = median(rates[bare]), median(waits[bare])
        rows.append(
            Row(
                f"guards, {pgbench.CLIENTS} clients: {name}",
                f"{median(rates[guarded]):.0f}/s, + {median(waits[guarded]) - without_ms:.2f} ms",
                f"without {limit:.0f}/s, {without_ms:.2f} ms",
                median(rates[guarded]) / limit,
                "≈ 1" if name.startswith("unrelated") else "",
            )
        )
    async with plain(guarded) as connection:
        assert await connection.fetchval("select count(*) from mpesa_sync.guard_hits") > 0
    return rows
