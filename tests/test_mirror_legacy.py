"""`--mirror-legacy` (R2): where the platform still has `bars.payment_mpesa_enabled`, an old page is right, too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import product
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.migration.report import Outcome, RunState
from tests.support import databases
from tests.support.cli import cli
from tests.support.clocks import HurriedClock
from tests.support.fleets import stored_rows
from tests.support.migrate_cli import counts
from tests.support.migrating import adds_up, once
from tests.support.mirroring import COLUMN, MIRROR, flags, one_of_each, set_legacy
from tests.support.observer import database_hash
from tests.support.states import STATES, State, put
from tests.support.venues import Flag, add_bar

_JOURNAL: Final = """
select bar_id, field, previous, current from mpesa_sync.migration_journal where run_id = $1 order by id
"""


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose waits take no time."""
    async with connect(database_url, clock=HurriedClock(), reconcile="observe") as database:
        yield database


async def three_way(sql: Any) -> dict[UUID, tuple[State, Flag]]:
    """Insert a bar in every state of both fields and the older flag; return them."""
    await sql.execute(COLUMN)
    planted: dict[UUID, tuple[State, Flag]] = {}
    for state, legacy in product(STATES, (True, False, None)):
        bar = await add_bar(sql)
        await put(sql, bar, state)
        await set_legacy(sql, bar, legacy)
        planted[bar] = (state, legacy)
    return planted


def authority(state: State) -> bool:
    return True in state.flags.values()


async def test_in_every_state_all_three_agree_afterwards(hurried: Database, sql: Any) -> None:
    """R2, P3: both flags are the authority; what was right is not written, credentials never; counts add up.

    Red where `MIRROR_BARS` takes the older flag's NULL for false, or where the look leaves out bars that have not
    drifted.
    """
    planted = await three_way(sql)
    before, rows = await stored_rows(sql, "bars"), await stored_rows(sql, "mpesa_credentials")
    wrong = {
        bar
        for bar, (state, legacy) in planted.items()
        if {state.mpesa_enabled is True, legacy is True} != {authority(state)}
    }
    dry = await MpesaMigrationService(hurried).run(RunOptions(dry_run=True, mirror_legacy=True))
    run = await MpesaMigrationService(hurried).run(RunOptions(mirror_legacy=True, batch_size=7))
    for report in (dry.report, run.report):
        assert (report.scanned, report.drifted, report.consistent) == (144, len(wrong), 144 - len(wrong))
    assert (run.report.state, run.report.verified, run.report.fixed, adds_up(run)) == (
        RunState.DONE,
        True,
        len(wrong),
        True,
    )
    assert run.hidden + run.exposed + run.legacy_only == len(wrong)
    for bar, (newer, older) in (await flags(sql)).items():
        assert (newer is True, older is True) == (authority(planted[bar][0]),) * 2
    after = await stored_rows(sql, "bars")
    assert {bar for bar in before if before[bar] != after[bar]} == wrong
    assert await stored_rows(sql, "mpesa_credentials") == rows


async def test_without_the_option_the_older_flag_is_never_written(hurried: Database, sql: Any) -> None:
    """R2: it is reported, also what will differ, and left."""
    planted = await three_way(sql)
    service = MpesaMigrationService(hurried)
    looks = [await service.run(RunOptions(dry_run=True)), await service.run()]
    will_differ = [
        bar
        for bar, (state, legacy) in planted.items()
        if (state.mpesa_enabled is True) != authority(state) and (legacy is True) != authority(state)
    ]
    assert [look.legacy_left for look in looks] == [len(will_differ)] * 2
    assert looks[0].warnings["legacy_flag_differs"] > 0
    assert {bar: older for bar, (_, older) in (await flags(sql)).items()} == {
        bar: legacy for bar, (_, legacy) in planted.items()
    }


async def test_a_dry_run_that_mirrors_writes_nothing(hurried: Database, sql: Any) -> None:
    """R2: the whole database is as before."""
    await one_of_each(sql)
    before = await database_hash(sql)
    run = await MpesaMigrationService(hurried).run(RunOptions(dry_run=True, mirror_legacy=True))
    assert (run.report.deferred, run.hidden, run.legacy_only) == (2, 1, 1)
    assert await database_hash(sql) == before


async def test_each_value_is_journalled_and_undone_where_it_is_the_runs_still(hurried: Database, sql: Any) -> None:
    """R2: of both fields, NULL too; what somebody has changed since stays.

    Red where `undo` forgets the older flag, takes it back although it was changed, or takes back a newer one that the
    run has not written.
    """
    both, older, right = await one_of_each(sql)
    changed = await add_bar(sql, mpesa_enabled=True, production=True)
    exposed = await add_bar(sql, production=False)
    await set_legacy(sql, exposed, True)
    service = MpesaMigrationService(hurried)
    run = await service.run(MIRROR)
    journal = [tuple(record) for record in await sql.fetch(_JOURNAL, run.report.run)]
    assert sorted(journal, key=str) == sorted(
        [
            (both, "mpesa_enabled", False, True),
            (both, "payment_mpesa_enabled", False, True),
            (older, "payment_mpesa_enabled", False, True),
            (changed, "payment_mpesa_enabled", None, True),
            (exposed, "payment_mpesa_enabled", True, False),
        ],
        key=str,
    )
    await set_legacy(sql, changed, False)
    undone = await service.undo(run.report.run)
    assert (undone.report.fixed, undone.report.stale, adds_up(undone)) == (3, 1, True)
    left = await flags(sql)
    assert left == {
        both: (False, False),
        older: (True, False),
        right: (True, True),
        changed: (True, False),
        exposed: (False, True),
    }
    again = await service.run(MIRROR)
    assert again.report.fixed == 4
    await sql.execute("update public.bars set payment_mpesa_enabled = null where id = $1", both)
    await sql.execute("update public.bars set mpesa_enabled = null where id = $1", older)
    assert (await service.undo(again.report.run)).report.fixed == 4
    assert await flags(sql) == left | {both: (False, None), older: (None, False)}


async def test_one_record_is_mirrored_too(hurried: Database, sql: Any) -> None:
    """R2: `migrate_record`."""
    both, *_ = await one_of_each(sql)
    service = MpesaMigrationService(hurried)
    [record] = [one async for one in service.find_inconsistent_records()]
    assert (await service.migrate_record(record, mirror_legacy=True)).outcome is Outcome.FIXED
    assert (await flags(sql))[both] == (True, True)


async def test_a_run_that_was_stopped_goes_on_mirroring(hurried: Database, sql: Any) -> None:
    """R2: what it was begun with is in the database."""
    await one_of_each(sql)
    stop = asyncio.Event()
    options = RunOptions(mirror_legacy=True, batch_size=1)
    service = MpesaMigrationService(hurried)
    run = await service.run(options, progress=once("correcting", stop.set, settled=1), stop=stop)
    assert (run.report.state, run.report.fixed) == (RunState.INTERRUPTED, 1)
    resumed = await service.resume(run.report.run)
    assert (resumed.report.state, resumed.report.fixed, resumed.report.verified) == (RunState.DONE, 2, True)
    assert {newer is older for newer, older in (await flags(sql)).values()} == {True}


async def test_check_and_migrate_report_three_way_drift_where_the_column_is(platform_url: str, tmp_path: Path) -> None:
    """Spec 2, 6: `legacy_flag_differs` is counted, never drift; a plan and the run mirror it, and exit codes follow."""
    async with databases.plain(platform_url) as sql:
        await sql.execute("alter table public.bars drop column payment_card_enabled, drop column payment_cash_enabled")
        assert cli("migrate", "--yes", "--mirror-legacy", url=platform_url).code == 64
        both, older, _ = await one_of_each(sql)
        checked = json.loads(cli("check", "--json", url=platform_url).out)
        assert (checked["drift"], checked["warnings"]["legacy_flag_differs"]) == ({"hidden": 1, "exposed": 0}, 1)
        dry = cli("migrate", "--dry-run", url=platform_url)
        assert "--mirror-legacy sets it" in " ".join(dry.out.split())
        plan = tmp_path / "plan"
        planned = cli("migrate", "--plan-out", str(plan), "--mirror-legacy", url=platform_url)
        assert (planned.code, "1 in payment_mpesa_enabled alone" in planned.out) == (2, True), planned.err
        directions = {json.loads(line)["bar_id"]: json.loads(line)["direction"] for line in lines(plan)}
        assert directions == {str(both): "hidden", str(older): "legacy"}
        assert cli("migrate", "--plan", str(plan), "--mirror-legacy", "--yes", url=platform_url).code == 64
        applied = cli("migrate", "--plan", str(plan), "--yes", "--json", url=platform_url)
        assert (applied.code, counts(applied)["fixed"]) == (0, 2), applied.err
        assert set((await flags(sql)).values()) == {(True, True)}
        await set_legacy(sql, older, False)
        assert cli("check", url=platform_url).code == 0
        assert cli("migrate", "--yes", url=platform_url).code == 0
        assert (await flags(sql))[older] == (True, False)
        assert cli("migrate", "--dry-run", "--mirror-legacy", url=platform_url).code == 2
        assert cli("migrate", "--yes", "--mirror-legacy", url=platform_url).code == 0
        assert (await flags(sql))[older] == (True, True)


def lines(plan: Path) -> list[str]:
    """Return the lines of a plan that are bars."""
    return plan.read_text().splitlines()[1:-1]
