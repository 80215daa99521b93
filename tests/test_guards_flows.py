"""Everything of ours works with guards on, in each mode, and meets none: no hit, no deadlock (G2, R1, R2, R4)."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID, uuid4

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.db.pool import Database
from tests.support import databases, web
from tests.support.guarding import drifted, forget_hits, hits, set_mode
from tests.support.observer import see_all
from tests.support.venues import SECRETS, add_bar

every_mode = pytest.mark.parametrize("mode", ["heal", "log", "reject"])


@pytest.fixture
def database_url(guarded_url: str) -> str:
    """`sql` and `db` work on a guarded database here."""
    return guarded_url


async def bars_off(sql: Any, number: int) -> list[UUID]:
    """Insert bars that are off, with both environments."""
    async with sql.transaction():
        found = [await add_bar(sql, mpesa_enabled=False, sandbox=False, production=False) for _ in range(number)]
    await forget_hits(sql)
    return found


async def drift(sql: Any, bar: UUID) -> None:
    """Make a bar drift as it did before there were guards."""
    await sql.execute("alter table public.bars disable trigger mpesa_sync_guard_update")
    await sql.execute("update public.bars set mpesa_enabled = not mpesa_enabled where id = $1", bar)
    await sql.execute("alter table public.bars enable always trigger mpesa_sync_guard_update")


@every_mode
async def test_switch_repair_migration_and_sql_meet_no_guard(
    guarded_url: str, sql: Any, db: Database, mode: str
) -> None:
    """R1, R2, R5.4: alone, and inside a caller's transaction."""
    await set_mode(sql, mode)
    bar, other, third = await bars_off(sql, 3)
    manager = MpesaSyncManager(db)
    assert (await manager.sync_mpesa_status(bar, True, environment="production")).changed
    assert (await manager.sync_mpesa_status(bar, True, environment="sandbox")).changed
    async with databases.plain(guarded_url) as caller, caller.transaction():
        await manager.sync_mpesa_status(other, True, environment="production", connection=caller)
        await caller.execute("select mpesa_sync.set_mpesa_status_v1($1, false, 'staff app')", bar)
    assert [seen.mpesa_enabled for _, seen in sorted((await see_all(sql)).items())] == [
        one == other for one in sorted([bar, other, third])
    ]
    for one in (bar, other):
        await drift(sql, one)
    assert (await manager.repair_inconsistency(bar, actor="operator")).repaired
    report = (await MpesaMigrationService(db).run()).report
    assert (report.fixed, report.verified) == (1, True)
    assert (await drifted(sql), await hits(sql)) == ([], [])


@every_mode
async def test_saves_over_http_meet_no_guard(guarded_url: str, sql: Any, db: Database, mode: str) -> None:
    """R4.1: a first save that switches on, a change, and a switch off."""
    await set_mode(sql, mode)
    async with sql.transaction():
        bar = await add_bar(sql)
    async with web.running(db, guarded_url) as site:
        owner = await site.person(sql, bar)
        names = ("mpesa_consumer_key", "mpesa_consumer_secret", "mpesa_passkey")
        secrets = {name: secret.reveal() for name, secret in zip(names, SECRETS, strict=True)}
        for more in ({"mpesa_business_shortcode": "600123", **secrets}, {}, {}):
            on = bool(more) or None
            body = {"barId": str(bar), "mpesa_enabled": bool(on), "mpesa_environment": "production", **more}
            answer = await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)
            assert answer.status_code == 200, answer.text
            assert (await see_all(sql))[bar].mpesa_enabled is bool(on)
    assert (await drifted(sql), await hits(sql)) == ([], [])


async def test_sixty_four_writers_at_once_meet_no_guard_and_no_deadlock(
    sql: Any, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Issue 5, proof: staff saves on a few bars, guards on."""
    bars = await bars_off(sql, 8)
    drawn = random.Random(5)
    manager = MpesaSyncManager(db)

    async def staff(bar: UUID, on: bool) -> None:
        await manager.sync_mpesa_status(
            bar, on, environment="production" if on else None, actor="staff", operation_id=uuid4()
        )

    await asyncio.gather(*(staff(drawn.choice(bars), drawn.random() < 0.5) for _ in range(64)))
    assert not [record for record in caplog.records if "40P01" in str(record.msg)]
    assert (await drifted(sql), await hits(sql)) == ([], [])
