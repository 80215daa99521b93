"""`--mirror-legacy` (R2) in trouble: no column, no right, triggers, others who write, stale authority."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mpesa_sync import InconsistentRecord, MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration.report import Outcome, RunState
from tests.support import databases
from tests.support.clocks import HurriedClock
from tests.support.migrating import adds_up, drifted
from tests.support.mirroring import COLUMN, MIRROR, flags, one_of_each, set_legacy
from tests.support.observer import database_hash
from tests.support.roles import login_role
from tests.support.venues import add_bar
from tests.support.waiting import waiter_for
from tests.test_migration_rights import GRANTS_OF_OURS, GRANTS_TO_LOOK


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose waits take no time."""
    async with connect(database_url, clock=HurriedClock(), reconcile="observe") as database:
        yield database


async def test_where_there_is_no_such_column_nothing_is_begun(hurried: Database, sql: Any) -> None:
    """existing-platform.md: named, and nothing is changed."""
    bar = await add_bar(sql, production=True)
    before = await database_hash(sql)
    service = MpesaMigrationService(hurried)
    [record] = [one async for one in service.find_inconsistent_records()]
    for refused in (
        service.run(MIRROR),
        service.run(MIRROR, plan=[(bar, True)]),
        service.plan(MIRROR),
        service.retry_quarantined(MIRROR),
        service.migrate_record(record, mirror_legacy=True),
    ):
        with pytest.raises(InvalidInput, match="payment_mpesa_enabled"):
            await refused
    assert await database_hash(sql) == before


async def test_a_column_that_goes_meanwhile_pauses_the_run_and_quarantines_nobody(hurried: Database, sql: Any) -> None:
    """R2.4: a fault of the whole."""
    await one_of_each(sql)
    await sql.execute(
        "create function public.test_drop() returns trigger language plpgsql as $$ begin "
        "alter table public.bars drop column payment_mpesa_enabled; return null; end $$; "
        "create trigger test_drop after insert on mpesa_sync.migration_candidates "
        "for each statement execute function public.test_drop()"
    )
    run = await MpesaMigrationService(hurried).run(MIRROR)
    assert (run.report.state, run.report.quarantined, run.report.deferred) == (RunState.PAUSED, 0, 2)
    with pytest.raises(InvalidInput):
        await MpesaMigrationService(hurried).run(MIRROR)


async def test_a_role_without_the_right_ends_the_run_as_a_whole(database_url: str, sql: Any) -> None:
    """R2.4: rights are no fault of a record; without the option this role may do all that is needed."""
    await one_of_each(sql)
    async with login_role(sql, database_url) as role:
        await sql.execute((GRANTS_TO_LOOK + GRANTS_OF_OURS).format(role.name))
        await sql.execute(
            f"grant update (mpesa_enabled) on public.bars to {role.name}; "
            f"grant update (is_active) on public.mpesa_credentials to {role.name}"
        )
        async with connect(role.url, clock=HurriedClock()) as database:
            run = await MpesaMigrationService(database).run(MIRROR)
            assert (run.report.state, run.report.quarantined, run.report.deferred) == (RunState.PAUSED, 0, 2)
            assert run.fault is not None
            assert "role may not do this" in run.fault
            await MpesaMigrationService(database).run()
    assert await drifted(sql) == set()


async def test_a_trigger_that_keeps_the_older_flag_is_seen_and_the_record_set_aside(
    hurried: Database, sql: Any
) -> None:
    """Bad input and trouble: read back, rolled back with the pair, quarantined; the others go on."""
    both, older, _ = await one_of_each(sql)
    await sql.execute(
        "create function public.test_keep() returns trigger language plpgsql as $$ begin "
        f"if old.id = '{both}' then new.payment_mpesa_enabled := false; end if; return new; end $$; "
        "create trigger test_keep before update on public.bars for each row execute function public.test_keep()"
    )
    run = await MpesaMigrationService(hurried).run(MIRROR)
    assert (run.report.fixed, run.report.quarantined, adds_up(run)) == (1, 1, True)
    assert (await flags(sql))[both] == (False, False)
    assert (await flags(sql))[older] == (True, True)
    await sql.execute("drop trigger test_keep on public.bars")
    assert (await MpesaMigrationService(hurried).retry_quarantined(MIRROR)).report.fixed == 1
    assert (await flags(sql))[both] == (True, True)


async def test_stale_authority_is_left_out_in_the_older_flag_too(hurried: Database, sql: Any) -> None:
    """R2: a bar that has not drifted, and whose `is_active` may not be the truth."""
    await sql.execute(COLUMN)
    await sql.execute("alter table public.bars add column mpesa_passkey_encrypted text")
    bar = await add_bar(sql)
    await set_legacy(sql, bar, True)
    service = MpesaMigrationService(hurried)
    late = await service.run(MIRROR, plan=[(bar, False)])
    assert late.report.fixed == 1
    await set_legacy(sql, bar, True)
    await sql.execute("update public.bars set mpesa_passkey_encrypted = 'sealed'")
    for run in (await service.run(MIRROR), await service.run(MIRROR, plan=[(bar, False)])):
        assert (run.report.quarantined, run.report.fixed, run.report.drifted) == (1, 0, 1)
        assert [record.code for record in run.records] == ["stale_authority"]
    assert (await flags(sql))[bar] == (False, True)
    accepted = await service.run(RunOptions(mirror_legacy=True, accept_stale_authority=True))
    assert (accepted.report.fixed, (await flags(sql))[bar]) == (1, (False, False))


async def test_what_was_switched_meanwhile_is_left_alone(hurried: Database, sql: Any) -> None:
    """races.md: decided anew under the locks; a later look decides what to do about it.

    Red where `correct_bars` mirrors whatever the pair says by then.
    """
    _, older, right = await one_of_each(sql)
    service = MpesaMigrationService(hurried)
    for bar, outcome in ((older, Outcome.STALE), (right, Outcome.ALREADY_CONSISTENT)):
        record = InconsistentRecord(
            bar_id=bar, credentials_active=False, bar_mpesa_enabled=True, last_updated=None, direction="exposed"
        )
        assert (await service.migrate_record(record, mirror_legacy=True)).outcome is outcome
    assert (await flags(sql))[older] == (True, False)


async def test_what_another_program_has_set_meanwhile_is_not_written_again(
    hurried: Database, sql: Any, database_url: str
) -> None:
    """races.md: the run waits for its lock, and reads what it has left in a new statement."""
    both, older, _ = await one_of_each(sql)
    async with databases.plain(database_url) as other:
        await other.execute("begin")
        await set_legacy(other, older, True)
        run = asyncio.create_task(MpesaMigrationService(hurried).run(MIRROR))
        await waiter_for(sql, other.get_server_pid())
        await other.execute("commit")
        report = (await run).report
    assert (report.fixed, report.already_consistent, report.verified) == (1, 1, True)
    journal = await sql.fetch("select distinct bar_id from mpesa_sync.migration_journal where run_id = $1", report.run)
    assert [record["bar_id"] for record in journal] == [both]


async def test_an_undo_goes_on_where_the_column_is_gone(hurried: Database, sql: Any) -> None:
    """R2: then the newer flag alone is taken back."""
    both, *_ = await one_of_each(sql)
    service = MpesaMigrationService(hurried)
    run = await service.run(MIRROR)
    await sql.execute("alter table public.bars drop column payment_mpesa_enabled")
    assert (await service.undo(run.report.run)).report.fixed == 1
    assert await drifted(sql) == {both}


async def test_the_verification_finds_what_others_do_to_the_older_flag_meanwhile(hurried: Database, sql: Any) -> None:
    """R2.3: done means that all three agree. Red where a verification looks at the pair alone."""
    *_, right = await one_of_each(sql)
    await sql.execute(
        "create function public.test_other() returns trigger language plpgsql as $$ begin "
        f"update public.bars set payment_mpesa_enabled = false where id = '{right}'; return null; end $$; "
        "create trigger test_other after insert on mpesa_sync.migration_candidates "
        "for each row when (new.round = 0) execute function public.test_other()"
    )
    run = await MpesaMigrationService(hurried).run(MIRROR)
    assert (run.report.state, run.report.verified, run.report.fixed) == (RunState.DONE, True, 3)
    assert (await flags(sql))[right] == (True, True)
