"""A worker that is killed in the middle of a message, and a database that restarts under one: nothing is lost."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpesa_sync.db import embedded, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from tests.support.channels import FAST, endpoints, raised, until, working
from tests.support.databases import plain
from tests.support.migrating import drift, drifted
from tests.support.venues import KEY, add_bar
from tests.support.waiting import waiter_for
from tests.support.workers import worker
from tests.test_reconciler_work import in_sync, swept

pytestmark = pytest.mark.prove

_PICKED = "select count(*) from mpesa_sync.queue where status = 'picked'"
_REPAIRED = (
    "select bar_id from mpesa_sync.operations where actor = 'reconciler' and outcome = 'applied' order by bar_id"
)
_HELD = "select lease_token is not null and lease_until > clock_timestamp() from mpesa_sync.reconciler"
_SETTLED = "select count(*) from mpesa_sync.alert_deliveries where state = 'pending'"


@pytest.mark.parametrize("cycle", range(3))
async def test_another_worker_sends_what_a_killed_one_had_begun(
    tmp_path: Path, sql: Any, database_url: str, cycle: int
) -> None:
    """Issue 4, 8: killed with SIGKILL while its channel holds the message; taken over after the heartbeat's time."""
    async with endpoints() as there:
        there.does["a"] = "hangs"
        ids = [str(await raised(sql, await add_bar(sql))) for _ in range(cycle + 1)]
        async with worker(tmp_path, database_url, there.url("a")) as killed:
            await there.tried("a")
            assert await sql.fetchval(_PICKED) == 1
            assert await killed.stop(signal.SIGKILL) == -signal.SIGKILL
        assert await sql.fetchval(_PICKED) == 1, "its job is still its own"
        there.does["a"] = "good"
        async with worker(tmp_path, database_url, there.url("a")) as other:
            heard = await there.has("a", len(ids))
            await until(sql, _SETTLED, says=lambda left: left == 0)
            assert await other.stop() == 0
        assert sorted(said["message"].split("alerts show ")[1] for said in heard) == sorted(ids)


async def test_a_database_that_restarts_under_a_worker_loses_no_message(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Issue 4, 3 and 8: `pg_ctl stop -m immediate` between and in the middle of messages: each comes at least once."""
    distribution = request.config.getoption("--postgres")
    with embedded.start(tmp_path / "postgres", distribution=distribution, extra_settings={"fsync": "off"}) as server:
        async with connect(server.url, kms_keys=[KEY]) as database, endpoints() as there:
            await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)
            pace = replace(FAST, heartbeat_timeout_s=1.0)
            ids = []
            async with working(database, server.url, there.url("a"), pace=pace):
                for _ in range(3):
                    async with plain(server.url) as sql:
                        ids += [str(await raised(sql, await add_bar(sql))) for _ in range(5)]
                    await there.tried("a", len(ids) - 2)
                    await asyncio.to_thread(server.restart, "immediate")
                async with plain(server.url) as sql:
                    await until(sql, _SETTLED, says=lambda left: left == 0)
                    await until(sql, "select count(*) from mpesa_sync.queue", says=lambda left: left == 0)
            heard = {said["message"].split("alerts show ")[1] for said in there.heard["a"]}
            assert heard == set(ids)


async def test_another_worker_goes_on_with_a_slice_in_which_one_was_killed(
    tmp_path: Path, sql: Any, database_url: str
) -> None:
    """Issue 5, 8: SIGKILL of a real worker between two repairs of a slice; each bar is repaired once, none is left."""
    bars = sorted(await drift(sql, 6))
    async with plain(database_url) as other:
        await other.execute("begin")
        await other.execute("select 1 from public.bars where id = $1 for update", bars[2])
        async with worker(tmp_path, database_url) as killed:
            await waiter_for(sql, other.get_server_pid())
            assert await killed.stop(signal.SIGKILL) == -signal.SIGKILL
        assert [record["bar_id"] for record in await sql.fetch(_REPAIRED)] == bars[:2]
        assert await drifted(sql) == set(bars[2:])
        assert await sql.fetchval(_HELD), "the slice is the killed one's still"
        await other.execute("rollback")
    async with worker(tmp_path, database_url) as going_on:
        await in_sync(sql, deadline_s=45.0)
        await swept(sql)
        assert await going_on.stop() == 0
    assert [record["bar_id"] for record in await sql.fetch(_REPAIRED)] == bars
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts where state <> 'resolved'") == 0
