"""`migrate` interrupted: once, twice, in a dry run, at the question (spec 6)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.support.cli import Ended, cli, environment, on_terminal
from tests.support.databases import plain
from tests.support.migrate_cli import add_drift, counts, drifted, slow_down
from tests.support.observer import database_hash


@asynccontextmanager
async def running(url: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start `migrate --yes`, to be interrupted."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mpesa_sync", "migrate", *arguments),
        env=environment(url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(sql: Any, statement: str, holds: Callable[[Any], bool]) -> None:
    """Wait until what a statement returns is as asked."""
    async with asyncio.timeout(20):
        while not holds(await sql.fetchval(statement)):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.005)


ASLEEP: Final = "select count(*) from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
FIXED: Final = "select count(*) from mpesa_sync.migration_journal"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_once_interrupted_it_finishes_the_batch_and_says_how_to_go_on(
    database_url: str, sql: Any, number: signal.Signals
) -> None:
    """Spec 6: exit code 130, what is done stays, the same command goes on."""
    await add_drift(sql, hidden=12)
    await slow_down(sql, 0.3)
    async with running(database_url, "--yes", "--json", "--batch-size", "2") as process:
        await until(sql, FIXED, lambda fixed: fixed >= 2)
        process.send_signal(number)
        out, err = await process.communicate()
    ended = Ended(process.returncode or 0, out.decode(), err.decode())
    assert ended.code == 130, ended.err
    report = counts(ended)
    assert report["state"] == "interrupted"
    assert report["fixed"] == await sql.fetchval(FIXED)
    assert 2 <= report["fixed"] < 12
    assert "Finishing the batch in hand" in ended.err
    assert len(await drifted(sql)) == report["deferred"] == 12 - report["fixed"]
    assert counts(cli("migrate", "--yes", "--json", url=database_url))["fixed"] == report["deferred"]


async def test_twice_interrupted_it_ends_at_once_and_the_server_rolls_back(database_url: str, sql: Any) -> None:
    """Spec 6, races.md: nothing of the batch is left, and running it again goes on."""
    await add_drift(sql, hidden=3)
    await slow_down(sql, 4)
    async with running(database_url, "--yes") as process:
        await until(sql, ASLEEP, bool)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        async for line in process.stderr:
            if b"Finishing" in line:
                break
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert b"Stopped at once" in err
    await until(sql, ASLEEP, lambda asleep: not asleep)
    assert len(await drifted(sql)) == 3
    await sql.execute("drop function slow() cascade")
    assert cli("migrate", "--yes", url=database_url).code == 0


async def test_an_interrupted_dry_run_ends_at_once(database_url: str, sql: Any) -> None:
    """Spec 6: 130; nothing was written, so there is nothing to finish."""
    await add_drift(sql, hidden=1)
    async with plain(database_url) as locker, locker.transaction():
        await locker.execute("lock table bars in access exclusive mode")
        async with running(database_url, "--dry-run", "--json") as process:
            waiting = (
                "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
            )
            await until(sql, waiting, bool)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(10):
                out, err = await process.communicate()
    ended = Ended(process.returncode or 0, out.decode(), err.decode())
    assert ended.code == 130, ended.err
    assert counts(ended)["state"] == "interrupted"


async def test_ctrl_c_at_the_question_changes_nothing(database_url: str, sql: Any) -> None:
    """Spec 6: 130, and nothing was written."""
    await add_drift(sql, hidden=1)
    before = await database_hash(sql)
    ended = on_terminal(["migrate"], environment(database_url), "\x03", asked="[y/N]")
    assert ended.code == 130
    assert await database_hash(sql) == before


# --- which exit code wins
