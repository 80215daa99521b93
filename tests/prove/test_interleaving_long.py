"""The interleaving machine for longer: 5,000 statements (faults.md, figures to reach), ten machines of fresh seeds."""

from __future__ import annotations

import pytest

from tests.prove.figures import MACHINES, STATEMENTS, limit_s
from tests.support import corrections
from tests.support.actors import Actor, correcting
from tests.support.interleaving import Machine, Tally
from tests.test_interleaving import (
    CROWDS,
    EVERYBODY,
    NOBODY_ALONE,
    SEED,
    SWITCHING,
    Crowd,
    covered,
    machine,
)
from tests.test_interleaving import EACH as EACH_DAY


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


@pytest.mark.prove
@CROWDS
async def test_our_correction_makes_none_in_the_next_seeds(database_url: str, crowd: Crowd) -> None:
    """R2.2: as `test_our_correction_makes_none_in_the_same_crowds`, which runs every day, from where that ends."""
    tally = Tally()
    for seed in range(3, 6):
        tally.add(await machine(database_url, corrections.ours, crowd, seed).run(EACH_DAY))
    assert tally.broken == []
    covered(tally, (correcting("correction", corrections.ours), *crowd.foreign), at_least=1)


@pytest.mark.prove
async def test_our_switch_is_as_asked_in_the_next_seeds(database_url: str) -> None:
    """R1.2, R1.3: as `test_our_switch_is_as_asked_where_rows_come_and_go`, from where that ends."""
    tally = Tally()
    for seed in range(4, 8):
        tally.add(await Machine(database_url, seed, SWITCHING, bars=1, seats=4).run(EACH_DAY))
    assert tally.broken == []
    covered(tally, SWITCHING, at_least=5)
