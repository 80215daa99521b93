"""300 SIGKILL cycles over all failpoints, in random order: 0 partial, 0 lost, 0 doubled (faults.md)."""

from __future__ import annotations

import os
import random
from collections import Counter

import pytest

from mpesa_sync.db.pool import Database
from tests.support.killing import BATCH_POINTS, CASES, FLEET, Killing

pytestmark = pytest.mark.prove
CYCLES = int(os.environ.get("MPESA_SYNC_PROVE_KILLS", "300"))
SEED = int(os.environ.get("MPESA_SYNC_PROVE_SEED", str(random.SystemRandom().getrandbits(32))))


@pytest.mark.timeout(1800)
async def test_kills_at_random_failpoints_leave_nothing_or_all(db: Database, database_url: str) -> None:
    """R5.3, how the proofs stay honest: every case equally often, later batches too; every kill is counted.

    `MPESA_SYNC_PROVE_KILLS` for more cycles (at night), `MPESA_SYNC_PROVE_SEED` to see the same order again.
    """
    print(f"MPESA_SYNC_PROVE_SEED={SEED}")
    draw = random.Random(SEED)
    plan = [CASES[number % len(CASES)] for number in range(CYCLES)]
    draw.shuffle(plan)
    batches = (FLEET + 1) // 2
    async with Killing.bench(database_url, db) as killing:
        for deed, point in plan:
            is_one_of_many = point in BATCH_POINTS or deed == "sweep"
            await killing.cycle(deed, point, draw.randint(1, batches - 1) if is_one_of_many else 1)
        assert killing.harness.kills == CYCLES
    assert Counter(plan).keys() == set(CASES)
