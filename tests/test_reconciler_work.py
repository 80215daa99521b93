"""The reconciler as background work: a real worker that hears of drift, and goes on with a sweep that is overdue."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import TransientFault
from mpesa_sync.jobs import worker as work
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.sync import reconciler_alerts
from mpesa_sync.sync.reconciler import Reconciler, Rhythm
from tests.support.databases import plain
from tests.support.faults import QUICK, backends, until
from tests.support.observer import see, see_all
from tests.support.venues import KEY, add_bar
from tests.support.workers import worker

_LISTENER: Final = "mpesa-sync reconciler"
_DRIFTED: Final = """
select count(*) from public.bars b
 where coalesce(b.mpesa_enabled, false) <> exists (
   select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
"""
_END_LISTENER: Final = """
select pg_terminate_backend(pid) from pg_stat_activity where application_name = $1 and datname = current_database()
"""
_SLOW_SWEEP: Final = Pace(sweep_every_s=3_000.0)


@asynccontextmanager
async def working(database: Database, url: str, pace: Pace = _SLOW_SWEEP) -> AsyncIterator[None]:
    """Do background work in this process."""
    async with work.running(await work.prepared(database, Secret(url), Settings(), pace)):
        yield


async def swept(sql: Any, cycles: int = 1) -> None:
    """Wait until so many cycles have come to their end."""

    async def is_so() -> bool:
        return bool(await sql.fetchval("select count(*) >= $1 from mpesa_sync.reconciler_cycles", cycles))

    await until(is_so)


async def in_sync(sql: Any, *, deadline_s: float = 15.0) -> None:
    """Wait until no bar is drifted."""

    async def is_so() -> bool:
        return not await sql.fetchval(_DRIFTED)

    await until(is_so, deadline_s=deadline_s)


async def listening(sql: Any, backends_there: int = 1) -> None:
    async def is_so() -> bool:
        return await backends(sql, _LISTENER, state="idle") == backends_there

    await until(is_so)


async def test_a_worker_repairs_noticed_drift_within_five_seconds(tmp_path: Path, sql: Any, database_url: str) -> None:
    """C: a legacy writer's half of a change, heard by a real worker; its sweep, long over, is not what found it."""
    bars = [await add_bar(sql, production=False) for _ in range(3)]
    async with worker(tmp_path, database_url) as running:
        await swept(sql)
        await listening(sql)
        began = time.monotonic()
        await sql.execute("update public.mpesa_credentials set is_active = true")
        await in_sync(sql, deadline_s=5.0)
        assert time.monotonic() - began < 5.0
        await running.until_it_says("reconciler.noticed")  # said when it has committed, which others see first
        assert await running.stop() == 0
    assert [(await see(sql, bar)).mpesa_enabled for bar in bars] == [True] * 3  # type: ignore[union-attr]  # they are there
    assert await sql.fetchval("select count(*) from mpesa_sync.operations where actor = 'reconciler'") == 3
    assert await sql.fetchval("select count(*) from mpesa_sync.reconciler_cycles") == 1


async def test_a_worker_that_starts_does_at_once_what_is_overdue(tmp_path: Path, sql: Any, database_url: str) -> None:
    """races.md: a reconciler that sleeps before its first run never runs; `observe` of the setting repairs nothing."""
    await add_bar(sql, production=True)
    async with worker(tmp_path, database_url, MPESA_SYNC_RECONCILE="observe") as running:
        await swept(sql)
        assert await running.stop() == 0
    assert await sql.fetchval(_DRIFTED) == 1
    await sql.execute("update mpesa_sync.reconciler set next_run = now() - interval '1 h'")
    async with worker(tmp_path, database_url) as running:
        await in_sync(sql, deadline_s=10.0)
        assert await running.stop() == 0


async def test_truncate_and_a_lost_listener_are_a_sweep_at_once(db: Database, sql: Any, database_url: str) -> None:
    """C: after TRUNCATE any bar may have drifted; what is said while nobody listens is found soon."""
    await add_bar(sql, production=True, mpesa_enabled=True)
    async with working(db, database_url):
        await swept(sql)
        await listening(sql)
        await sql.execute("truncate public.mpesa_credentials")
        await in_sync(sql)
        await swept(sql, 2)
        cycles = await sql.fetchval("select count(*) from mpesa_sync.reconciler_cycles")
        await sql.execute(_END_LISTENER, _LISTENER)
        await swept(sql, cycles + 1)
        await listening(sql)
    assert [seen.mpesa_enabled for seen in (await see_all(sql)).values()] == [False]


async def test_whatever_is_notified_ends_no_listening(db: Database, sql: Any, database_url: str) -> None:
    """Odd input: anybody may NOTIFY; a payload that is no id is passed over, a bar that is not there is not drifted."""
    bar = await add_bar(sql, production=False)
    async with working(db, database_url):
        await swept(sql)
        await listening(sql)
        for payload in ("", "x", "'", "00000000", str(UUID(int=5)), "*" * 7000):
            await sql.execute("select pg_notify('mpesa_sync', $1)", payload)
        await sql.execute("update public.bars set mpesa_enabled = true where id = $1", bar)
        await in_sync(sql, deadline_s=5.0)
    assert [found.mpesa_enabled for found in (await see_all(sql)).values()] == [False]
    assert await sql.fetchval("select count(*) from mpesa_sync.operations where actor = 'reconciler'") == 1


async def test_that_no_sweep_ends_is_said_once_and_answered_by_the_next(db: Database, sql: Any) -> None:
    """C: its own staleness is reported; not where a sweep ended in time."""
    await reconciler_alerts.tell_if_stale(db, Rhythm().stale_after_s)
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts") == 0
    await sql.execute("update mpesa_sync.reconciler set last_success = now() - interval '31 minutes'")
    for _ in range(2):
        await reconciler_alerts.tell_if_stale(db, Rhythm().stale_after_s)
    alert = "select kind, state, count from mpesa_sync.alerts"
    assert [tuple(record) for record in await sql.fetch(alert)] == [("reconciler_stale", "firing", 1)]
    assert await Reconciler(db).sweep() is not None
    assert [tuple(record) for record in await sql.fetch(alert)] == [("reconciler_stale", "resolved", 1)]


async def _legacy(url: str, bars: list[UUID], seed: int, ended: asyncio.Event) -> None:
    """Write one field or the other, in one transaction or in two, in any order of locks; a deadlock is tried again."""
    drawn = random.Random(seed)
    async with plain(url) as sql:
        while not ended.is_set():
            bar, on = drawn.choice(bars), drawn.random() < 0.5
            statements = [
                ("update public.mpesa_credentials set is_active = $2 where tenant_id = $1", bar, on),
                ("update public.bars set mpesa_enabled = $2 where id = $1", bar, on),
            ]
            drawn.shuffle(statements)
            try:
                async with sql.transaction():
                    for statement in statements[: drawn.choice((1, 2))]:
                        await sql.execute(*statement)
            except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError):
                continue


async def _staff(database: Database, bars: list[UUID], seed: int, ended: asyncio.Event) -> int:
    """Save, and return how many saves were confirmed; beside deadlocks of a second each, one may end as busy."""
    drawn, manager, saved = random.Random(seed), MpesaSyncManager(database), 0
    while not ended.is_set():
        with contextlib.suppress(TransientFault):
            await manager.sync_mpesa_status(drawn.choice(bars), drawn.random() < 0.5)
            saved += 1
    return saved


async def test_random_writers_leave_no_drift_behind(sql: Any, database_url: str) -> None:
    """Issue 5: legacy single-field writers and staff saves against the reconciler: 0 drift once they are quiet.

    The writers lock in any order, so they end each other by deadlocks; that a save or a repair was busy is all that may
    be told beside the drift.
    """
    bars = [await add_bar(sql, production=False) for _ in range(6)]
    ended = asyncio.Event()
    async with connect(database_url, kms_keys=[KEY], retry=replace(QUICK, max_retries=30)) as database:
        jobs = replace(
            await work.prepared(database, Secret(database_url), Settings(), replace(_SLOW_SWEEP, sweep_every_s=1.0)),
            budget=1_000_000,
        )
        async with work.running(jobs):
            writers = [asyncio.create_task(_legacy(database_url, bars, seed, ended)) for seed in range(3)]
            staff = asyncio.create_task(_staff(database, bars, 9, ended))
            await asyncio.wait([*writers, staff], timeout=2.0)
            ended.set()
            await asyncio.gather(*writers, staff)
            await in_sync(sql, deadline_s=10.0)
    assert staff.result()
    told = "select array_agg(distinct coalesce(cause, kind)) from mpesa_sync.alerts where kind <> 'drift_found'"
    assert set(await sql.fetchval(told) or ()) <= {"database_busy"}
