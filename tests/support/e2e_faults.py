"""What goes wrong in the machine over real processes: each fault is real, and counts only where it has fired."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import httpx

from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.demo.proxy import Fault
from tests.support.e2e_machine import Machine, Rule
from tests.support.e2e_model import FAILED, migrated, troubled, untouched
from tests.support.e2e_others import Operators, Programs
from tests.support.e2e_staff import Staff, outcome_of
from tests.support.e2e_worlds import Bar, Red
from tests.support.faults import until
from tests.support.harness import APPLICATION, Cycle
from tests.support.killing import BATCH_POINTS, SLICE_POINTS
from tests.support.processes import serving_pids
from tests.support.whole_model import EXHAUSTED, FAULTS, LOST, REFUSED, SITES, Trouble, verdict

_END: Final = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and application_name like $1
"""
_AT_WORK: Final = """
select count(*) from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and application_name like $1
   and (xact_start is not null or $2)
"""
_LEFT: Final = "select id from mpesa_sync.migration_runs where state not in ('done', 'failed', 'cancelled') limit 1"
_LATEST: Final = "select id from mpesa_sync.migration_runs order by started_at desc limit 1"
_OUT_OF_SPACE_OR_REFUSED: Final = (*EXHAUSTED, *REFUSED)
_SWEEP_POINTS: Final = (*SLICE_POINTS, Failpoint.PAIR_WRITTEN, Failpoint.RESULT_STORED)
_NO_OPERATION: Final = str(UUID(int=0))
_JUMP: Final = """
update mpesa_sync.reconciler
   set lease_until = lease_until - $1::interval, next_run = next_run - $1::interval,
       last_success = last_success - $1::interval, cycle_started = cycle_started - $1::interval,
       hour_started = hour_started - $1::interval
returning last_success
"""
_SWEPT: Final = "select last_success from mpesa_sync.reconciler"
_STALE: Final = "select count(*) from mpesa_sync.alerts where kind = 'reconciler_stale' and state <> 'resolved'"
_KILLED: Final = -1
"""The number of a request whose server was killed; those of staff count up from 1."""


class Faults:
    """The faults, with how often each is dealt."""

    def __init__(self, machine: Machine, staff: Staff, programs: Programs, operators: Operators) -> None:
        self._machine, self._place, self._draw = machine, machine.place, machine.draw
        self._jumped: datetime | None = None
        self._hours = 0
        self._staff, self._programs, self._operators = staff, programs, operators

    @property
    def all(self) -> dict[str, tuple[int, Rule]]:
        """Return them by name."""
        proxy = self._place.proxy
        return {
            "the database fails": (110, self._trouble),
            "cut before commit": (8, lambda: self._cut(proxy.cut_before_commit, Fault.CUT_BEFORE_COMMIT)),
            "cut after commit": (8, lambda: self._cut(proxy.cut_after_commit, Fault.CUT_AFTER_COMMIT)),
            "connections reset": (8, self._reset),
            "backends ended": (8, lambda: self._ended("mpesa-sync%")),
            "listener ended": (8, lambda: self._ended("mpesa-sync listener")),
            "pages cut": (8, self._pages_cut),
            "server killed": (5, self._server_killed),
            "servers replaced": (1, self._replaced),
            "worker killed": (3, self._worker_killed),
            "migration killed": (8, self._migration_killed),
            "sweep killed": (8, self._sweep_killed),
            "clock jumped": (6, self._clock_jumped),
        }

    async def _trouble(self) -> bool:
        """Let the database fail under a save of a bar that nobody else writes: its fate follows from the failure."""
        bar = self._draw.choice(self._machine.own_bars)
        await self._staff.settle_lost(bar)
        fault, site = self._draw.choice(FAULTS), self._draw.choice(SITES)
        often = fault in _OUT_OF_SPACE_OR_REFUSED or self._draw.random() < 0.2
        trouble = Trouble(site, fault, self._draw.choice((1, 4)) if often else 1)
        body, op = self._staff.drawn(bar)
        await self._place.lane.arm(bar.id, trouble)
        answer = await self._staff.post(body)
        hits = await self._place.lane.disarm(bar.id, trouble)
        bar.does(troubled(op, verdict(trouble, hits)), answer=outcome_of(answer))
        if hits:
            self._machine.met.update((f"database: {fault}", f"database: at {site}"))
            self._machine.met["database: gave up" if fault in LOST and trouble.times > 1 else "database: other"] += 1
        return hits > 0

    async def _cut(self, arm: Callable[[], None], fault: Fault) -> bool:
        """Cut the server's connection at a COMMIT: the answer is as if nothing had been."""
        before = self._place.proxy.fired[fault]
        arm()
        await self._posted(self._machine.any_bar())
        self._place.proxy.disarm()
        return self._place.proxy.fired[fault] > before

    async def _posted(self, bar: Bar, *, may_fail: bool = False) -> None:
        body, op = self._staff.drawn(bar)
        answer = outcome_of(await self._staff.post(body))
        self._machine.met["lost while reading: failed"] += answer == FAILED
        bar.does(op, *([untouched] if may_fail else []), answer=answer)

    async def _reset(self) -> bool:
        """Reset every connection of the server to its database, somewhere in the middle of a request."""
        asking = asyncio.create_task(self._posted(self._machine.any_bar(), may_fail=True))
        await asyncio.sleep(self._draw.choice((0.002, 0.006, 0.012)))
        fired = self._place.proxy.reset_all()
        await asking
        return fired > 0

    async def _ended(self, application: str) -> bool:
        ended = await self._place.sql.fetchval(_END, application)
        await self._posted(self._machine.any_bar(), may_fail=True)
        return int(ended) > 0

    async def _pages_cut(self) -> bool:
        self._place.pages.cut()
        return True

    async def _server_killed(self) -> bool:
        """Kill both serving processes in the middle of a request: it is done, or it is not, and never half."""
        bar, pids = self._machine.any_bar(), serving_pids(self._place.serving.process.pid)
        await self._staff.settle_lost()
        body, op = self._staff.drawn(bar)
        bar.loses(_KILLED, op)
        asking = asyncio.create_task(self._staff.post(body))
        await asyncio.sleep(self._draw.choice((0.005, 0.015, 0.03, 0.05)))
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            bar.hears(_KILLED, outcome_of(await asking))
        except httpx.TransportError:
            self._machine.met["server killed: no answer"] += 1
            await self._until_none_at_work("mpesa-sync")
            await self._machine.look()
            applied = {world.fate(_KILLED) for world in bar.worlds} == {"applied"}
            self._machine.met["server killed: it was done" if applied else "server killed: it was not"] += 1
            bar.is_over(_KILLED)
        await self._until_served(pids)
        return True

    async def _until_none_at_work(self, application: str, *, gone: bool = False) -> None:
        async def is_so() -> bool:
            return not await self._place.sql.fetchval(_AT_WORK, application, gone)

        await until(is_so)

    async def _until_served(self, before: set[int]) -> None:
        """Wait until two other processes serve."""

        async def are_there() -> bool:
            return len(serving_pids(self._place.serving.process.pid) - before) == 2

        async def answers() -> bool:
            with suppress(httpx.TransportError):
                return (await self._place.client.get("/readyz")).status_code == 200
            return False

        await until(are_there)
        await until(answers)

    async def _replaced(self) -> bool:
        """Replace the serving processes one by one, while staff go on: nobody is refused."""
        before = serving_pids(self._place.serving.process.pid)
        self._place.serving.process.send_signal(signal.SIGHUP)

        async def are_others() -> bool:
            await self._posted(self._machine.any_bar())
            await self._machine.look()
            now = serving_pids(self._place.serving.process.pid)
            return len(now) == 2 and not now & before

        await until(are_others)
        return True

    async def _worker_killed(self) -> bool:
        """Kill the reconciler wherever it is, work on without it, and start another one."""
        killed = await self._place.kill_worker()
        await self._until_none_at_work("mpesa-sync", gone=False)
        await self._machine.look()
        self._machine.sweeps(False)
        for _ in range(10):
            await self._posted(self._machine.any_bar())
            await self._machine.look()
        await self._place.start_worker()
        self._machine.sweeps(True)
        return killed

    async def _clock_jumped(self) -> bool:
        """Let the database's clock jump by hours, forth or back, as the stored times of the reconciler see it.

        A jump that nobody has met yet is not taken back: then there would have been none.
        """
        hours = self._draw.choice((-3, 3))
        if self._jumped is None or await self._place.sql.fetchval(_SWEPT) != self._jumped:
            self._hours = hours
        self._jumped = await self._place.sql.fetchval(_JUMP, timedelta(hours=self._hours))
        return True

    async def until_swept(self) -> None:
        """Wait until a sweep has come to its end since the clock jumped last, and nothing says that none does."""

        async def is_so() -> bool:
            sql = self._place.sql
            return await sql.fetchval(_SWEPT) != self._jumped and not await sql.fetchval(_STALE)

        if self._jumped is not None:
            await until(is_so)
            self._jumped = None

    async def _migration_killed(self) -> bool:
        """Kill a migration at a named place, and resume it: each bar is corrected once."""
        await self._operators.without_guards()
        latest = await self._place.sql.fetchval(_LATEST)
        await self._drift()
        before = {bar: bar.seen for bar in self._machine.bars}
        point = self._draw.choice(BATCH_POINTS)
        cycle = Cycle("migrate", point, "", _NO_OPERATION, nth=self._draw.choice((1, 1, 2)), batch_size=1)
        killed = await self._place.harness.run(cycle)
        await self._until_none_at_work(APPLICATION, gone=True)
        left = await self._place.sql.fetchval(_LEFT)
        if left is not None:
            ended = await self._place.cli("migrate", "resume", str(left), "--json")
            if ended.code != 0:
                raise Red(f"a run that was killed is resumed with {ended.code}: {ended.out} {ended.err}")
        for bar in self._machine.bars:
            bar.worlds = bar.possible() | {after for world in bar.possible() for _, after in [migrated(world)]}
        run = await self._place.sql.fetchval(_LATEST)
        if run != latest:
            await self._operators.journalled(str(run), before, fixed=None)
        return killed

    async def _sweep_killed(self) -> bool:
        """Kill a sweep of the reconciler at a named place: the one that goes on finds its work whole or not begun."""
        await self._operators.without_guards()
        await self._drift()
        cycle = Cycle("sweep", self._draw.choice(_SWEEP_POINTS), "", _NO_OPERATION)
        killed = await self._place.harness.run(cycle)
        await self._until_none_at_work(APPLICATION, gone=True)
        return killed

    async def _drift(self) -> None:
        """Let another program pull half of the bars apart."""
        for bar in self._draw.sample(self._machine.open_bars, 4):
            await self._programs.flip(bar)
        await self._machine.look()
