"""The fault matrix of faults.md, row by row: which tests prove it, and those that stand here.

Each injection is real and is counted. Streams and the migration have theirs in test_live_*.py and test_migration*.py.
"""

from __future__ import annotations

import ast
import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db import embedded, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import CredentialsUnusable, TransientFault
from mpesa_sync.sync import spool
from tests.support import web
from tests.support.databases import plain
from tests.support.durable import Writers
from tests.support.faults import QUICK, until
from tests.support.observer import changed_tables, database_hash, see
from tests.support.venues import KEY, SEALED, add_bar

_HERE: Final = "tests/test_fault_matrix.py"
_FAULTS: Final = "tests/test_transaction_faults.py"
_CONTENTION: Final = "tests/test_transaction_contention.py"
_RETRIES: Final = "tests/test_transaction_retries.py"
MATRIX: Final[dict[str, tuple[str, ...]]] = {
    "database down at begin": (
        f"{_FAULTS}::test_a_database_that_is_down_is_tried_four_times_then_said",
        f"{_FAULTS}::test_a_database_that_comes_back_in_time_is_not_noticed",
        f"{_HERE}::test_a_server_that_is_stopped_is_said_and_its_alert_is_stored_once_it_is_back",
    ),
    "connection reset after the first update": (
        f"{_FAULTS}::test_a_connection_reset_at_any_statement_writes_nothing_and_is_retried",
        f"{_FAULTS}::test_a_backend_that_is_terminated_in_the_middle_is_retried",
    ),
    "reset while COMMIT is in flight": (
        f"{_FAULTS}::test_a_cut_before_commit_is_retried_under_the_same_id_and_applied_once",
        f"{_FAULTS}::test_a_cut_after_commit_is_settled_by_replay",
        f"{_FAULTS}::test_where_nobody_can_be_asked_the_outcome_is_unknown_and_the_id_settles_it_later",
        "tests/prove/test_commit_cuts.py::test_commits_that_are_cut_are_applied_exactly_once_or_not_at_all",
    ),
    "caller gone mid-commit": (
        "tests/test_transaction_cancelled.py::test_a_caller_who_is_cancelled_anywhere_leaves_a_finished_unit_behind",
    ),
    "40001": ("tests/test_retry_policy.py::test_what_passes_is_overcome_and_applied_once",),
    "40P01": (f"{_CONTENTION}::test_a_real_deadlock_with_a_legacy_writer_is_retried",),
    "lock wait": (
        f"{_CONTENTION}::test_a_lock_that_is_let_go_in_time_only_costs_attempts",
        f"{_CONTENTION}::test_a_lock_that_is_never_let_go_ends_in_a_bounded_answer",
    ),
    "statement timeout": (f"{_RETRIES}::test_a_statement_that_hangs_is_stopped_and_the_unit_tried_again",),
    "pool exhausted": (
        f"{_RETRIES}::test_an_exhausted_pool_is_said_quickly",
        f"{_HERE}::test_an_exhausted_pool_is_a_quick_503_and_health_and_pages_are_as_ever",
    ),
    "SIGKILL between any two steps": (
        "tests/test_kill_cycles_smoke.py::test_a_kill_at_every_failpoint_leaves_nothing_or_all",
        "tests/test_kill_cycles_smoke.py::test_failpoints_cannot_be_armed_in_an_ordinary_process",
        "tests/prove/test_kill_cycles.py::test_kills_at_random_failpoints_leave_nothing_or_all",
    ),
    "server killed": (f"{_HERE}::test_a_server_that_is_killed_keeps_everything_that_was_acknowledged",),
    "disk full": (
        "tests/prove/test_disk_full.py::test_a_full_disk_rolls_back_is_said_and_heals",
        "tests/prove/test_disk_full.py::test_a_full_disk_pauses_a_run_and_quarantines_nobody",
    ),
    "bar deleted during toggle": (
        f"{_CONTENTION}::test_a_bar_that_is_deleted_during_a_toggle_is_not_found",
        "tests/test_save_against_others.py::test_a_save_against_the_delete_of_its_bar",
    ),
    "foreign trigger or constraint refuses": (
        f"{_RETRIES}::test_a_permanent_error_is_not_retried_and_alerted_at_once",
        f"{_RETRIES}::test_a_bar_that_must_keep_a_payment_method_rolls_back_the_pair_in_plain_words",
        f"{_RETRIES}::test_what_a_foreign_trigger_changes_behind_our_back_is_an_integrity_fault",
    ),
    "wrong key, tampered blob": (
        f"{_HERE}::test_secrets_that_do_not_open_hide_their_bar_alone_and_touch_nothing",
        "tests/test_manager.py::test_secrets_that_no_key_opens_raise_one_alert_until_a_switch_on_proves_them_open",
    ),
}
_ROOT: Final = Path(__file__).parents[1]


@pytest.mark.parametrize("row", MATRIX)
def test_every_row_of_the_matrix_is_proven_by_tests_that_are_there(row: str) -> None:
    """faults.md: each row has a test; a test that was renamed or removed is missed here."""
    assert MATRIX[row]
    for name in MATRIX[row]:
        path, _, function = name.partition("::")
        found = ast.walk(ast.parse((_ROOT / path).read_text()))
        names = {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert function in names, name


POOL: Final = 3


async def test_an_exhausted_pool_is_a_quick_503_and_health_and_pages_are_as_ever(database_url: str, sql: Any) -> None:
    """Fault matrix, pool exhausted: N held, N + 50 sent; health and open pages have connections of their own."""
    bar = await add_bar(sql, production=True, mpesa_enabled=False)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(connect(database_url, kms_keys=[KEY], pool_size=POOL))
        site = await stack.enter_async_context(web.running(database, database_url))
        owner = await site.person(sql, bar)
        page = await stack.enter_async_context(site.client.stream("GET", f"/api/bars/{bar}/payment-methods/events"))
        chunks = page.aiter_text()
        assert '"mpesa"' not in await anext(chunks)
        held = [await database.acquire() for _ in range(POOL)]
        began = time.monotonic()
        body = {"barId": str(bar), "mpesa_enabled": True}
        posts = [site.client.post("/api/mpesa-settings", headers=owner.headers, json=body) for _ in range(POOL + 50)]
        asking = asyncio.gather(*posts)
        await sql.execute("update public.bars set mpesa_enabled = true where id = $1", bar)
        async with asyncio.timeout(20):
            while '"mpesa"' not in await anext(chunks):
                pass
        health = [(await site.client.get(path)).status_code for path in ("/livez", "/readyz")]
        offer = await site.client.get(f"/api/bars/{bar}/payment-methods")
        answers = await asking
        duration_s = time.monotonic() - began
        for connection in held:
            await database.release(connection)
        after = await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)
    assert health == [200, 200]
    assert [method["id"] for method in offer.json()["methods"]] == ["mpesa", "cash"]
    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(503, "pool_exhausted")}
    assert all(answer.headers["retry-after"] and answer.json()["outcome"] == "failed" for answer in answers)
    assert duration_s < 8, f"it took {duration_s:.1f} s"
    assert after.status_code == 200, "as soon as there is a connection"


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[embedded.Server]:
    """A server that may be stopped and killed: nobody else uses it, and it writes everything down (fsync)."""
    home = tmp_path_factory.mktemp("own") / "postgres"
    with embedded.start(home, distribution=request.config.getoption("--postgres")) as running:
        asyncio.run(installed(running.url))
        yield running


async def installed(url: str) -> None:
    async with connect(url) as database:
        await migrations.migrate(database, mode=Mode.GREENFIELD, create_platform_tables=True)


@pytest.fixture
async def own(own_server: embedded.Server, tmp_path: Path) -> AsyncIterator[Database]:
    """A database on it, with a spool for alerts."""
    async with connect(own_server.url, kms_keys=[KEY], retry=QUICK) as database:
        database.alert_spool = tmp_path / "spool"
        yield database


async def test_a_server_that_is_stopped_is_said_and_its_alert_is_stored_once_it_is_back(
    own: Database, own_server: embedded.Server
) -> None:
    """Fault matrix, database down at begin, R5.2: the alert needs no database; afterwards it is there, once."""
    async with plain(own_server.url) as sql:
        bar = await add_bar(sql, production=False)
    manager, operation_id, down = MpesaSyncManager(own), uuid4(), own_server.postmaster_pid
    os.kill(own_server.supervisor_pid, signal.SIGKILL)  # takes the server along, and nobody brings it back
    await until(lambda: gone(down))
    with pytest.raises(TransientFault) as failed:
        await manager.sync_mpesa_status(bar, True, operation_id=operation_id)
    assert (failed.value.attempts, failed.value.http_status, failed.value.retryable) == (4, 503, True)
    assert failed.value.result.operation_id == operation_id
    assert spool.waiting(own) == 1
    await asyncio.to_thread(own_server.ensure_running)
    assert await spool.take_in(own) == 1
    assert (await spool.take_in(own), spool.waiting(own)) == (0, 0)
    async with plain(own_server.url) as sql:
        stored = await sql.fetch(
            "select kind, state, count, operation_id from mpesa_sync.alerts where bar_id = $1", bar
        )
        assert [tuple(alert) for alert in stored] == [("sync_failed", "firing", 1, operation_id)]
        assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0, "nothing was written"
        assert (await manager.sync_mpesa_status(bar, True, operation_id=operation_id)).success
        assert await sql.fetchval("select state from mpesa_sync.alerts where bar_id = $1", bar) == "resolved"


async def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_server_that_is_killed_keeps_everything_that_was_acknowledged(
    own: Database, own_server: embedded.Server
) -> None:
    """Fault matrix, `pg_ctl stop -m immediate` under load, twice: what was answered is durable, the rest is settled."""
    writers = Writers(own)
    async with plain(own_server.url) as sql:
        bars = [await add_bar(sql, production=False) for _ in range(6)]
        before = await sql.fetchval("select count(*) from mpesa_sync.operations")
    tasks = [asyncio.create_task(writers.write(bar)) for bar in bars]

    async def sixty_more() -> None:
        enough = len(writers.applied) + 60

        async def is_so() -> bool:
            assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
            return len(writers.applied) >= enough

        await until(is_so)

    for crash in (1, 2):
        await sixty_more()
        acknowledged = set(writers.applied)
        await asyncio.to_thread(own_server.restart, "immediate")
        async with plain(own_server.url) as sql:
            kept = {record["id"] for record in await sql.fetch("select id from mpesa_sync.operations")}
        assert acknowledged <= kept, f"{len(acknowledged - kept)} acknowledged operations were lost at crash {crash}"
        await sixty_more()
    writers.over = True
    await asyncio.gather(*tasks)
    async with plain(own_server.url) as sql:
        applied = await sql.fetchval("select count(*) from mpesa_sync.operations where outcome = 'applied'")
        assert applied - before == len(writers.applied), "as many as were answered, whatever was asked again"
        for bar in bars:
            seen = await see(sql, bar)
            assert seen is not None
            assert (seen.mpesa_enabled, seen.authority) == (writers.shown[bar], writers.shown[bar])


def flipped(blob: bytes) -> bytes:
    """Return it with one bit of its ciphertext changed."""
    return blob[:-1] + bytes([blob[-1] ^ 1])


async def test_secrets_that_do_not_open_hide_their_bar_alone_and_touch_nothing(
    site: web.Site, db: Database, sql: Any
) -> None:
    """Fault matrix, tampered blob: that bar is hidden, the others are as ever, its flags stay; a switch alerts."""
    damaged = await add_bar(sql, production=True, mpesa_enabled=True)
    other = await add_bar(sql, production=True, mpesa_enabled=True)
    await sql.execute(
        "update public.mpesa_credentials set passkey_enc = $2 where tenant_id = $1", damaged, flipped(SEALED[2])
    )
    before = await database_hash(sql)
    offers = {}
    for bar in (damaged, other):
        answer = await site.client.get(f"/api/bars/{bar}/payment-methods")
        offers[bar] = [method["id"] for method in answer.json()["methods"]]
    assert offers == {damaged: ["cash"], other: ["mpesa", "cash"]}
    assert (await site.hub.known(damaged)).reason == "secrets_unreadable", "staff are told why"
    with pytest.raises(CredentialsUnusable) as refused:
        await MpesaSyncManager(db).sync_mpesa_status(damaged, True)
    assert refused.value.reason == "secrets_unreadable"
    changed = changed_tables(before, await database_hash(sql))
    assert changed == {"mpesa_sync.alerts", "mpesa_sync.alert_occurrences"}
    seen = await see(sql, damaged)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.flags) == (True, {"production": True})
    assert await sql.fetchval("select kind from mpesa_sync.alerts") == "secrets_unreadable"
    assert (await MpesaSyncManager(db).sync_mpesa_status(damaged, False)).success, "switching off needs no secret"
