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
from tests.support.venues import KEY, add_bar
from tests.support.workers import worker

pytestmark = pytest.mark.prove

_PICKED = "select count(*) from mpesa_sync.queue where status = 'picked'"
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
