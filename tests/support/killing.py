"""What must be true after a SIGKILL, and after the same operation is run again: for the smoke test and the proof."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync import MpesaMigrationService, MpesaSyncManager
from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.pool import Database
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.databases import plain
from tests.support.harness import Cycle, Deed, Harness, saved
from tests.support.killing_runs import RunKilled, SweepKilled, is_dead
from tests.support.observer import see
from tests.support.venues import KEY, KEYS, SECRETS, add_bar

RUN_POINTS: Final = tuple(point for point in Failpoint if point.startswith(("run", "round")))
SLICE_POINTS: Final = tuple(point for point in Failpoint if point.startswith("slice"))
UNIT_POINTS: Final = tuple(point for point in Failpoint if not point.startswith(("batch", "run", "round", "slice")))
BATCH_POINTS: Final = tuple(point for point in Failpoint if point.startswith("batch"))
CASES: Final[tuple[tuple[Deed, Failpoint], ...]] = (
    *(("switch", point) for point in UNIT_POINTS),
    *(("save", point) for point in UNIT_POINTS),
    *(("repair", point) for point in UNIT_POINTS),
    *(("migrate", point) for point in BATCH_POINTS),
    *(("run", point) for point in RUN_POINTS),
    *(("sweep", point) for point in (*SLICE_POINTS, Failpoint.PAIR_WRITTEN, Failpoint.RESULT_STORED)),
)
FLEET: Final = 5
"""Drifted bars of a migration cycle, in batches of two."""

_CHANGES: Final = """
create schema changes;
create table changes.committed (bar_id uuid not null);
create function changes.note() returns trigger language plpgsql as $$
begin insert into changes.committed values (new.id); return new; end $$;
create trigger noted after update on public.bars for each row
  when (old.mpesa_enabled is distinct from new.mpesa_enabled) execute function changes.note();
"""
"""The test's own count of committed changes of the flag: once for each bar, or something was done twice."""
_OPERATIONS: Final = "select count(*) from mpesa_sync.operations where id = $1 and outcome = 'applied'"
_ACCOUNT: Final = "insert into mpesa_sync.accounts (name, password_hash) values ($1, '!') returning id"
_MEMBER: Final = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, 'owner')"
_PASSKEY: Final = "select passkey_enc from public.mpesa_credentials where tenant_id = $1"
_JOURNALLED: Final = "select count(*) from mpesa_sync.migration_journal where bar_id = $1"


class Killing:
    """The bench of the kill cycles: a harness, a database of the test's own program, and one observer."""

    def __init__(self, harness: Harness, database: Database, sql: Any) -> None:
        self.harness = harness
        self._db = database
        self.sql = sql

    @classmethod
    @asynccontextmanager
    async def bench(cls, url: str, database: Database) -> AsyncIterator[Killing]:
        async with plain(url) as sql, Harness.started(url, KEY) as harness:
            await sql.execute(_CHANGES)
            yield cls(harness, database, sql)

    async def cycle(self, deed: Deed, point: Failpoint, nth: int = 1) -> None:
        """Kill one deed at one place; see nothing or all; do it again and see it exactly once."""
        if deed == "migrate":
            await self._migration(point, nth)
        elif deed == "run":
            await RunKilled(self.harness, self._db, self.sql).cycle(point)
        elif deed == "sweep":
            await SweepKilled(self.harness, self._db, self.sql).cycle(point, nth)
        elif deed == "save":
            await self._save(point)
        else:
            await self._unit(deed, point)

    async def dead(self) -> None:
        """Wait until the server has noticed: then whatever the killed process had open is rolled back."""
        await is_dead(self.sql)

    async def _unit(self, deed: Deed, point: Failpoint) -> None:
        bar, operation_id = await add_bar(self.sql, production=deed == "repair"), uuid4()
        killed = await self.harness.run(Cycle(deed, point, str(bar), str(operation_id)))
        assert killed, f"{deed} never passed {point}"
        await self.dead()
        applied = await self.sql.fetchval(_OPERATIONS, operation_id)
        assert applied == (point is Failpoint.COMMITTED), f"{deed} killed at {point}: the operation's row"
        await self._is(bar, shown=bool(applied), active=deed == "repair" or bool(applied))
        manager = MpesaSyncManager(self._db)
        if deed == "switch":
            result = await manager.sync_mpesa_status(bar, True, actor="harness", operation_id=operation_id)
            assert (result.success, result.changed, result.attempts) == (True, True, 1)
        else:
            repaired = await manager.repair_inconsistency(bar, actor="harness", operation_id=operation_id)
            assert (repaired.success, repaired.repaired) == (True, True)
        assert await self.sql.fetchval(_OPERATIONS, operation_id) == 1
        await self._is(bar, shown=True, active=True)

    async def _save(self, point: Failpoint) -> None:
        """As a switch, with the credentials and their passkey, which are there as well or not at all."""
        bar, operation_id, passkey = await add_bar(self.sql, production=False), uuid4(), f"passkey-{uuid4().hex}"
        person = await self.sql.fetchval(_ACCOUNT, f"h{bar.hex}")
        await self.sql.execute(_MEMBER, person, bar)
        cycle = Cycle("save", point, str(bar), str(operation_id), person_id=str(person), passkey=passkey)
        assert await self.harness.run(cycle), f"a save never passed {point}"
        await self.dead()
        applied = await self.sql.fetchval(_OPERATIONS, operation_id)
        assert applied == (point is Failpoint.COMMITTED), f"a save killed at {point}: the operation's row"
        await self._is(bar, shown=bool(applied), active=bool(applied))
        assert await self._passkey(bar) == (passkey if applied else SECRETS[2].reveal())
        result = await SettingsService(self._db).save(*saved(cycle), operation_id=operation_id)
        assert (result.enabled, result.changed, result.stored) == (True, True, ("mpesa_passkey",))
        assert await self.sql.fetchval(_OPERATIONS, operation_id) == 1
        assert await self._passkey(bar) == passkey
        await self._is(bar, shown=True, active=True)

    async def _passkey(self, bar: UUID) -> str:
        return open_stored(KEYS, await self.sql.fetchval(_PASSKEY, bar)).secret.reveal()

    async def _migration(self, point: Failpoint, nth: int) -> None:
        bars = [await add_bar(self.sql, production=True) for _ in range(FLEET)]
        killed = await self.harness.run(Cycle("migrate", point, str(bars[0]), str(uuid4()), nth))
        assert killed, f"the migration never passed {point} for the {nth}. time"
        await self.dead()
        shown = 0
        for bar in bars:
            journalled = await self.sql.fetchval(_JOURNALLED, bar)
            await self._is(bar, shown=bool(journalled), active=True)
            shown += journalled
        assert shown == 2 * (nth if point is Failpoint.BATCH_COMMITTED else nth - 1), "whole batches, and no more"
        run = await MpesaMigrationService(self._db).run()
        assert (run.report.fixed, run.report.verified) == (FLEET - shown, True)
        for bar in bars:
            assert await self.sql.fetchval(_JOURNALLED, bar) == 1
            await self._is(bar, shown=True, active=True)

    async def _is(self, bar: UUID, *, shown: bool, active: bool) -> None:
        """Both fields in one statement, and as many committed changes of the flag as there must have been."""
        seen = await see(self.sql, bar)
        assert seen is not None
        assert (seen.mpesa_enabled, seen.flags) == (shown, {"production": active})
        changes = await self.sql.fetchval("select count(*) from changes.committed where bar_id = $1", bar)
        assert changes == shown, f"{changes} committed changes"
