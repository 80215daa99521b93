"""A batch that fails is settled in parts: no longer than a live writer may wait, and stopped between two of them."""

from __future__ import annotations

from typing import Any, Final

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database
from mpesa_sync.migration import correcting
from mpesa_sync.migration.report import Progress, RunState
from mpesa_sync.migration.sizing import LEAST
from tests.support.migrating import adds_up, drift, drifted
from tests.support.venues import add_bar

_SLOW: Final = """
create sequence public.written;
create function public.slow() returns trigger language plpgsql as $$
begin
  perform nextval('public.written');  -- a rollback does not take it back
  perform pg_sleep(0.02);
  return new;
end $$;
create trigger slow before update on public.bars for each row execute function public.slow();
"""
_REFUSES: Final = "alter table public.bars add check (mpesa_enabled is not false) not valid"


async def test_a_batch_that_takes_too_long_is_halved_and_not_tried_again(db: Database, sql: Any) -> None:
    """Spec 8: its locks are held for a second at most, and once: the same again would take as long again."""
    bars = await drift(sql, 60)
    await sql.execute(_SLOW)
    run = await MpesaMigrationService(db).run(RunOptions(batch_size=60))
    assert (run.report.state, run.report.fixed, adds_up(run)) == (RunState.DONE, len(bars), True)
    assert await drifted(sql) == set()
    assert await sql.fetchval("select last_value from public.written") < 60 * 3, "one try of 60, and those that held"


async def test_the_first_batch_is_small(db: Database, sql: Any) -> None:
    """Spec 8: nobody knows yet what a bar costs."""
    await drift(sql, LEAST + 10)
    told: list[Progress] = []
    assert (await MpesaMigrationService(db).run(RunOptions(), progress=told.append)).report.fixed == LEAST + 10
    assert next(one.settled for one in told if one.settled) == LEAST


async def test_candidates_that_are_read_ahead_are_each_settled_once(
    db: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 5, 3: batches go on behind what was read ahead, also where a batch needs more than is left of it."""
    monkeypatch.setattr(correcting, "_READ", 4)
    await drift(sql, 11)
    told: list[Progress] = []
    run = await MpesaMigrationService(db).run(RunOptions(batch_size=3), progress=told.append)
    assert (run.report.state, run.report.fixed, run.report.already_consistent) == (RunState.DONE, 11, 0)
    assert sorted({one.settled for one in told if one.phase == "correcting"}) == [0, 3, 6, 9, 11]
    assert await drifted(sql) == set()


async def test_a_limit_of_errors_holds_within_a_batch(db: Database, sql: Any) -> None:
    """R2.4, spec 6: "stop once more records than this fail", not once the batch is over; what was done counts."""
    bars = [await add_bar(sql, mpesa_enabled=True) for _ in range(40)]
    await sql.execute(_REFUSES)
    told: list[Progress] = []
    run = await MpesaMigrationService(db).run(RunOptions(batch_size=40, max_errors=2), progress=told.append)
    assert (run.report.state, run.limit, run.report.quarantined) == (RunState.FAILED, "max_errors", 3)
    assert (run.report.deferred, adds_up(run)) == (37, True)
    assert [one.settled for one in told if one.phase == "correcting"][-3:] == [1, 2, 3], "each part is told"
    assert len(await drifted(sql)) == len(bars)
    again = await MpesaMigrationService(db).resume(run.report.run, max_errors=100)
    assert (again.report.quarantined, again.report.deferred, adds_up(again)) == (40, 0, True)
