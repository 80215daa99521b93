"""300 SIGKILL cycles over all failpoints, in random order: 0 partial, 0 lost, 0 doubled (faults.md)."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mpesa_sync.db.pool import Database
from tests.prove.figures import KILLS, SEED, limit_s
from tests.support.killing import BATCH_POINTS, CASES, FLEET, Killing

pytestmark = pytest.mark.prove


@pytest.mark.timeout(limit_s(1_800))
async def test_kills_at_random_failpoints_leave_nothing_or_all(db: Database, database_url: str) -> None:
    """R5.3, how the proofs stay honest: every case equally often, later batches too; every kill is counted."""
    print(f"MPESA_SYNC_PROVE_SEED={SEED}")
    draw = random.Random(SEED)
    plan = [CASES[number % len(CASES)] for number in range(KILLS)]
    draw.shuffle(plan)
    batches = (FLEET + 1) // 2
    async with Killing.bench(database_url, db) as killing:
        for deed, point in plan:
            is_one_of_many = point in BATCH_POINTS or deed == "sweep"
            await killing.cycle(deed, point, draw.randint(1, batches - 1) if is_one_of_many else 1)
        assert killing.harness.kills == KILLS
    assert Counter(plan).keys() == set(CASES)
