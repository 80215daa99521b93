"""Random foreign writers against guards, watched by an observer that reads both fields in one statement."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from tests.support import databases
from tests.support.actors import FOREIGN, OURS, PAIRED
from tests.support.guarding import INSERT, drifted
from tests.support.interleaving import Machine, Tally
from tests.support.observer import see_all
from tests.support.venues import SEALED, add_bar

pytestmark = pytest.mark.prove

BARS: Final = 6
WRITERS: Final = 10
READS: Final = 3_000
ISOLATIONS: Final = ("read committed", "repeatable read", "serializable")
ROLES: Final = ("origin", "replica", "local")
LEGAL: Final = {"40001", "40P01", "23505", "0A000", "55006"}
"""Serialization, deadlock, a row that is there, TRUNCATE under an old snapshot, or of what this transaction wrote."""
DROP: Final = [
    *(
        f"drop trigger mpesa_sync_guard_{e} on public.mpesa_credentials"
        for e in ("insert", "update", "delete", "truncate")
    ),
    *(f"drop trigger mpesa_sync_guard_{e} on public.bars" for e in ("insert", "update")),
]


async def one_write(connection: Any, drawn: random.Random, bars: list[UUID]) -> None:
    """One to three statements of any program that knows nothing of us."""
    bar, environment = drawn.choice(bars), drawn.choice(["sandbox", "production"])
    on = drawn.choice([True, False, None])
    match drawn.choice(["row", "rows", "bars", "insert", "delete", "move", "many", "truncate", "savepoint"]):
        case "row":
            text = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1 and environment = $3"
            await connection.execute(text, bar, on, environment)
        case "rows":
            await connection.execute("update public.mpesa_credentials set is_active = $2 where tenant_id = $1", bar, on)
        case "bars":
            await connection.execute("update public.bars set mpesa_enabled = $2 where id = $1", bar, on)
        case "insert":
            await connection.execute(INSERT + " on conflict do nothing", bar, environment, *SEALED, on)
        case "delete":
            text = "delete from public.mpesa_credentials where tenant_id = $1 and environment = $2"
            await connection.execute(text, bar, environment)
        case "move":
            text = (
                "update public.mpesa_credentials set tenant_id = $2 where tenant_id = $1 and environment = $3 and not "
                "exists (select 1 from public.mpesa_credentials o where o.tenant_id = $2 and o.environment = $3)"
            )
            await connection.execute(text, bar, drawn.choice(bars), environment)
        case "many":
            await connection.execute("update public.mpesa_credentials set is_active = $1", on)
        case "truncate" if drawn.random() < 0.2:
            await connection.execute("truncate public.mpesa_credentials")
        case _:
            await connection.execute("savepoint s")
            await connection.execute("update public.bars set mpesa_enabled = $2 where id = $1", bar, on)
            if drawn.random() < 0.5:
                await connection.execute("rollback to savepoint s")


async def writer(url: str, seed: int, bars: list[UUID], stop: asyncio.Event, ended: Counter[str]) -> None:
    """Write in transactions of every kind until told to stop."""
    drawn = random.Random(seed)
    async with databases.plain(url) as connection:
        await connection.execute("set deadlock_timeout = '20ms'")
        while not stop.is_set():
            await connection.execute(f"begin isolation level {drawn.choice(ISOLATIONS)}")
            await connection.execute(f"set local session_replication_role = {drawn.choice(ROLES)}")
            try:
                for _ in range(drawn.randint(1, 3)):
                    await one_write(connection, drawn, bars)
                if drawn.random() < 0.1:
                    await connection.execute("set constraints all immediate")
                await connection.execute("commit")
                ended["committed"] += 1
            except asyncpg.PostgresError as exc:
                if exc.sqlstate not in LEGAL:
                    raise
                ended[str(exc.sqlstate)] += 1
                await connection.execute("rollback")


@pytest.mark.parametrize("guarded", [True, False], ids=["guarded", "twin-unguarded"])
async def test_an_observer_never_sees_a_drifted_state(guarded_url: str, guarded_sql: Any, guarded: bool) -> None:
    """G5: READ COMMITTED, REPEATABLE READ, SERIALIZABLE, replica role, TRUNCATE, moves, savepoints, both bars."""
    bars = [await add_bar(guarded_sql) for _ in range(BARS)]
    if not guarded:
        for statement in DROP:
            await guarded_sql.execute(statement)
    stop, ended, seen, reads = asyncio.Event(), Counter[str](), 0, 0
    tasks = [asyncio.create_task(writer(guarded_url, seed, bars, stop, ended)) for seed in range(WRITERS)]
    try:
        while reads < READS and (guarded or not seen):
            reads += 1
            seen += any(bar.drifted for bar in (await see_all(guarded_sql)).values())
            assert not [task for task in tasks if task.done()]
    finally:
        stop.set()
        await asyncio.gather(*tasks)
    print(reads, ended)
    assert bool(seen) == (not guarded)
    if guarded:
        assert await drifted(guarded_sql) == []
        assert ended["committed"] > 500
        assert ended["40001"] > 0


async def test_many_machines_find_no_drift(guarded_url: str) -> None:
    """G5: 100 seeds of the interleaving machine, ours and foreign writers, the state after every commit."""
    tally = Tally()
    for seed in range(100):
        kinds = (*OURS, *PAIRED, *FOREIGN)
        machine = Machine(guarded_url, seed, kinds, always_consistent=True, modelled=False, bars=1 + seed % 3)
        tally.add(await machine.run(100))
        assert tally.broken == []
    print(tally)
    assert sum(tally.committed.values()) > 1_000
