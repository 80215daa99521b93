"""What must be true after a SIGKILL between the steps of a run of the migration, or of a sweep of the reconciler, and
after another process has gone on: what an uninterrupted one leaves."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import uuid4

from mpesa_sync import MpesaMigrationService
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.pool import Database
from mpesa_sync.migration.report import RunState
from mpesa_sync.sync.reconciler import Reconciler
from tests.support.faults import backends, until
from tests.support.harness import APPLICATION, RHYTHM, Cycle, Harness
from tests.support.migrating import adds_up, drift, drifted

_BARS: Final = 5
_AGAIN: Final = """
create table if not exists changes.drifts_again (bar_id uuid primary key, with_bar uuid not null);
create or replace function changes.drift_again() returns trigger language plpgsql as $$
begin
  with due as (delete from changes.drifts_again d where d.with_bar = new.bar_id returning d.bar_id)
  update public.bars b set mpesa_enabled = false from due where b.id = due.bar_id;
  return null;
end $$;
create or replace trigger drift_again after insert on mpesa_sync.migration_journal
  for each row execute function changes.drift_again();
insert into changes.drifts_again values ('{bar}', '{with_bar}')
"""
"""Another program: once the last bar was corrected, the first one drifts again, so that a second round finds it."""
_RUNS: Final = "select id, state, report from mpesa_sync.migration_runs where id <> all($1::uuid[])"
_JOURNAL: Final = "select bar_id from mpesa_sync.migration_journal where run_id = $1"
_CANDIDATES: Final = "select count(*) from mpesa_sync.migration_candidates where run_id = $1"
_OPERATIONS: Final = """
select bar_id from mpesa_sync.operations where actor = 'reconciler' and outcome = 'applied' and bar_id = any($1::uuid[])
"""


async def is_dead(sql: Any) -> None:
    """Wait until the server has noticed that the process was killed, and has rolled back what it had open."""

    async def gone() -> bool:
        return await backends(sql, APPLICATION) == 0

    await until(gone)


class RunKilled:
    """One run that is killed at a failpoint outside of its batches, and what comes after it."""

    def __init__(self, harness: Harness, database: Database, sql: Any) -> None:
        self._harness = harness
        self._db = database
        self._sql = sql

    async def cycle(self, point: Failpoint) -> None:
        """Kill it, hold what it has written against its own row, go on, and see what an uninterrupted one leaves."""
        await self._sql.execute("delete from public.bars")
        bars = sorted(await drift(self._sql, _BARS))
        fixed, rounds = _BARS, point.startswith("round")
        if rounds:
            await self._sql.execute(_AGAIN.format(bar=bars[0], with_bar=bars[-1]))
            fixed += 1
        before = [record["id"] for record in await self._sql.fetch(_RUNS, [])]
        assert await self._harness.run(Cycle("run", point, str(bars[0]), str(uuid4()))), f"never passed {point}"
        await is_dead(self._sql)
        found = await self._sql.fetchrow(_RUNS, before)
        assert (found is None) == (point is Failpoint.RUN_PLANNED)
        service = MpesaMigrationService(self._db)
        if found is None:
            assert len(await drifted(self._sql)) == _BARS
            run = await service.run()
        else:
            journal = await self._sql.fetch(_JOURNAL, found["id"])
            assert json.loads(found["report"])["fixed"] == len(journal)
            assert (found["state"] == "done") == (point is Failpoint.RUN_ENDED)
            if found["state"] == "done":
                assert (len(journal), await drifted(self._sql)) == (fixed, set())
                return
            run = await service.resume(found["id"])
        report = run.report
        assert (report.state, report.verified, report.fixed) == (RunState.DONE, True, fixed), run.fault
        assert (report.drifted, adds_up(run), await drifted(self._sql)) == (fixed, True, set())
        written = [record["bar_id"] for record in await self._sql.fetch(_JOURNAL, report.run)]
        assert sorted(written) == sorted([*bars, *bars[:1]] if rounds else bars)
        assert await self._sql.fetchval(_CANDIDATES, report.run) == 0


class SweepKilled:
    """One sweep of the reconciler that is killed in a slice, and the one that takes it over."""

    def __init__(self, harness: Harness, database: Database, sql: Any) -> None:
        self._harness = harness
        self._db = database
        self._sql = sql

    async def cycle(self, point: Failpoint, nth: int) -> None:
        """Kill it; every bar is repaired with its operation or not at all; another goes on to the cycle's end."""
        await self._sql.execute("delete from public.bars; delete from mpesa_sync.reconciler")
        bars = await drift(self._sql, _BARS)
        assert await self._harness.run(Cycle("sweep", point, str(bars[0]), str(uuid4()), nth)), f"never passed {point}"
        await is_dead(self._sql)
        before = await self._as_operations_say(bars)
        place = await self._sql.fetchval("select last_bar from mpesa_sync.reconciler")
        sweeper = Reconciler(self._db, RHYTHM)

        async def swept() -> bool:
            return await sweeper.sweep() is not None

        await until(swept)  # as soon as the lease of the killed one is over
        assert await drifted(self._sql) == set()
        repaired = await self._as_operations_say(bars)
        assert len(repaired) == _BARS, "each once"
        cycle = await self._sql.fetchrow(
            "select bars, repaired, failed from mpesa_sync.reconciler_cycles order by id desc limit 1"
        )
        counted = _BARS if place else _BARS - len(before)  # without a place another cycle begins
        assert tuple(cycle) == (_BARS, counted, 0), "counted as of one that was never killed"

    async def _as_operations_say(self, bars: list[Any]) -> list[Any]:
        done = [record["bar_id"] for record in await self._sql.fetch(_OPERATIONS, bars)]
        assert set(bars) - set(done) == await drifted(self._sql)
        spent = await self._sql.fetchval("select hour_repairs from mpesa_sync.reconciler")
        assert spent == len(done), "the budget of the hour"
        return done
