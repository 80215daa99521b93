"""Thousands of open pages of a real process: cut at once, some that never read, and PostgreSQL restarted."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from mpesa_sync.db import embedded, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from tests.support.databases import plain
from tests.support.faults import until
from tests.support.live_hub import switch
from tests.support.processes import KEYED
from tests.support.serving import Served, served
from tests.support.stream_clients import open_clients
from tests.support.venues import KEY, add_bar

pytestmark = [pytest.mark.prove, pytest.mark.usefixtures("many_files")]

CUT: Final = 5_000
CROWD: Final = 950
SILENT: Final = 50
"""One in twenty."""
_NAMED: Final = "update public.bars set name = $2 where id = $1"
_VERSION: Final = "select version from mpesa_sync.bar_state where bar_id = $1"


async def counted(serving: Served, metric: str) -> float:
    """Return what a metric of the process stands at."""
    async with httpx.AsyncClient(base_url=serving.url) as client:
        found = re.search(rf"^{re.escape(metric)} (\S+)$", (await client.get("/metrics")).text, re.MULTILINE)
    return float(found[1]) if found else 0.0


@contextmanager
def silent_pages(url: str, bar: UUID, count: int) -> Iterator[None]:
    """Hold streams of clients that read the beginning of the answer and nothing after it."""
    address = urlsplit(url)
    with ExitStack() as stack:
        for number in range(count):
            page = stack.enter_context(socket.socket())
            page.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            page.connect((address.hostname, address.port))
            head = f"GET /api/bars/{bar}/payment-methods/events HTTP/1.1\r\nhost: x\r\nx-forwarded-for: 10.9.0.{number}"
            page.sendall(f"{head}\r\n\r\n".encode())
            assert page.recv(15) == b"HTTP/1.1 200 OK"
        yield


async def test_five_thousand_cut_at_once_cost_the_database_next_to_nothing(
    tmp_path: Path, sql: Any, database_url: str
) -> None:
    """Spec 8: all right again, with a change that was made meanwhile, for at most 0.01 reads each."""
    bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(5)]
    async with (
        served(tmp_path, "--no-jobs", url=database_url, **KEYED) as serving,
        open_clients(serving.url, bars, CUT) as clients,
    ):
        before = await counted(serving, 'mpesa_sync_feed_reads_total{result="done"}')
        clients.cut()
        for bar in bars:
            await switch(sql, bar, False)
        await clients.until_shown(dict.fromkeys(bars, ("cash",)))
        assert await counted(serving, 'mpesa_sync_feed_reads_total{result="done"}') - before <= 0.01 * CUT
        assert clients.ends() == {"lost": CUT}
        assert not [client for client in clients.all if client.went_back]


async def test_one_client_in_twenty_that_never_reads_is_closed_and_nobody_else_is(
    tmp_path: Path, sql: Any, database_url: str
) -> None:
    """L4, L7: after 5 s without taking anything; the others have every bar's newest and no stream of theirs ends."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with (
        served(tmp_path, "--no-jobs", url=database_url, **KEYED) as serving,
        open_clients(serving.url, [bar], CROWD) as clients,
    ):
        with silent_pages(serving.url, bar, SILENT):
            written = 0

            async def are_closed() -> bool:
                nonlocal written
                for _ in range(50):
                    written += 1
                    await sql.execute(_NAMED, bar, f"{'x' * 8_000}{written}")
                return await counted(serving, 'mpesa_sync_streams_closed_total{cause="slow"}') >= SILENT

            await until(are_closed, deadline_s=120)
        await clients.until_version(await sql.fetchval(_VERSION, bar))
        assert clients.ends() == {}
        assert not [client for client in clients.all if client.went_back]


async def test_a_thousand_changes_a_second_are_few_frames_with_the_right_end(
    tmp_path: Path, sql: Any, database_url: str
) -> None:
    """L4: a crowded bar that changes as fast as it can be written to; another bar's page is right, too."""
    bar, other = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(2)]
    async with (
        served(tmp_path, "--no-jobs", url=database_url, **KEYED) as serving,
        open_clients(serving.url, [bar], CROWD) as clients,
        open_clients(serving.url, [other], 1) as beside,
    ):
        await sql.execute("set synchronous_commit = off")
        for flip in range(2_000):
            await sql.execute(_NAMED, bar, f"Flip {flip}")
            if flip % 500 == 250:
                await switch(sql, other, flip % 1_000 == 750)
                await beside.until_version(await sql.fetchval(_VERSION, other))
        await clients.until_version(await sql.fetchval(_VERSION, bar))
        assert max(len(client.seen) for client in clients.all) < 1_000, "not one for each"
        assert clients.ends() == {}


async def test_a_database_that_restarts_takes_no_page_along(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """L3, L4, L6: `stop -m immediate` and again: the pages keep their streams, and end right without going back."""
    distribution = request.config.getoption("--postgres")
    with embedded.start(tmp_path / "postgres", distribution=distribution) as server:
        async with connect(server.url, kms_keys=[KEY]) as database:
            await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)
        async with plain(server.url) as sql:
            bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(10)]
        async with (
            served(tmp_path, "--no-jobs", url=server.url, **KEYED) as serving,
            open_clients(serving.url, bars, 1_000) as clients,
        ):
            for restart in range(2):
                await asyncio.to_thread(server.restart, "immediate")
                async with plain(server.url) as sql:
                    for bar in bars:
                        await switch(sql, bar, restart == 1)
                await clients.until_shown(dict.fromkeys(bars, ("mpesa", "cash") if restart else ("cash",)))
            assert not [client for client in clients.all if client.went_back]
            assert clients.ends() == {}
