"""SIGKILL at every failpoint once: nothing or all, then exactly once (R5.3). The long run is in `tests/prove`."""

from __future__ import annotations

from uuid import uuid4

import pytest

from mpesa_sync.db import failpoints
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.pool import Database
from tests.support.harness import Cycle
from tests.support.killing import CASES, Killing
from tests.support.observer import see
from tests.support.venues import add_bar


async def test_a_kill_at_every_failpoint_leaves_nothing_or_all(db: Database, database_url: str) -> None:
    """Fault matrix, SIGKILL between any two steps: each failpoint of each deed once; a re-run completes it once.

    Red when a step of the unit is committed by itself, and when the operation id is stored outside its transaction.
    """
    async with Killing.bench(database_url, db) as killing:
        for deed, point in CASES:
            await killing.cycle(deed, point)
        assert killing.harness.kills == len(CASES)
    assert {point for _, point in CASES} == set(Failpoint)


async def test_two_transactions_for_one_pair_are_caught_half_way(db: Database, database_url: str) -> None:
    """The twin: each field in a transaction of its own, killed between them: the same observer sees half."""
    async with Killing.bench(database_url, db) as killing:
        bar = await add_bar(killing.sql, production=False)
        assert await killing.harness.run(Cycle("naive", "", str(bar), str(uuid4())))
        await killing.dead()
        seen = await see(killing.sql, bar)
    assert seen is not None
    assert seen.drifted
    assert seen.flags == {"production": True}


def test_failpoints_cannot_be_armed_in_an_ordinary_process() -> None:
    """Fault matrix: armed only by the harness; without the interpreter option arming is refused and changes nothing."""
    for point in Failpoint:
        with pytest.raises(RuntimeError, match="-X mpesa_sync_failpoints"):
            failpoints.arm(point, lambda: pytest.fail("armed all the same"))
        failpoints.hit(point)
