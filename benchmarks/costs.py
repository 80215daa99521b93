"""What operation id, audit, copies and notice of one switch cost, each alone, with pgbench (issue 4)."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks import pgbench
from benchmarks.place import Row, make_fleet, median
from mpesa_sync.db import embedded

BARS: Final = 1_000
SECONDS: Final = 6
ROUNDS: Final = 3

_BAR: Final = "('00000000-0000-4000-8000-' || lpad(to_hex(:bar::bigint), 12, '0'))::uuid"
_OPERATION: Final = "('00000000-0000-4000-9000-' || lpad(to_hex(:op::bigint), 12, '0'))::uuid"
_STATE: Final = """'{"credentials": {"production": true}, "mpesa_enabled": true}'::jsonb"""
_RESULT: Final = (
    """'{"success": true, "credentials_updated": true, "bar_status_updated": true, "changed": true}'::jsonb"""
)

_CLAIM: Final = f"""
insert into mpesa_sync.operations (id, kind, bar_id, actor, reason, request)
values ({_OPERATION}, 'switch', {_BAR}, 'bench', '', '{{"is_active": true}}'::jsonb)
on conflict (id) do nothing returning true;
"""
_PAIR: Final = f"""
select 1 from public.mpesa_credentials where tenant_id = {_BAR} order by id for update;
select 1 from public.bars where id = {_BAR} for update;
update public.mpesa_credentials set is_active = :on::int = 1
 where tenant_id = {_BAR} and is_active is distinct from (:on::int = 1);
update public.bars set mpesa_enabled = :on::int = 1 where id = {_BAR} and mpesa_enabled is distinct from (:on::int = 1);
"""
_AUDIT: Final = f"""
insert into mpesa_sync.operations (id, kind, bar_id, actor, request, before, after, result)
values ({_OPERATION}, 'switch', {_BAR}, 'bench', '{{}}'::jsonb, {_STATE}, {_STATE}, {_RESULT})
on conflict (id) do nothing;
"""
_COPIES: Final = f"""
select mpesa_sync.courtesy_copy_v1({_BAR}, {_OPERATION}, 'bench', null, 'mpesa' || chr(58) || 'switched_on',
                                   'production', {_STATE}, '{{"mpesa_enabled": false}}'::jsonb);
"""
_NOTICE: Final = f"select mpesa_sync.notice_v1({_BAR});\n"
_COMMIT: Final = "commit;\n"
_DRAW: Final = f"\\set op random(1, 200000000000000)\n\\set bar random(1, {BARS})\n\\set on random(0, 1)\n-- begin\n"

VARIANTS: Final = {
    "the two fields alone": _PAIR,
    "and an operation id": _CLAIM + _PAIR,
    "and an audit entry": _PAIR + _AUDIT,
    "and the platform's copies": _PAIR + _COPIES,
    "and a notice with a new version": _PAIR + _NOTICE,
}


async def measure(server: embedded.Server) -> list[Row]:
    """Run each in turn, several times, and return a row for each beside the two fields alone."""
    url = await make_fleet(server, "bench_costs", BARS, share=10, with_notices=False)
    rates: dict[str, list[float]] = {name: [] for name in VARIANTS}
    waits: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(ROUNDS):
        for name, statements in VARIANTS.items():
            ran = await asyncio.to_thread(
                pgbench.run, server, url, _DRAW + statements + _COMMIT, protocol="prepared", seconds=SECONDS
            )
            rates[name].append(ran.rate)
            waits[name].append(ran.latency_ms)
    alone, *others = VARIANTS
    limit, bare_ms = median(rates[alone]), median(waits[alone])
    return [
        Row(
            f"cost of one switch, {pgbench.CLIENTS} clients: {name}",
            f"{median(rates[name]):.0f}/s, + {median(waits[name]) - bare_ms:.2f} ms",
            f"{alone} {limit:.0f}/s, {bare_ms:.2f} ms",
            median(rates[name]) / limit,
            "",
        )
        for name in others
    ]
