"""A process that dies where it is told to: runs a deed in a child of its own, killed by SIGKILL at a failpoint.

Started by `Harness` as `python -X mpesa_sync_failpoints -m tests.support.harness`, the one way to arm failpoints.
It reads one JSON line for the database, then one a cycle, and answers each with how the child ended. A cycle is a
`fork` of a process that has everything imported and nothing open, so that 300 of them are affordable.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from mpesa_sync import MpesaMigrationService, MpesaSyncManager, connect
from mpesa_sync.backoff import Backoff
from mpesa_sync.db import failpoints
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.secret import Secret
from mpesa_sync.sync.reconciler import Reconciler, Rhythm
from mpesa_sync.sync.settings_service import SettingsService

Deed = Literal["switch", "save", "repair", "migrate", "run", "sweep", "naive"]
APPLICATION: Final = "mpesa-sync-harness"
_ROOT: Final = Path(__file__).parents[2]
_LIFETIME_S: Final = 120
RHYTHM: Final = Rhythm(page=2, second_look_s=0.0, lease_s=0.2, budget=1_000_000)
"""A sweep in small slices, whose lease is over soon."""


@dataclass(frozen=True)
class Cycle:
    """One deed and where it is to be killed: at the `nth` time that `point` is passed; `point` "" means nowhere.

    A save has a person who saves and a new passkey; a migration a size of its batches.
    """

    deed: Deed
    point: str
    bar_id: str
    operation_id: str
    nth: int = 1
    person_id: str = ""
    passkey: str = ""
    batch_size: int = 2


def _kill_at(point: Failpoint, nth: int) -> None:
    left = nth

    def count_down() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoints.arm(point, count_down)


async def _do(cycle: Cycle, url: str, key: str) -> None:
    if cycle.deed == "naive":
        await _naive(cycle, url)
        return
    async with connect(
        url, kms_keys=[key], application_name=APPLICATION, pool_size=2, retry=Backoff(max_retries=0)
    ) as database:
        manager, operation_id = MpesaSyncManager(database), UUID(cycle.operation_id)
        if cycle.deed == "switch":
            await manager.sync_mpesa_status(cycle.bar_id, True, actor="harness", operation_id=operation_id)
        elif cycle.deed == "save":
            await SettingsService(database).save(*saved(cycle), operation_id=operation_id)
        elif cycle.deed == "repair":
            await manager.repair_inconsistency(cycle.bar_id, actor="harness", operation_id=operation_id)
        elif cycle.deed == "sweep":
            await Reconciler(database, RHYTHM).sweep()
        else:
            run = await MpesaMigrationService(database).run(RunOptions(batch_size=cycle.batch_size, actor="harness"))
            assert run.fault is None, run.fault


def saved(cycle: Cycle) -> tuple[SettingsChange, Person]:
    """Return what a save changes, and who saves it: a new passkey, and M-Pesa on."""
    change = SettingsChange(
        UUID(cycle.bar_id), enabled=True, environment=Environment.PRODUCTION, passkey=Secret(cycle.passkey)
    )
    return change, Person(UUID(cycle.person_id), "harness", False, Via.SESSION)


async def _naive(cycle: Cycle, url: str) -> None:
    """The twin: both fields, each in a transaction of its own, and the kill between them."""
    connection = await asyncpg.connect(url, server_settings={"application_name": APPLICATION})
    await connection.execute("update mpesa_credentials set is_active = true where tenant_id = $1", UUID(cycle.bar_id))
    os.kill(os.getpid(), signal.SIGKILL)
    await connection.execute("update bars set mpesa_enabled = true where id = $1", UUID(cycle.bar_id))


def _child(cycle: Cycle, url: str, key: str) -> int:
    signal.alarm(_LIFETIME_S)  # a child that hangs ends by itself
    try:
        if cycle.point:
            _kill_at(Failpoint(cycle.point), cycle.nth)
        asyncio.run(_do(cycle, url, key))
    except BaseException:  # noqa: BLE001 - printed, and told to the parent by the status
        traceback.print_exc()
        return 1
    return 0


def serve() -> None:
    """Answer one cycle a line until the end of input."""
    database = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        cycle = Cycle(**json.loads(line))
        child = os.fork()
        if child == 0:
            code = _child(cycle, database["url"], database["key"])
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        print(
            json.dumps({"killed": os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, "status": status}),
            flush=True,
        )


class Harness:
    """The test's end of such a process. `kills` counts the children that died where they were told to."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.kills = 0

    @classmethod
    @asynccontextmanager
    async def started(cls, url: str, key: Secret) -> AsyncIterator[Harness]:
        """Start it for one database, and end it with the block. Secrets go through its standard input."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-X",
            "mpesa_sync_failpoints",
            "-m",
            "tests.support.harness",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
        )
        harness = cls(process)
        await harness._say({"url": url, "key": key.reveal()})
        try:
            yield harness
        finally:
            assert process.stdin
            process.stdin.close()
            await asyncio.wait_for(process.wait(), 2 * _LIFETIME_S)

    async def run(self, cycle: Cycle) -> bool:
        """Run one cycle; return whether the child was killed at its failpoint, False where it ended well.

        Raises:
            AssertionError: it ended otherwise; its traceback is on standard error.
        """
        await self._say(asdict(cycle))
        assert self._process.stdout
        line = await asyncio.wait_for(self._process.stdout.readline(), 2 * _LIFETIME_S)
        answer: dict[str, Any] = json.loads(line)
        assert answer["killed"] or answer["status"] == 0, f"{cycle} ended with {answer['status']}"
        self.kills += bool(answer["killed"])
        return bool(answer["killed"])

    async def _say(self, value: dict[str, Any]) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(value).encode() + b"\n")
        await self._process.stdin.drain()


if __name__ == "__main__":
    serve()
