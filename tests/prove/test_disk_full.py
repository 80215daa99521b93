"""A server whose disk is full: the pair rolls back, the error says so, and everything heals by itself (faults.md)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db import embedded, migrations
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.errors import ResourcesExhausted
from tests.support import databases
from tests.support.observer import see
from tests.support.venues import KEY, add_bar

pytestmark = pytest.mark.prove

DISK_MIB = 160
MOST_SWITCHES = 4_000


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
