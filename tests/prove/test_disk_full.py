"""A server whose disk is full: the pair rolls back, the error says so, and everything heals by itself (faults.md)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager, RunOptions
from mpesa_sync.db import embedded, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.errors import ResourcesExhausted
from mpesa_sync.migration.report import RunState
from tests.support import databases
from tests.support.clocks import HurriedClock
from tests.support.fleets import Venue, plant
from tests.support.migrating import adds_up, once
from tests.support.observer import see, see_all
from tests.support.venues import KEY, add_bar

pytestmark = pytest.mark.prove

DISK_MIB = 160
MOST_SWITCHES = 4_000
DRIFTED = 12_000
_JOURNALLED = "select count(*) from mpesa_sync.migration_journal"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to fill. Needs root, as CI has."""
    folder = tmp_path / "disk"
    folder.mkdir(mode=0o700)
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("mounting a small file system needs root; CI has it")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=700", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def _fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            return filler


async def test_a_full_disk_rolls_back_is_said_and_heals(small_disk: Path) -> None:
    """53100: no retry, nothing half; after space is there again the same call succeeds and the alert is resolved."""
    async with embedded.running(small_disk / "home") as server, connect(server.url, kms_keys=[KEY]) as db:
        await migrations.migrate(db, mode=Mode.GREENFIELD, create_platform_tables=True)
        manager = MpesaSyncManager(db)
        async with databases.plain(server.url) as observer:
            bar = await add_bar(observer, production=False)
            await observer.execute("checkpoint")
            filler = _fill(small_disk)
            refused = None
            for number in range(MOST_SWITCHES):
                before = await see(observer, bar)
                try:
                    await manager.sync_mpesa_status(bar, number % 2 == 0)
                except ResourcesExhausted as error:
                    refused = error
                    break
            assert refused is not None, "the disk never was full"
            assert (refused.sqlstate, refused.attempts, refused.retryable) == ("53100", 1, True)
            assert refused.result.success is False
            assert await see(observer, bar) == before
            filler.unlink()
            result = await manager.sync_mpesa_status(bar, True)
            assert result.success
            seen = await see(observer, bar)
            assert seen is not None
            assert (seen.mpesa_enabled, seen.authority) == (True, True)
            assert await observer.fetchval("select count(*) from mpesa_sync.alerts where state <> 'resolved'") == 0


async def test_a_full_disk_pauses_a_run_and_quarantines_nobody(small_disk: Path) -> None:
    """R2.4: a fault of the whole, in the middle of a run; with space there again it goes on from its last batch."""
    with embedded.start(small_disk / "home", extra_settings={"autovacuum": "off"}) as server:
        async with connect(server.url, clock=HurriedClock()) as db, databases.plain(server.url) as observer:
            await migrations.migrate(db, mode=Mode.GREENFIELD, create_platform_tables=True)
            planted = await plant(observer, [Venue(False, True, "absent")] * DRIFTED)
            await observer.execute("checkpoint")
            filled: list[Path] = []

            def fill() -> None:
                filled.append(_fill(small_disk))

            service = MpesaMigrationService(db)
            progress = once("correcting", fill, settled=1)
            run = await service.run(RunOptions(batch_size=200), progress=progress)
            assert filled, "the disk never was full"
            assert (run.report.state, run.report.quarantined) == (RunState.PAUSED, 0), run.fault
            assert "disk space" in str(run.fault)
            assert adds_up(run)
            assert 0 < run.report.fixed < DRIFTED
            assert await observer.fetchval(_JOURNALLED) == run.report.fixed, "whole batches, each counted"
            filled[0].unlink()
            resumed = await service.resume(run.report.run)
            report = resumed.report
            assert (report.state, report.fixed, report.verified) == (RunState.DONE, len(planted), True)
            assert (report.quarantined, adds_up(resumed)) == (0, True)
            assert await observer.fetchval(_JOURNALLED) == len(planted)
            assert not [seen for seen in (await see_all(observer)).values() if seen.drifted]
