"""Behind a pooler in transaction mode: a run, staff and the reconciler at once, over fewer backends than connections.

Red where statements are prepared under names: then one is missing on the next backend, or is another program's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.live.hub import Hub
from mpesa_sync.migration.report import RunState
from mpesa_sync.secret import Secret
from mpesa_sync.sync.reconciler import Reconciler, Rhythm
from tests.support.cli import cli
from tests.support.databases import plain
from tests.support.faults import until
from tests.support.migrating import adds_up, drift
from tests.support.observer import see_all
from tests.support.poolers import pooled
from tests.support.venues import KEY, add_bar

CLIENTS: Final = 10
_LIMITS: Final = "select current_setting('lock_timeout') || current_setting('row_security') || pg_backend_pid()"
_ONE_BAR: Final = "select mpesa_enabled from public.bars where id = $1"


@pytest.fixture
async def through(tmp_path: Path, database_url: str) -> AsyncIterator[str]:
    """The database's URL through a pooler."""
    async with pooled(tmp_path, database_url) as url:
        yield url


async def switches(database: Database, bars: list[UUID], *, on: bool) -> None:
    """Switch every bar at once."""
    manager = MpesaSyncManager(database)
    results = await asyncio.gather(*(manager.sync_mpesa_status(bar, on) for bar in bars))
    assert all(result.success for result in results)


async def test_everything_of_ours_works_through_a_pooler_in_transaction_mode(through: str, sql: Any) -> None:
    """Issue 5, trouble: a run in small batches beside two programs of staff; nobody is quarantined or alerted."""
    drifted, switched = await drift(sql, 40), [await add_bar(sql, production=False) for _ in range(2 * CLIENTS)]
    async with connect(through, kms_keys=[KEY]) as one, connect(through, kms_keys=[KEY]) as two:
        for on in (True, False, True):
            await asyncio.gather(switches(one, switched[:CLIENTS], on=on), switches(two, switched[CLIENTS:], on=on))
            run, *_ = await asyncio.gather(
                MpesaMigrationService(one).run(RunOptions(batch_size=3)),
                switches(two, switched[:CLIENTS], on=not on),
                switches(one, switched[CLIENTS:], on=not on),
            )
            assert (run.report.state, run.report.fixed, run.report.verified) == (RunState.DONE, len(drifted), True)
            assert (run.report.quarantined, run.fault, adds_up(run)) == (0, None, True)
            await sql.execute("update public.bars set mpesa_enabled = false where id = any($1::uuid[])", drifted)
        cycle = await Reconciler(two, Rhythm(page=7, second_look_s=0.0)).sweep()
        assert cycle is not None
        assert (cycle.repaired, cycle.failed) == (len(drifted), 0)
    assert not [seen for seen in (await see_all(sql)).values() if seen.drifted]
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts") == 0


async def test_the_commands_work_through_a_pooler(through: str, sql: Any) -> None:
    """Spec 6: check, a run, and what it says of itself; two programs one after the other on the same backends."""
    bars = await drift(sql, 5)
    assert cli("check", url=through).code == 2
    ended = cli("migrate", "--yes", "--batch-size", "2", url=through)
    assert ended.code == 0, ended.err
    assert cli("check", url=through).code == 0
    assert cli("migrate", "status", url=through).code == 0
    seen = await see_all(sql)
    assert all(seen[bar].mpesa_enabled for bar in bars)


async def test_the_limits_of_our_transactions_stay_in_them(through: str, sql: Any) -> None:
    """races.md, conventions: SET LOCAL alone. What another program is given afterwards is as it always was."""
    await drift(sql, 5)
    async with connect(through) as database:
        assert (await MpesaMigrationService(database).run(RunOptions(batch_size=1))).report.fixed == 5
    other = await asyncpg.connect(through, statement_cache_size=0)
    for _ in range(20):
        assert (await other.fetchval(_LIMITS)).startswith("0on")
    await other.close()


async def test_named_statements_are_lost_behind_a_pooler(through: str, sql: Any, database_url: str) -> None:
    """The twin: the driver as it comes, in the same crowd; over a direct connection it is right."""
    bar = await add_bar(sql)
    failed: list[BaseException] = []
    for url in (database_url, through):
        async with asyncpg.create_pool(url, min_size=CLIENTS, max_size=CLIENTS, reset=None) as pool:

            async def ask(pool: asyncpg.Pool[Any] = pool) -> None:
                async with pool.acquire() as connection, connection.transaction():
                    await connection.fetchval(_ONE_BAR, bar)

            ended = await asyncio.gather(*(ask() for _ in range(20 * CLIENTS)), return_exceptions=True)
            failed = [end for end in ended if isinstance(end, BaseException)]
            if url == database_url:
                assert failed == []
    assert {getattr(failure, "sqlstate", None) for failure in failed} <= {"26000", "42P05", "08P01"}
    assert failed, "the demonstration shows nothing"
    async with plain(database_url) as direct:
        assert await direct.fetchval(_ONE_BAR, bar) is False


@pytest.mark.parametrize("mode", ["transaction", "session"])
async def test_db_status_says_that_there_is_one(database_url: str, tmp_path: Path, mode: str) -> None:
    """existing-platform.md: detected, with the setting that goes around it; a direct connection has none."""
    async with pooled(tmp_path, database_url, mode=mode) as url:
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
    async with pooled(tmp_path, database_url) as url, connect(database_url, kms_keys=[KEY]) as database:
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
