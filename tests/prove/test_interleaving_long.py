"""The interleaving machine for longer: 5,000 statements (faults.md, figures to reach), ten machines of fresh seeds."""

from __future__ import annotations

import pytest

from tests.prove.figures import MACHINES, STATEMENTS, limit_s
from tests.support.actors import Actor
from tests.support.interleaving import Machine, Tally
from tests.test_interleaving import EVERYBODY, NOBODY_ALONE, SEED, covered


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


@pytest.mark.prove
@pytest.mark.timeout(limit_s(600))
@pytest.mark.parametrize(
    ("kinds", "always"), [(EVERYBODY, False), (NOBODY_ALONE, True)], ids=["everybody", "writers-of-the-pair"]
)
@pytest.mark.parametrize("bars", [1, 4])
async def test_five_thousand_interleaved_statements_leave_no_drift_of_ours(
    database_url: str, kinds: tuple[Actor, ...], always: bool, bars: int
) -> None:
    """R1.2, R2.2, faults.md 10: 0 partial, 0 lost; few bars make collisions, more make lock orders matter."""
    tally = Tally()
    for seed in range(SEED, SEED + MACHINES):
        machine = Machine(database_url, seed, kinds, bars=bars, always_consistent=always)
        tally.add(await machine.run(STATEMENTS))
        assert tally.broken == [], f"MPESA_TEST_SEED={seed}"
    assert tally.statements >= MACHINES * STATEMENTS
    covered(tally, kinds, at_least=20)
    assert (tally.drift_seen == 0) is always
