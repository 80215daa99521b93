"""Roles that may not do what a migration needs: a fault of the whole, said as such, and nothing changed (R2.4)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from mpesa_sync import MpesaMigrationService, RunOptions
from mpesa_sync.db.pool import connect
from mpesa_sync.errors import AccessDenied
from mpesa_sync.migration.report import InconsistentRecord, RunState
from tests.support import databases
from tests.support.clocks import HurriedClock
from tests.support.migrating import adds_up, drift, drifted, platform_hash
from tests.support.roles import login_role

GRANTS_TO_LOOK: Final = "grant select on public.bars, public.mpesa_credentials to {0};"
GRANTS_OF_OURS: Final = """
grant usage on schema mpesa_sync to {0}; grant select, insert, update, delete on all tables in schema mpesa_sync to {0};
"""


@pytest.mark.parametrize("installed", [False, True], ids=["may-not-install", "may-not-write-bars"])
async def test_a_role_that_may_not_write_ends_the_run_as_a_whole(
    database_url: str, platform_url: str, installed: bool
) -> None:
    """R2.4: rights are a fault of the whole, not of 3 records; nothing in `public` is changed."""
    url = database_url if installed else platform_url
    async with databases.plain(url) as sql, login_role(sql, url) as role:
        await drift(sql, 3)
        await sql.execute((GRANTS_TO_LOOK + (GRANTS_OF_OURS if installed else "")).format(role.name))
        before = await platform_hash(sql)
        async with connect(role.url, clock=HurriedClock()) as database:
            run = await MpesaMigrationService(database).run(RunOptions(batch_size=1))
        ended = RunState.PAUSED if installed else RunState.FAILED
        assert (run.report.state, run.report.deferred, run.report.quarantined) == (ended, 3, 0)
        assert run.fault is not None
        assert "role may not do this" in run.fault
        assert adds_up(run)
        assert await platform_hash(sql) == before
        assert (await sql.fetchval("select to_regnamespace('mpesa_sync')") is not None) is installed


async def test_a_policy_that_hides_rows_is_an_error_and_not_in_sync(platform_url: str) -> None:
    """faults.md 4: silently seeing fewer bars would say "0 drift" of bars that nobody looked at."""
    async with databases.plain(platform_url) as sql, login_role(sql, platform_url) as role:
        await drift(sql, 3)
        await sql.execute("alter table public.bars enable row level security")
        await sql.execute(GRANTS_TO_LOOK.format(role.name))
        async with databases.plain(role.url) as naive:
            assert await naive.fetchval("select count(*) from public.bars") == 0, "the policy hides nothing"
        async with connect(role.url) as database:
            service = MpesaMigrationService(database)
            for look in (service.run(), service.run(RunOptions(dry_run=True)), service.validate_migration()):
                with pytest.raises(AccessDenied):
                    await look


async def test_a_record_without_rights_or_database_is_raised_and_not_quarantined(database_url: str, sql: Any) -> None:
    """R2.4: `migrate_record` keeps for the quarantine only what is the record's own fault."""
    record = InconsistentRecord(
        bar_id=(await drift(sql, 1))[0],
        credentials_active=True,
        bar_mpesa_enabled=False,
        last_updated=None,
        direction="hidden",
    )
    async with login_role(sql, database_url) as role:
        await sql.execute((GRANTS_TO_LOOK + GRANTS_OF_OURS).format(role.name))
        async with connect(role.url, clock=HurriedClock()) as database:
            with pytest.raises(AccessDenied):
                await MpesaMigrationService(database).migrate_record(record)
    assert len(await drifted(sql)) == 1
