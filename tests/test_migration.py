"""`MpesaMigrationService` by example (R2): dry runs, limits, stops, shapes, rights; without others who write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import InvalidInput, PermanentFault, SchemaError
from mpesa_sync.migration.report import Outcome, Progress, RunState
from tests.support import databases
from tests.support.clocks import HurriedClock
from tests.support.migrating import adds_up, drift, drifted
from tests.support.observer import database_hash, see
from tests.support.venues import add_bar
from tests.support.waiting import open_transactions

REFUSING: Final = """
create function public.test_refuse() returns trigger language plpgsql as $$
begin raise exception 'no'; end $$;
create trigger test_refuse before update on public.bars
  for each row when (old.name like 'refusing%') execute function public.test_refuse();
"""
WRITING_FUNCTION: Final = """
create schema shadow;
create function shadow.btrim(text) returns text language plpgsql as $$
begin
  insert into public.audit_logs (action) values ('written while looking');
  return pg_catalog.btrim($1);
end $$;
"""
SECRETS_IN_BARS: Final = """
alter table public.bars add column mpesa_consumer_key_encrypted text,
  add column mpesa_consumer_secret_encrypted text, add column mpesa_passkey_encrypted text
"""
LOCKS: Final = """
select count(*) from pg_locks l join pg_stat_activity a using (pid)
 where a.application_name = 'mpesa-sync' and a.datname = current_database() and l.locktype <> 'virtualxid'
"""


@pytest.fixture
async def hurried(database_url: str) -> AsyncIterator[Database]:
    """The database, with a clock whose second look and back-off take no time."""
    async with connect(database_url, clock=HurriedClock()) as database:
        yield database


async def test_a_dry_run_writes_nothing_and_leaves_no_lock(hurried: Database, sql: Any) -> None:
    """R2: it says what would be done; the whole database is as before, xmin included."""
    await drift(sql, 3)
    await add_bar(sql, mpesa_enabled=True, production=True)
    before = await database_hash(sql)
    run = await MpesaMigrationService(hurried).run(RunOptions(dry_run=True))
    assert (run.report.state, run.report.scanned, run.report.drifted) == (RunState.PLANNED, 4, 3)
    assert (run.report.deferred, run.report.verified, run.installed) == (3, None, False)
    assert adds_up(run)
    assert await database_hash(sql) == before
    assert await sql.fetchval(LOCKS) == 0
    assert await open_transactions(sql) == 0


async def test_the_database_itself_forbids_a_dry_run_to_write(database_url: str, sql: Any) -> None:
    """races.md: a function that writes, met inside the detection, is refused with 25006. Red in a READ WRITE scan."""
    await drift(sql, 1)
    await sql.execute(WRITING_FUNCTION)
    assert await sql.fetchval("select shadow.btrim(' a ')") == "a"
    assert await sql.fetchval("delete from public.audit_logs returning action") == "written while looking"
    name = await sql.fetchval("select current_database()")
    await sql.execute(f"alter database {name} set search_path = shadow, pg_catalog, public")
    before = await database_hash(sql)
    async with connect(database_url, clock=HurriedClock()) as database:
        service = MpesaMigrationService(database)
        for look in (service.run(RunOptions(dry_run=True)), service.validate_migration()):
            with pytest.raises(PermanentFault) as refused:
                await look
            assert refused.value.sqlstate == "25006"
    assert await database_hash(sql) == before


@pytest.mark.parametrize("bars", [0, 3])
async def test_where_nothing_has_drifted_nothing_is_written(hurried: Database, sql: Any, bars: int) -> None:
    """R2.1, R2.3: an empty database, and one in sync, are done and verified."""
    for _ in range(bars):
        await add_bar(sql, mpesa_enabled=True, sandbox=True, production=None)
    before = await database_hash(sql)
    run = await MpesaMigrationService(hurried).run()
    assert (run.report.state, run.report.verified) == (RunState.DONE, True)
    assert (run.report.scanned, run.report.consistent, run.report.drifted) == (bars, bars, 0)
    assert await database_hash(sql) == before
    assert (await MpesaMigrationService(hurried).validate_migration()).bars == bars


async def test_more_than_max_changes_writes_nothing_at_all(platform_url: str) -> None:
    """Section 6: `--max-changes` refuses before anything is written, our schema included; as many as allowed go on."""
    async with databases.plain(platform_url) as sql, connect(platform_url, clock=HurriedClock()) as database:
        await drift(sql, 3)
        before = await database_hash(sql)
        service = MpesaMigrationService(database)
        run = await service.run(RunOptions(max_changes=2))
        assert (run.report.state, run.limit, run.report.verified) == (RunState.CANCELLED, "max_changes", None)
        assert (run.report.deferred, run.installed) == (3, False)
        assert adds_up(run)
        assert await database_hash(sql) == before
        assert (await service.run(RunOptions(max_changes=3))).report.fixed == 3


async def test_max_errors_stops_and_without_it_a_run_never_stops_for_errors(hurried: Database, sql: Any) -> None:
    """R2.4: the run ends after the batch in which the limit was passed; what it did not reach is counted deferred."""
    await sql.execute(REFUSING)
    await drift(sql, 5, name="refusing")
    service = MpesaMigrationService(hurried)
    run = await service.run(RunOptions(batch_size=1, max_errors=1))
    assert (run.report.state, run.limit) == (RunState.FAILED, "max_errors")
    assert (run.report.quarantined, run.report.deferred, run.report.verified) == (2, 3, None)
    assert adds_up(run)
    run = await service.run(RunOptions(batch_size=1))
    assert (run.report.state, run.report.quarantined, len(run.records)) == (RunState.DONE, 5, 5)


async def test_a_stop_finishes_the_batch_and_another_run_goes_on_from_there(hurried: Database, sql: Any) -> None:
    """Section 6, Ctrl-C: interrupted, the rest counted deferred; the next run finds only the rest."""
    await drift(sql, 5)
    stop = asyncio.Event()

    def after_first_batch(progress: Progress) -> None:
        if progress.phase == "correcting" and progress.settled:
            stop.set()

    service = MpesaMigrationService(hurried)
    run = await service.run(RunOptions(batch_size=2), progress=after_first_batch, stop=stop)
    assert (run.report.state, run.report.fixed, run.report.deferred) == (RunState.INTERRUPTED, 2, 3)
    assert (run.report.verified, adds_up(run)) == (None, True)
    assert len(await drifted(sql)) == 3
    run = await service.run(RunOptions(batch_size=3))
    assert (run.report.state, run.report.drifted, run.report.fixed) == (RunState.DONE, 3, 3)


async def test_progress_tells_each_phase_and_batch(hurried: Database, sql: Any) -> None:
    """Section 5: live progress; `settled` of `total` after each batch."""
    await drift(sql, 5)
    told: list[Progress] = []
    await MpesaMigrationService(hurried).run(RunOptions(batch_size=2), progress=told.append)
    steps = [(progress.phase, progress.settled, progress.total) for progress in told]
    correcting = [("correcting", settled, 5) for settled in (0, 2, 4, 5)]
    assert steps == [("detecting", 0, 0), *correcting, ("verifying", 0, 0)]


async def test_stale_authority_is_left_out_and_quarantined_unless_accepted(hurried: Database, sql: Any) -> None:
    """R2: secrets in `bars` and no credentials row: `is_active` may not be the truth there."""
    await sql.execute(SECRETS_IN_BARS)
    stale = await add_bar(sql, mpesa_enabled=True)
    with_row = await add_bar(sql, mpesa_enabled=True, sandbox=False)
    await sql.execute("update public.bars set mpesa_passkey_encrypted = 'abc'")
    service = MpesaMigrationService(hurried)
    dry = await service.run(RunOptions(dry_run=True))
    assert (dry.report.quarantined, dry.report.deferred, dry.warnings["stale_authority"]) == (1, 1, 1)
    run = await service.run()
    assert (run.report.state, run.report.fixed, run.report.quarantined) == (RunState.DONE, 1, 1)
    assert adds_up(run)
    assert [(record.bar_id, record.code) for record in run.records] == [(stale, "stale_authority")]
    assert await drifted(sql) == {stale}
    (record,) = [record async for record in service.find_inconsistent_records()]
    assert (record.bar_id, record.warnings) == (stale, ("stale_authority",))
    result = await service.migrate_record(record)
    assert result.error is not None
    assert (result.outcome, result.error.code) == (Outcome.QUARANTINED, "stale_authority")
    assert await drifted(sql) == {stale}
    accepted = await service.run(RunOptions(accept_stale_authority=True))
    assert (accepted.report.fixed, accepted.report.quarantined) == (1, 0)
    assert await drifted(sql) == set()
    seen = await see(sql, with_row)
    assert seen is not None
    assert seen.mpesa_enabled is False


async def test_our_schema_is_made_when_absent_and_said_so(platform_url: str) -> None:
    """R2: looking needs nothing of ours; writing creates `mpesa_sync` and says it, once."""
    async with databases.plain(platform_url) as sql, connect(platform_url, clock=HurriedClock()) as database:
        bars = await drift(sql, 2)
        service = MpesaMigrationService(database)
        assert len([record async for record in service.find_inconsistent_records()]) == 2
        assert (await service.validate_migration()).hidden == 2
        assert (await service.run(RunOptions(dry_run=True))).installed is False
        assert await sql.fetchval("select to_regnamespace('mpesa_sync')") is None
        run = await service.run()
        assert (run.installed, run.report.fixed, run.report.verified) == (True, 2, True)
        assert await sql.fetchval("select mode from mpesa_sync.installation") == "attached"
        await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bars[0])
        again = await service.run()
        assert (again.installed, again.report.fixed) == (False, 1)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (
            "alter table public.bars drop column mpesa_enabled",
            r"bars.mpesa_enabled is missing \(the platform's is boolean\)",
        ),
        (
            "drop table public.mpesa_credentials",
            r"mpesa_credentials is missing \(the platform's has id uuid, tenant_id uuid, environment text, ",
        ),
        ("alter table public.mpesa_credentials alter is_active type text", "mpesa_credentials.is_active is text"),
    ],
)
async def test_what_is_missing_is_named_and_nothing_is_changed(platform_url: str, damage: str, named: str) -> None:
    """existing-platform.md: introspect, never assume; by name."""
    async with databases.plain(platform_url) as sql, connect(platform_url) as database:
        await drift(sql, 1)
        await sql.execute(damage)
        before = await database_hash(sql)
        service = MpesaMigrationService(database)
        for refused in (service.run(), service.run(RunOptions(dry_run=True)), service.validate_migration()):
            with pytest.raises(SchemaError, match=named):
                await refused
        assert await database_hash(sql) == before


async def test_wrong_options_are_refused_by_name(hurried: Database) -> None:
    """Each names the option; the limits themselves are allowed."""
    service = MpesaMigrationService(hurried)
    wrong: list[dict[str, Any]] = [
        {"batch_size": 0},
        {"batch_size": 5_001},
        {"max_changes": -1},
        {"max_errors": -1},
        {"actor": ""},
        {"actor": "a\u202eb"},
        {"reason": "x" * 501},
    ]
    for options in wrong:
        with pytest.raises(InvalidInput) as refused:
            await service.run(RunOptions(**options))
        assert refused.value.field == next(iter(options))
    limits = RunOptions(batch_size=5_000, max_changes=0, max_errors=0, reason="x" * 500)
    assert (await service.run(limits)).report.state is RunState.DONE
