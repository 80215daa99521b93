"""`serve --workers N` as real processes: how they begin, share a port and their counts, and end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from mpesa_sync.cli import workers
from tests.support.cli import cli
from tests.support.faults import until
from tests.support.processes import KEYED, is_running, serving_pids, until_said
from tests.support.serving import served
from tests.support.stream_clients import open_clients
from tests.support.venues import add_bar


async def test_several_processes_share_a_port_and_one_scrape_speaks_for_all(
    tmp_path: Path, sql: Any, database_url: str
) -> None:
    """live.md: `--workers N` is N processes, each with a feed of its own; open pages are spread over them."""
    bar = await add_bar(sql)
    async with (
        served(tmp_path, "--workers", "2", "--no-jobs", url=database_url, **KEYED) as serving,
        open_clients(serving.url, [bar], 40),
    ):
        listeners = "select count(*) from pg_stat_activity where application_name = 'mpesa-sync listener'"
        assert await sql.fetchval(f"{listeners} and datname = current_database()") == 2
        for _ in range(8):  # whichever answers
            async with httpx.AsyncClient(base_url=serving.url) as client:
                scrape = (await client.get("/metrics")).text.splitlines()
                assert "mpesa_sync_streams 40.0" in scrape
                assert "mpesa_sync_feed_live 1.0" in scrape
                assert 'mpesa_sync_pool_connections{state="max"} 20.0' in scrape
        assert await serving.stop() == 0


async def test_from_nothing_they_share_the_embedded_server_and_end_with_it(tmp_path: Path) -> None:
    """Issue 6: the one that starts them owns it; nothing of any of them runs on."""
    async with served(tmp_path, "--workers", "2") as serving:
        pids = serving_pids(serving.process.pid)
        assert len(pids) == 2
        assert await serving.stop(signal.SIGINT) == 0
        assert not [pid for pid in pids if is_running(pid)]
    assert cli("db", "status", cwd=tmp_path).code == 0


async def test_one_that_dies_is_started_again_while_the_other_answers(tmp_path: Path, database_url: str) -> None:
    """Issue 6: logged, with its exit code; nobody is refused meanwhile."""
    async with served(tmp_path, "--workers", "2", "--no-jobs", url=database_url, **KEYED) as serving:
        victim, other = sorted(serving_pids(serving.process.pid))
        os.kill(victim, signal.SIGKILL)
        await until_said(serving, "workers.died", 1)
        for _ in range(10):
            async with httpx.AsyncClient(base_url=serving.url) as client:
                assert (await client.get("/livez")).status_code == 200
        assert "code=-9" in "".join(serving.said)

        async def is_replaced() -> bool:
            return len(serving_pids(serving.process.pid) - {victim, other}) == 1

        await until(is_replaced)
        assert await serving.stop() == 0


async def test_they_end_when_the_one_that_started_them_is_killed(tmp_path: Path, database_url: str) -> None:
    """Issue 6: nobody serves on unsupervised, with the port taken."""
    async with served(tmp_path, "--workers", "2", "--no-jobs", url=database_url, **KEYED) as serving:
        pids = serving_pids(serving.process.pid)
        serving.process.kill()

        async def are_gone() -> bool:
            return not [pid for pid in pids if is_running(pid)]

        await until(are_gone)


async def test_one_that_cannot_be_replaced_stays(tmp_path: Path, sql: Any, database_url: str) -> None:
    """Issue 6: a rolling restart into something broken is given up with every old process serving."""
    async with served(tmp_path, "--workers", "2", "--no-jobs", url=database_url, **KEYED) as serving:
        before = serving_pids(serving.process.pid)
        await sql.execute("insert into mpesa_sync.schema_migrations (version, name, digest) values (999, 'later', '')")
        serving.process.send_signal(signal.SIGHUP)
        await until_said(serving, "workers.not_replaced", 1)
        assert serving_pids(serving.process.pid) == before
        assert await serving.stop() == 0


def test_more_processes_than_the_database_has_room_for_are_refused(tmp_path: Path, database_url: str) -> None:
    """Issue 6: with the number that fits, before anything is served."""
    ended = cli("serve", "--port", "0", "--workers", "100", url=database_url, cwd=tmp_path, **KEYED)
    assert ended.code == 64
    assert "100 processes are too many for this database" in ended.err
    assert "at most" in ended.err


async def test_a_port_that_others_serve_is_refused_also_where_it_could_be_shared(
    tmp_path: Path, database_url: str
) -> None:
    """Bad input and trouble: two groups of processes on one port would take each other's connections."""
    async with served(tmp_path, "--workers", "2", "--no-jobs", url=database_url, **KEYED) as serving:
        number = serving.url.rpartition(":")[2]
        for count in ("1", "2"):
            command = ("serve", "--port", number, "--workers", count)
            ended = await asyncio.to_thread(cli, *command, url=database_url, cwd=tmp_path, **KEYED)
            assert ended.code == 64
            assert f"port {number} on 127.0.0.1 is taken" in ended.err
        assert await serving.stop() == 0


async def test_one_that_does_not_begin_to_serve_ends_them_all(tmp_path: Path, database_url: str) -> None:
    """Issue 6: what one of them cannot do none can, at the first start; its own words stand above."""
    url = "postgresql://nobody:x@127.0.0.1:1/nowhere"
    begun = ("serve", "--port", "0", "--workers", "2")
    variables = {**KEYED, "MPESA_SYNC_ALERT_URLS": '["nosuchservice://x"]'}
    ended = await asyncio.to_thread(cli, *begun, url=database_url, cwd=tmp_path, **variables)
    assert ended.code == 1
    assert "MPESA_SYNC_ALERT_URLS" in ended.err
    assert "A serving process has ended, or hangs, before it served" in ended.err
    ended = await asyncio.to_thread(cli, *begun, url=url, cwd=tmp_path, **KEYED)
    assert ended.code == 1


@pytest.mark.parametrize(
    ("has_terminal", "wanted"), [((False, False), "again"), ((True, True), "again"), ((True, False), "stop")]
)
async def test_a_hang_up_asks_for_new_processes_unless_the_terminal_is_gone(
    monkeypatch: pytest.MonkeyPatch, has_terminal: tuple[bool, bool], wanted: str
) -> None:
    """Issue 6: SIGHUP replaces them; a terminal that is closed sends it, too, and means the end."""
    answers = list(has_terminal)
    monkeypatch.setattr(workers, "_has_terminal", lambda: answers.pop(0))
    loop = asyncio.get_running_loop()
    try:
        stop, again = workers._signals()
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(20):
            await (again if wanted == "again" else stop).wait()
        assert stop.is_set() is (wanted == "stop")
    finally:
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
