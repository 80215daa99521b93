"""A real standby: a base backup of a running embedded server, started as a server of its own that stays in recovery."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mpesa_sync.db import embedded
from tests.support.databases import plain
from tests.support.faults import until


@asynccontextmanager
async def standby_of(
    primary: embedded.Server, folder: Path, distribution: embedded.Distribution
) -> AsyncIterator[embedded.Server]:
    """Start a standby of `primary` below `folder`. It follows the primary and can be promoted."""
    home = folder / "standby" / "postgres"
    home.mkdir(mode=0o700, parents=True)
    home.parent.chmod(0o700)
    origin = primary.data_dir.parent
    for name in ("password", "cluster.json"):
        shutil.copy2(origin / name, home / name)
    command = [str(primary.bin_dir / "pg_basebackup"), "-D", str(home / "data"), "-d", primary.url, "-R", "-c", "fast"]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=60, capture_output=True)
    owner = primary.data_dir.stat()
    for path in (home / "data", *(home / "data").rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    with embedded.start(home.parent, distribution=distribution) as server:
        async with plain(server.url) as connection:
            assert await connection.fetchval("select pg_is_in_recovery()")
        yield server


async def caught_up(primary: embedded.Server, standby: embedded.Server) -> None:
    """Wait until the standby has replayed what the primary has written until now."""
    async with plain(primary.url) as ahead, plain(standby.url) as behind:
        written = await ahead.fetchval("select pg_current_wal_lsn()::text")
        statement = "select coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, true)"
        await until(lambda: behind.fetchval(statement, written), deadline_s=30)
