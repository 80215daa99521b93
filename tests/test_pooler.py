"""Behind a real pooler in transaction mode: work is done as ever, `db status` says that it is there, listeners warn."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.db.pool import connect
from mpesa_sync.live.hub import Hub
from mpesa_sync.migration.report import RunState
from mpesa_sync.secret import Secret
from mpesa_sync.sync.reconciler import Reconciler
from mpesa_sync.sync.reconciler_policy import Policy
from tests.support.cli import cli
from tests.support.databases import plain
from tests.support.faults import until
from tests.support.migrating import drift, drifted
from tests.support.pgbouncer import pgbouncer
from tests.support.venues import KEY, add_bar

_SWITCHES: Final = 40


async def test_many_switches_at_once_all_succeed(database_url: str, sql: Any, tmp_path: Path) -> None:
    """Issue 5, trouble: what the driver prepares by name on one backend is another session's on the next."""
    bars = [await add_bar(sql, production=False) for _ in range(_SWITCHES)]
    async with pgbouncer(tmp_path, database_url) as url, connect(url, kms_keys=[KEY]) as database:
        manager = MpesaSyncManager(database)
        await asyncio.gather(*(manager.sync_mpesa_status(bar, True) for bar in bars))
        await asyncio.gather(*(manager.sync_mpesa_status(bar, False) for bar in bars[::2]))
        assert database.is_pooled
    assert await sql.fetchval("select count(*) from public.bars where mpesa_enabled") == _SWITCHES // 2
    assert await drifted(sql) == set()
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts") == 0


async def test_a_driver_that_prepares_by_name_fails_there(database_url: str, sql: Any, tmp_path: Path) -> None:
    """The twin: the pooler of these tests does what is guarded against."""
    bars = [await add_bar(sql, production=False) for _ in range(_SWITCHES)]
    async with pgbouncer(tmp_path, database_url) as url, connect(url, kms_keys=[KEY]) as database:
        database._connecting.is_pooled = False
        manager = MpesaSyncManager(database)
        done = await asyncio.gather(*(manager.sync_mpesa_status(bar, True) for bar in bars), return_exceptions=True)
    assert any(isinstance(result, Exception) for result in done)


async def test_a_migration_and_the_reconciler_work(platform_url: str, tmp_path: Path) -> None:
    """Issue 5: runs keep nothing in a session."""
    async with plain(platform_url) as sql:
        bars = await drift(sql, 12)
        async with pgbouncer(tmp_path, platform_url) as url:
            async with connect(url) as database:
                run = await MpesaMigrationService(database).run()
                assert (run.report.state, run.report.fixed, run.report.verified) == (RunState.DONE, len(bars), True)
            await sql.execute("update public.bars set mpesa_enabled = not coalesce(mpesa_enabled, false)")
            async with connect(url) as database:
                await Reconciler(database).sweep(as_policy=Policy.REPAIR)
        assert await drifted(sql) == set()


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_db_status_says_that_there_is_one(database_url: str, tmp_path: Path, mode: str) -> None:
    """existing-platform.md: detected, with the setting that goes around it; a direct connection has none."""
    async with pgbouncer(tmp_path, database_url, mode=mode) as url:
        for asked, expected in ((url, True), (database_url, False)):
            found = await asyncio.to_thread(cli, "db", "status", "--json", url=asked)
            assert (found.code, json.loads(found.out)["database"]["pooler"]) == (0, expected), found.err
        told = await asyncio.to_thread(cli, "db", "status", url=url)
    assert "MPESA_SYNC_LISTEN_URL must name the database without it" in " ".join(told.out.split())


async def test_a_feed_that_listens_through_one_says_so(
    database_url: str, sql: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """live.md: its notices are never heard; the probe finds what moved all the same."""
    bar = await add_bar(sql, production=False)
    async with pgbouncer(tmp_path, database_url) as url, connect(database_url, kms_keys=[KEY]) as database:
        async with Hub(database, listen_url=Secret(url)) as hub:
            before = await hub.known(bar)
            await MpesaSyncManager(database).sync_mpesa_status(bar, True)

            async def has_moved() -> bool:
                return (await hub.known(bar)).version > before.version

            await until(has_moved)
        assert "database.listens_through_pooler" in caplog.text
        caplog.clear()
        async with Hub(database, listen_url=Secret(database_url)):
            pass
        assert "database.listens_through_pooler" not in caplog.text
