"""The soak: everybody at work on real processes, with one fault after the other, for minutes (faults.md)."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import httpx
import pytest

from mpesa_sync.demo.proxy import TcpProxy
from tests.prove.figures import SOAK_S
from tests.support import databases
from tests.support.cli import cli, environment
from tests.support.faults import until
from tests.support.guarding import drifted
from tests.support.observer import see_all
from tests.support.processes import KEYED, serving_pids
from tests.support.programs import Program
from tests.support.serving import Served, served
from tests.support.soak import Gate, OldProgram, Staff, held, owner_of, watch
from tests.support.stream_clients import Clients, open_clients
from tests.support.venues import add_bar
from tests.support.web import JWT_SECRET
from tests.support.workers import worker

pytestmark = [pytest.mark.prove, pytest.mark.usefixtures("many_files"), pytest.mark.timeout(SOAK_S + 900)]

STAFF: Final = 4
PROGRAMS: Final = 3
BARS: Final = 24
PAGES: Final = 60
_OBSERVING: Final = {**KEYED, "MPESA_SYNC_RECONCILE": "observe"}
"""What is to be corrected is left to the migration."""
_PAUSE_S: Final = 1.5
"""Between two faults: long enough that work goes on in between."""
_MORE_MEMORY: Final = 24 * 2**20
_MORE_FILES: Final = 4
_JOURNALLED: Final = "select count(*) from mpesa_sync.migration_journal"
_END: Final = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and application_name like $1
"""


class Soak:
    """The world of the soak, and the faults that it knows. `fired` counts them."""

    def __init__(self, home: Path, url: str, sql: Any, proxy: TcpProxy, shared: list[UUID]) -> None:
        self._home, self._url, self._sql, self._proxy, self._shared = home, url, sql, proxy, shared
        self._worker: Program | None = None
        self._stack = AsyncExitStack()
        self.is_guarded = True
        self.fired: Counter[str] = Counter()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Run background jobs in a process of their own, which faults may replace."""
        async with self._stack:
            await self._start_worker()
            yield

    async def _start_worker(self) -> None:
        self._worker = await self._stack.enter_async_context(worker(self._home, self._url, **_OBSERVING))

    @property
    def faults(self) -> dict[str, Callable[[], Awaitable[int]]]:
        """Return the faults in their order; each returns how often it has really fired."""
        return {
            "listener ended": lambda: self._ended("mpesa-sync listener"),
            "every connection reset": self._reset,
            "cut before commit": lambda: self._cut(self._proxy.cut_before_commit),
            "every backend ended": lambda: self._ended("mpesa-sync%"),
            "cut after commit": lambda: self._cut(self._proxy.cut_after_commit),
            "worker killed": self._kill_worker,
            "black hole": self._black_hole,
            "migration killed without guards": self._migrate_unguarded,
        }

    async def _ended(self, application: str) -> int:
        return int(await self._sql.fetchval(_END, application))

    async def _reset(self) -> int:
        return self._proxy.reset_all()

    async def _cut(self, arm: Callable[[int], None]) -> int:
        before = self._proxy.fired.total()
        arm(5)

        async def is_over() -> bool:
            return self._proxy.fired.total() >= before + 5

        await until(is_over)
        return 5

    async def _black_hole(self) -> int:
        self._proxy.black_hole()
        await asyncio.sleep(2.0)
        self._proxy.disarm()
        return 1

    async def _kill_worker(self) -> int:
        assert self._worker is not None
        code = await self._worker.stop(signal.SIGKILL)
        await self._start_worker()
        return int(code == -signal.SIGKILL)

    async def _migrate_unguarded(self) -> int:
        """Take the guards away, let drift come, kill a run in its middle, resume it, and guard again."""
        self.is_guarded = False
        await self._cli("guard", "remove", "--yes")
        await asyncio.sleep(_PAUSE_S)
        before = int(await self._sql.fetchval(_JOURNALLED))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "mpesa_sync", "migrate", "--yes", "--json", "--batch-size", "1"),
            env=environment(self._url), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

        async def has_begun() -> bool:
            return process.returncode is not None or int(await self._sql.fetchval(_JOURNALLED)) > before

        await until(has_begun)
        with suppress(ProcessLookupError):
            process.kill()
        code = await process.wait()
        left = await self._sql.fetchval(
            "select id from mpesa_sync.migration_runs where state not in ('done', 'failed', 'cancelled') limit 1"
        )
        if left is not None:
            await self._cli("migrate", "resume", str(left), "--json", codes=(0, 5))
        await self._cli("guard", "install", "--yes", codes=(0, 2))
        await self._cli("migrate", "--yes", "--json")
        assert await drifted(self._sql) == []
        self.is_guarded = True
        return int(code == -signal.SIGKILL)

    async def _cli(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        ended = await asyncio.to_thread(cli, *arguments, url=self._url)
        assert ended.code in codes, (arguments, ended.code, ended.out, ended.err)
        return ended.out

    async def all_at_rest(self, pages: Clients, staff: list[Staff]) -> None:
        """Everybody stands still: both fields agree, and every open page shows what they say."""
        seen = await see_all(self._sql)
        assert not [bar for bar, one in seen.items() if one.drifted]
        bars = [*self._shared, *(one.bar for one in staff)]
        await pages.until_shown({bar: ("mpesa", "cash") if seen[bar].authority else ("cash",) for bar in bars})
        assert not [page for page in pages.all if page.went_back]


async def _level(serving: Served, before: list[tuple[int, int]]) -> tuple[int, int]:
    """Return what the serving processes hold, once they hold no more files than after the first round."""
    pids = serving_pids(serving.process.pid)

    async def is_so() -> bool:
        return not before or held(pids)[1] <= before[0][1] + _MORE_FILES

    await until(is_so, deadline_s=30)
    return held(pids)


async def test_everybody_at_work_through_one_fault_after_the_other(
    tmp_path: Path, guarded_url: str, guarded_sql: Any
) -> None:
    """0 partial, 0 lost, 0 doubled; behind guards nothing drifts; pages end right; memory and descriptors flat."""
    sql, url = guarded_sql, guarded_url
    shared = [await add_bar(sql, sandbox=False, production=False) for _ in range(BARS)]
    own = [await add_bar(sql, production=False) for _ in range(STAFF)]
    headers = await owner_of(sql, own, lasts_s=SOAK_S + 900)
    variables = {**_OBSERVING, "MPESA_SYNC_JWT_SECRET": JWT_SECRET.reveal()}
    async with (
        TcpProxy.before(url) as proxy,
        served(tmp_path, "--workers", "2", url=proxy.url_for(url), **variables) as serving,
        httpx.AsyncClient(base_url=serving.url, limits=httpx.Limits(max_keepalive_connections=0)) as client,
        databases.plain(url) as eyes,
        open_clients(serving.url, [*shared, *own], PAGES) as pages,
    ):
        soak = Soak(tmp_path, url, sql, proxy, shared)
        gate, stop = Gate(STAFF + PROGRAMS), asyncio.Event()
        async with AsyncExitStack() as stack, soak.working():
            staff = []
            for number, bar in enumerate(own):
                asking = await stack.enter_async_context(databases.plain(url))
                staff.append(Staff(client, headers, bar, asking, number))
            programs = [OldProgram(url, shared, number) for number in range(PROGRAMS)]
            workers: list[Staff | OldProgram] = [*staff, *programs]
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch(eyes, lambda: soak.is_guarded, stop))
                for one in workers:
                    tasks.create_task(one.work(gate, stop))
                began, levels = asyncio.get_running_loop().time(), list[tuple[int, int]]()
                while len(levels) < 2 or asyncio.get_running_loop().time() - began < SOAK_S:
                    for name, fault in soak.faults.items():
                        await asyncio.sleep(_PAUSE_S)
                        soak.fired[name] += await fault()
                    await gate.close()
                    await soak.all_at_rest(pages, staff)
                    levels.append(await _level(serving, levels))
                    gate.open()
                stop.set()
        corrected = await sql.fetchval(_JOURNALLED)
        told = sum((one.told for one in workers), Counter[str]())
        print(
            dict(soak.fired),
            dict(told),
            f"corrected {corrected}, observed {watching.result()} times, {levels}",
        )
        assert all(soak.fired[name] for name in soak.faults), soak.fired
        assert levels[-1][0] <= levels[0][0] + _MORE_MEMORY, f"memory grew: {levels}"
        assert told["saved"] > 100
        assert corrected > len(levels)
        assert await serving.stop() == 0
