"""The job queue itself: its tables are those of the library, its names are ours whatever the environment says."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest

from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.errors import ConfigurationError, InvalidInput
from mpesa_sync.jobs import queue
from mpesa_sync.jobs.channels import channels_of
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.secret import Secret
from mpesa_sync.sync import channel_urls, spool
from tests.support.channels import FAST, Endpoints, raised, seen_now, until, working
from tests.support.cli import environment
from tests.support.venues import KEY, add_bar

_MIGRATION: Final = Path(__file__).parent.parent / "src/mpesa_sync/db/schema/migrations/0007_queue.sql"
_HOSTILE: Final = {
    **{f"PGQUEUER_{name}": "elsewhere" for name in ("PREFIX", "SCHEMA", "CHANNEL", "FUNCTION", "TRIGGER")},
    **dict.fromkeys(("CHANNEL", "FUNCTION", "TRIGGER", "QUEUE_TABLE", "STATISTICS_TABLE", "DB_SCHEMA"), "nowhere"),
    "PGQUEUER_QUEUE_TABLE": "other",
    "PGQUEUER_DURABILITY": "volatile",
    "PGQUEUER_WIDEN_ID": "false",
    "DURABILITY": "volatile",
}
_NAMES: Final = "from mpesa_sync.jobs import queue; print(queue.queries_on(None).qbe.build_install_query(False))"
_BACKENDS: Final = "select count(*) from pg_stat_activity where application_name = 'mpesa-sync jobs' and datname = $1"


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines() if line.strip() and not line.startswith("--")]


def test_the_migration_makes_what_the_library_wants() -> None:
    """Architecture: PgQueuer under names of ours, in our schema, made by our migrations: the same, line by line."""
    install = queue.queries_on(None).qbe.build_install_query(create_schema=False)
    assert _lines(_MIGRATION.read_text()) == _lines(install)


def test_no_variable_of_the_environment_renames_the_queue() -> None:
    """Spec 7: one module reads the environment; the library reads two spellings of each name."""
    said = subprocess.run(
        [sys.executable, "-c", _NAMES], env=environment(**_HOSTILE), capture_output=True, text=True, check=True
    )
    assert _lines(said.stdout) == _lines(_MIGRATION.read_text())


async def test_a_lost_connection_is_made_again_and_work_goes_on(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 8: supervised: whoever ends the worker's backend, the next alert is told."""
    name = await sql.fetchval("select current_database()")
    async with working(db, database_url, there.url("a"), pace=replace(FAST, heartbeat_timeout_s=1.0)):
        for count in range(1, 4):
            await until(sql, _BACKENDS, name)
            await sql.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name like 'mpesa-sync%' and datname = $1",
                name,
            )
            await raised(sql, await add_bar(sql))
            await there.has("a", count)
    await until(sql, _BACKENDS, name, says=lambda left: left == 0)
    assert len({said["message"] for said in there.heard["a"]}) == 3, "of each of the three alerts"


@pytest.mark.prove
async def test_a_database_that_was_away_or_silent_is_found_again(
    sql: Any, database_url: str, there: Endpoints, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 4, 8: a closed port, and a server that answers nothing any more."""
    caplog.set_level(logging.INFO)  # being back is no trouble
    async with TcpProxy.before(database_url) as proxy:
        url = proxy.url_for(database_url)
        pace = replace(FAST, heartbeat_timeout_s=1.0, probe_limit_s=0.5)
        async with connect(url, kms_keys=[KEY]) as database, working(database, url, there.url("a"), pace=pace):
            await raised(sql, await add_bar(sql))
            await there.has("a")
            await proxy.close_port()
            proxy.reset_all()
            await raised(sql, await add_bar(sql))
            await proxy.open_port()
            await there.has("a", 2)
            await until(sql, "select 1", says=lambda _: "jobs.back" in caplog.text)
            lost = caplog.text.count("jobs.lost")
            proxy.black_hole()
            await raised(sql, await add_bar(sql))
            await until(sql, "select 1", says=lambda _: caplog.text.count("jobs.lost") > lost)
            proxy.disarm()
            await there.has("a", 3)
    assert len({said["message"] for said in there.heard["a"]}) == 3, "of each of the three alerts"


async def test_a_statement_of_the_queue_is_ended_by_the_server_itself(
    db: Database, sql: Any, database_url: str, there: Endpoints, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 4, 8: it waits for no lock without end, and leaves no backend behind that does."""
    name = await sql.fetchval("select current_database()")
    async with working(db, database_url, there.url("a"), pace=replace(FAST, probe_limit_s=3_000.0)):
        await until(sql, _BACKENDS, name)
        async with sql.transaction():
            await sql.execute("lock table mpesa_sync.queue in access exclusive mode")
            await until(sql, "select 1", says=lambda _: "jobs.lost" in caplog.text)
        await raised(sql, await add_bar(sql))
        told = await there.has("a")
        await until(sql, _BACKENDS, name, says=lambda left: left == 1)  # none of before is left
    assert len(told) == 1


async def test_a_loop_that_ended_is_begun_again(
    db: Database, sql: Any, database_url: str, there: Endpoints, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 4, 8: whatever ended it: nothing may be silent from then on."""
    async with working(db, database_url, there.url("a")):
        await raised(sql, await add_bar(sql))
        await there.has("a")
        loops = [task for task in asyncio.all_tasks() if task.get_name() in ("jobs look", "jobs queue")]
        assert len(loops) == 2
        for task in loops:
            task.cancel()
        await asyncio.wait(loops)
        await raised(sql, await add_bar(sql))
        await there.has("a", 2)
    assert caplog.text.count("'job': 'look', 'error': 'CancelledError'") == 1
    assert caplog.text.count("'job': 'queue', 'error': 'CancelledError'") == 1


async def test_what_was_spooled_is_told(
    db: Database, sql: Any, database_url: str, there: Endpoints, tmp_path: Path
) -> None:
    """R5.2: what waited in a file for the database is taken in by the look, and told."""
    db.alert_spool = tmp_path
    assert await spool.keep(db, seen_now(await add_bar(sql)))
    async with working(db, database_url, there.url("a")):
        await there.has("a")
    assert spool.waiting(db) == 0


async def test_a_job_that_was_lost_is_made_anew(db: Database, sql: Any, database_url: str, there: Endpoints) -> None:
    """Issue 4, 3: the row is the truth: a queue that somebody emptied loses nothing."""
    there.does["a"] = "broken"
    await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("a")):
        await there.tried("a")
    await sql.execute("truncate mpesa_sync.queue")
    there.does["a"] = "good"
    async with working(db, database_url, there.url("a")):
        await there.has("a")
    assert await sql.fetchval("select state from mpesa_sync.alert_deliveries") == "delivered"


async def test_a_worker_that_died_is_succeeded(db: Database, sql: Any, database_url: str, there: Endpoints) -> None:
    """Issue 4, 8: a job whose worker gives no sign of life is taken over."""
    await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("a"), pace=replace(FAST, stop_within_s=0.2)) as work:
        (name,) = work.jobs.channels
        await there.has("a")
        await until(sql, "select count(*) from mpesa_sync.queue", says=lambda jobs: jobs == 0)
    await sql.execute("update mpesa_sync.alert_deliveries set state = 'pending', due_at = now()")
    await sql.execute(
        "insert into mpesa_sync.queue (priority, queue_manager_id, status, entrypoint, dedupe_key, payload, heartbeat) "
        "values (10, gen_random_uuid(), 'picked', $1, $2, $3, now() - interval '11 seconds')",
        queue.TELL["operators"],
        f"{queue.TELL['operators']}|{name}",
        name.encode(),
    )
    async with working(db, database_url, there.url("a")):
        await there.has("a", 2)
    assert len(there.heard["a"]) == 2


def test_waits_grow_with_full_jitter_up_to_a_cap() -> None:
    """Issue 4, 3: retried with back-off: 5 s, 10 s … 15 min, each drawn between 0 and its bound."""
    bounds: list[tuple[float, float]] = []

    def drawn(low: float, high: float) -> float:
        bounds.append((low, high))
        return high / 2

    pace = Pace(uniform=drawn)
    waits = [pace.again_in(attempts) for attempts in (1, 2, 3, 8, 9, 500)]
    assert bounds == [(0.0, bound) for bound in (5.0, 10.0, 20.0, 640.0, 900.0, 900.0)]
    assert waits[0] == timedelta(seconds=2.5)


@pytest.mark.parametrize(
    "url",
    [
        "dbus://",
        "dbus://x",
        "gnome://x",
        "macosx://x",
        "windows://x",
        "syslog://x",
        "glib://x",
        "vapid://a@b/c",
        "FCM://p/x",
    ],
)
def test_a_channel_that_stays_on_this_machine_is_refused(url: str) -> None:
    """Faults.md: no URL runs a program of this machine or reads its files."""
    with pytest.raises(InvalidInput, match=r"stays on this machine|must look like"):
        channel_urls.service(Secret(url))


def test_every_url_that_cannot_be_used_is_named_by_its_position() -> None:
    """Spec 7: everything that is wrong at once, without its content."""
    wrong = ("nonsense://CANARY", "slack://CANARY", "syslog://CANARY", "json://CANARY:99777/a", "json://CANARY:0/a")
    urls = [Secret(url) for url in ("json://good:65535", *wrong)]
    with pytest.raises(ConfigurationError) as refused:
        channels_of(urls, b"salt")
    assert [fault.split(",")[1] for fault in refused.value.faults] == [f" URL {n} of 6" for n in range(2, 7)]
    assert refused.value.faults[-1].endswith("a port that there is none of: it must be from 1 to 65535")
    assert "CANARY" not in str(refused.value)


def test_channels_are_named_by_service_and_a_print_that_only_this_installation_can_make() -> None:
    """K: a name tells two channels apart, and nobody can try URLs against it elsewhere."""
    one, other = Secret("json://one/token"), Secret("json://other/token")
    named = channels_of([one, other, one], b"1" * 16)
    assert list(named.values()) == [one, other]
    assert all(name.startswith("json-") and len(name) == len("json-3fa2") for name in named)
    assert set(named) != set(channels_of([one, other], b"2" * 16))


def test_two_channels_never_share_a_name() -> None:
    """Issue 4, 3: any number of URLs: where four digits are the same, more are shown."""
    urls = [Secret(f"json://host/{number}") for number in range(2_000)]
    seen: dict[str, Secret] = {}
    pair = next(
        (seen[name], url)
        for url in urls
        if (name := channel_urls.name_of(url, b"s")) in seen or seen.setdefault(name, url) is not url
    )
    assert len(channels_of(pair, b"s")) == 2


async def test_the_queues_statements_run_inside_a_transaction_of_ours(sql: asyncpg.Connection[Any]) -> None:
    """Issue 4, 3: row and job are one transaction: rolled back together."""
    transaction = sql.transaction()
    await transaction.start()
    await queue.enqueue(sql, "operators", "json-3fa2")
    await queue.enqueue(sql, "operators", "json-3fa2")
    assert await sql.fetchval("select count(*) from mpesa_sync.queue") == 1, "of each channel one at most"
    await transaction.rollback()
    assert await sql.fetchval("select count(*) from mpesa_sync.queue") == 0
