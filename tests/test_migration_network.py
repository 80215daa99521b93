"""A network that drops connections while a migration looks, prepares, writes down and verifies (R2.4)."""

from __future__ import annotations

from typing import Any, Final

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.migration import control
from mpesa_sync.migration.report import RunState
from mpesa_sync.refusals import RunRefused
from tests.support.clocks import HurriedClock
from tests.support.databases import plain
from tests.support.migrating import adds_up, drift, drifted
from tests.support.observer import see
from tests.support.venues import add_bar

_LEFT_BEHIND: Final = """
insert into mpesa_sync.migration_runs (id, kind, state, actor, reason, options, report, candidates, token, holder,
                                       heartbeat_at)
values (gen_random_uuid(), 'migrate', 'running', 'asha', '', '{}', '{}', 0, gen_random_uuid(), 'elsewhere:1',
        now() - interval '1 hour')
"""


@pytest.mark.parametrize(
    "statement",
    ["from pg_catalog.pg_class", "with facts as materialized", "schema_migrations", "mpesa_sync.migration_runs"],
)
async def test_one_lost_connection_outside_a_batch_ends_no_run(platform_url: str, statement: str) -> None:
    """R2.4: only a fault of the whole ends a run; what may safely be asked again is asked again."""
    async with plain(platform_url) as sql:
        bars = await drift(sql, 3)
        async with TcpProxy.before(platform_url) as proxy:
            proxy.cut_statement(statement)
            async with connect(proxy.url_for(platform_url), clock=HurriedClock()) as database:
                run = await MpesaMigrationService(database).run()
            assert sum(proxy.fired.values()) == 1, proxy.fired
        assert (run.report.state, run.report.fixed, run.report.verified) == (RunState.DONE, len(bars), True), run
        assert run.installed
        assert adds_up(run)
        assert await drifted(sql) == set()


async def test_every_first_commit_lost_ends_no_run(platform_url: str) -> None:
    """faults.md 1: installing, writing down and correcting, each answered into the void once, still come to one."""
    async with plain(platform_url) as sql:
        await drift(sql, 3)
        async with TcpProxy.before(platform_url) as proxy:
            proxy.cut_after_commit(times=2)
            async with connect(proxy.url_for(platform_url), clock=HurriedClock()) as database:
                run = await MpesaMigrationService(database).run()
            assert proxy.fired[Fault.CUT_AFTER_COMMIT] == 2
        assert (run.report.state, run.report.fixed, run.installed) == (RunState.DONE, 3, True), run
        assert await sql.fetchval("select count(*) from mpesa_sync.migration_runs") == 1


async def test_credentials_of_an_unknown_environment_count_nowhere(db: Database, sql: Any) -> None:
    """Spec 2: the authority is sandbox or production; a platform's third kind is left out everywhere alike."""
    await sql.execute("alter table public.mpesa_credentials drop constraint mpesa_credentials_environment_check")
    bar = await add_bar(sql, mpesa_enabled=True, production=False)
    await sql.execute(
        "insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc, "
        "consumer_secret_enc, passkey_enc, is_active) values ($1, 'pilot', '600123', '', '', '', true)",
        bar,
    )
    assert (await MpesaSyncManager(db).validate_sync(bar)).direction == "exposed"
    run = await MpesaMigrationService(db).run()
    assert (run.report.fixed, run.report.verified) == (1, True)
    assert (await MpesaSyncManager(db).sync_mpesa_status(bar, True)).environment == "production"
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.flags["production"]) == (True, True)


@pytest.mark.parametrize(
    ("ask", "state"), [(control.cancel, RunState.CANCELLED), (control.pause, RunState.INTERRUPTED)]
)
async def test_asking_something_of_a_run_is_no_refusal_where_its_answer_was_lost(
    database_url: str, sql: Any, ask: Any, state: RunState
) -> None:
    """faults.md 1: the second attempt finds what the first has done, and says that, not that there is nothing to do."""
    await sql.execute(_LEFT_BEHIND)
    run_id = await sql.fetchval("select id from mpesa_sync.migration_runs")
    async with TcpProxy.before(database_url) as proxy:
        proxy.cut_after_commit()
        async with connect(proxy.url_for(database_url), clock=HurriedClock()) as database:
            assert (await ask(database, run_id)).state == state
            with pytest.raises(RunRefused):
                await ask(database, run_id)
        assert proxy.fired[Fault.CUT_AFTER_COMMIT] == 1
