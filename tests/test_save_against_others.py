"""A save of the settings against everybody else who writes the same bar, each waiting for the other (races.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager, connect
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import BarNotFound
from mpesa_sync.identity.people import Person
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync.settings_service import SettingsSaved, SettingsService
from tests.support.databases import plain
from tests.support.faults import QUICK, logged, named, until, waits_for_a_lock
from tests.support.gates import Gate, gate
from tests.support.observer import OF_ALERTS, changed_tables, database_hash, see
from tests.support.people import add_account, person
from tests.support.venues import KEY, add_bar
from tests.support.waiting import waiter_for
from tests.support.watching import watched
from tests.support.web import Site

SAVER: Final = "the saver"
OTHER: Final = "the other"
_SAVED: Final = "select count(*) from mpesa_sync.operations where kind = 'settings' and outcome = 'applied'"
_PAIR: Final = (
    "update public.mpesa_credentials set is_active = $2 where tenant_id = $1",
    "update public.bars set mpesa_enabled = $2 where id = $1",
)


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


@dataclass
class Stage:
    """A bar that customers do not see and staff think is on; a save that switches it off; somebody else."""

    url: str
    bar: UUID
    saver: Database
    other: Database
    legacy: Any
    sql: Any
    who: Person

    def save(self) -> asyncio.Task[SettingsSaved]:
        """Begin to save `off`."""
        return asyncio.create_task(SettingsService(self.saver).save(SettingsChange(self.bar, enabled=False), self.who))

    async def is_off(self) -> bool:
        """Whether both fields say so."""
        seen = await see(self.sql, self.bar)
        assert seen is not None
        return (seen.mpesa_enabled, seen.authority) == (False, False)

    async def waits_for(self, task: asyncio.Task[Any], holder: int) -> None:
        """Wait until somebody waits for a lock that this backend holds; it is none other than `task`."""
        await waiter_for(self.sql, holder)
        assert not task.done()


@pytest.fixture
async def stage(database_url: str, sql: Any) -> AsyncIterator[Stage]:
    """See `Stage`; everybody has a name of their own, and the legacy program is never whom a deadlock ends."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(connect(database_url, kms_keys=[KEY], retry=QUICK, application_name=name))
            for name in (SAVER, OTHER)
        ]
        legacy = await stack.enter_async_context(plain(database_url))
        await legacy.execute("set deadlock_timeout = '20s'")
        bar = await add_bar(sql, mpesa_enabled=False, production=True)
        yield Stage(
            database_url, bar, opened[0], opened[1], legacy, sql, person(await add_account(opened[0], owner=bar))
        )


def saver_held(stage: Stage) -> AbstractAsyncContextManager[Gate]:
    """Hold the save after its last write, before its commit: every lock is taken."""
    return gate(stage.sql, "before update", "mpesa_sync.operations", SAVER)


async def pid_of(connection: Any) -> int:
    return int(await connection.fetchval("select pg_backend_pid()"))


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_save_against_the_delete_of_its_bar(stage: Stage, database_url: str, end: str) -> None:
    """Fault matrix, faults.md 4: the save waits for the delete; deleted is `BarNotFound` and nothing written.

    The twin stands inside: an UPDATE of another program waits as well, finds no row, and commits as if all were well.
    """
    async with plain(database_url) as naive:
        await stage.legacy.execute("begin")
        await stage.legacy.execute("delete from public.bars where id = $1", stage.bar)
        before = await database_hash(stage.sql)
        saving = stage.save()
        await stage.waits_for(saving, await pid_of(stage.legacy))
        updating = asyncio.create_task(naive.execute(_PAIR[1], stage.bar, False))
        await until(lambda: waits_for_a_lock(stage.sql))
        await stage.legacy.execute(end)
        updated = await updating
        if end == "rollback":
            assert (await saving).enabled is False
            assert updated == "UPDATE 1"
            assert await stage.is_off()
            return
        with pytest.raises(BarNotFound):
            await saving
        assert updated == "UPDATE 0", "the twin says nothing"
    gone = {"public.bars", "public.mpesa_credentials", "mpesa_sync.bar_state"}
    assert changed_tables(before, await database_hash(stage.sql)) <= gone, "only what the delete took"
    assert await stage.sql.fetchval("select count(*) from mpesa_sync.operations") == 0


async def test_the_delete_of_a_bar_waits_for_a_save_and_then_takes_all(stage: Stage) -> None:
    """The other order: the save is applied and stays in the history; the bar is gone afterwards."""
    async with saver_held(stage) as closed:
        saving = stage.save()
        holder = await closed.held()
        deleting = asyncio.create_task(stage.legacy.execute("delete from public.bars where id = $1", stage.bar))
        await stage.waits_for(deleting, holder)
        await closed.open()
        assert (await saving).enabled is False
        assert await deleting == "DELETE 1"
    assert await see(stage.sql, stage.bar) is None
    assert await stage.sql.fetchval(_SAVED) == 1


async def repairs(stage: Stage) -> bool:
    """Repair the bar as the other program; return whether that changed anything."""
    return (await MpesaSyncManager(stage.other).repair_inconsistency(stage.bar, actor="other")).repaired


async def migrates(stage: Stage) -> bool:
    """Run a migration as the other program; return whether it corrected the bar."""
    run = await MpesaMigrationService(stage.other).run(RunOptions(actor="other"))
    assert run.fault is None
    return run.report.fixed == 1


CORRECTIONS: Final = {
    "repair": (repairs, "before update", "mpesa_sync.operations"),
    "migration": (migrates, "after insert", "mpesa_sync.migration_journal"),
}


@pytest.mark.parametrize("kind", CORRECTIONS)
async def test_a_save_that_waits_for_a_correction_has_the_last_word(stage: Stage, kind: str) -> None:
    """races.md: the correction makes the flag follow the credentials; then the save switches both off."""
    correct, when, table = CORRECTIONS[kind]
    async with gate(stage.sql, when, table, OTHER) as closed, watched(stage.url, [stage.bar]) as watch:
        correcting = asyncio.create_task(correct(stage))
        holder = await closed.held()
        saving = stage.save()
        await stage.waits_for(saving, holder)
        await closed.open()
        assert await correcting is True
        assert (await saving).changed is True
    assert await stage.is_off()
    assert [seen.drifted for seen in watch.of(stage.bar)] == [True, False, False], "mended, then switched off"


@pytest.mark.parametrize("kind", CORRECTIONS)
async def test_a_correction_that_waits_for_a_save_finds_nothing_to_do(stage: Stage, kind: str) -> None:
    """races.md: it decides anew under its locks: what it had seen as drift is consistent by then."""
    correct = CORRECTIONS[kind][0]
    async with saver_held(stage) as closed, watched(stage.url, [stage.bar]) as watch:
        saving = stage.save()
        holder = await closed.held()
        correcting = asyncio.create_task(correct(stage))
        await stage.waits_for(correcting, holder)
        await closed.open()
        assert (await saving).enabled is False
        assert await correcting is False
    assert await stage.is_off()
    assert [seen.drifted for seen in watch.of(stage.bar)] == [True, False]


@pytest.mark.parametrize("credentials_first", [True, False], ids=["credentials first", "bars first"])
async def test_a_save_that_waits_for_a_legacy_writer_has_the_last_word(stage: Stage, credentials_first: bool) -> None:
    """races.md: in its order it waits; in the other one of two dies in a deadlock, which is ours and tried again."""
    first, second = _PAIR if credentials_first else _PAIR[::-1]
    await stage.legacy.execute("begin")
    await stage.legacy.execute(first, stage.bar, True)
    with logged() as events:
        saving = stage.save()
        await stage.waits_for(saving, await pid_of(stage.legacy))
        await stage.legacy.execute(second, stage.bar, True)
        await stage.legacy.execute("commit")
        assert (await saving).enabled is False
    causes = [event["sqlstate"] for event in named(events, Event.SYNC_ATTEMPT)]
    assert causes[-1] is None
    assert set(causes[:-1]) == (set() if credentials_first else {"40P01"})
    assert not named(events, Event.ALERT_RAISED)
    assert await stage.is_off()


@pytest.mark.parametrize("credentials_first", [True, False], ids=["credentials first", "bars first"])
async def test_a_legacy_writer_that_waits_for_a_save_has_the_last_word(stage: Stage, credentials_first: bool) -> None:
    """The other order: nothing of either is lost, and the pair is never half."""
    async with saver_held(stage) as closed, watched(stage.url, [stage.bar]) as watch:
        saving = stage.save()
        holder = await closed.held()

        async def write() -> None:
            async with stage.legacy.transaction():
                for statement in _PAIR if credentials_first else _PAIR[::-1]:
                    await stage.legacy.execute(statement, stage.bar, True)

        writing = asyncio.create_task(write())
        await stage.waits_for(writing, holder)
        await closed.open()
        assert (await saving).enabled is False
        await writing
    seen = await see(stage.sql, stage.bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.authority) == (True, True)
    assert not any(state.drifted for state in watch.of(stage.bar)[1:])


async def test_without_the_lock_a_save_and_a_legacy_writer_leave_drift(stage: Stage, database_url: str) -> None:
    """The twin: the same two writers, each field committed by itself and in different orders: this stage sees half."""
    async with plain(database_url) as naive:
        await naive.execute(_PAIR[0], stage.bar, False)
        await stage.legacy.execute(_PAIR[0], stage.bar, True)
        await stage.legacy.execute(_PAIR[1], stage.bar, True)
        await naive.execute(_PAIR[1], stage.bar, False)
    seen = await see(stage.sql, stage.bar)
    assert seen is not None
    assert seen.drifted


async def test_a_membership_revoked_between_reading_and_saving_is_a_404(site: Site, sql: Any) -> None:
    """Abuse cases: the page was open, the person has left the venue since: not found, nothing written."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    read = await site.client.get("/api/mpesa-settings", params={"barId": str(bar)}, headers=owner.headers)
    await sql.execute("delete from mpesa_sync.memberships where account_id = $1", owner.id)
    before = await database_hash(sql)
    body = {"barId": str(bar), "mpesa_enabled": True}
    answer = await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)
    assert (read.status_code, answer.status_code, answer.json()["code"]) == (200, 404, "bar_not_found")
    assert changed_tables(before, await database_hash(sql)) == set()


async def test_a_membership_revoked_while_the_save_waits_is_seen_under_its_lock(stage: Stage) -> None:
    """Abuse cases: it was a member when it began and is none when it would write: nothing written, no alert."""
    await stage.legacy.execute("begin")
    await stage.legacy.execute("select 1 from public.bars where id = $1 for update", stage.bar)
    before = await database_hash(stage.sql)
    saving = stage.save()
    await stage.waits_for(saving, await pid_of(stage.legacy))
    await stage.sql.execute("delete from mpesa_sync.memberships")
    await stage.legacy.execute("commit")
    with pytest.raises(BarNotFound):
        await saving
    assert changed_tables(before, await database_hash(stage.sql)) - OF_ALERTS == {"mpesa_sync.memberships"}
    assert await stage.sql.fetchval("select count(*) from mpesa_sync.alerts") == 0
