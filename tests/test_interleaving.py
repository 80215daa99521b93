"""Single statements of several open transactions, interleaved at random: ours never leave drift (faults.md 10).

A machine of whole operations cannot see a race. This one can: the same machine with a wrong correction finds the
drift that it makes, and that is tested here too. Replay a run with `MPESA_TEST_SEED=<seed>`.
"""

from __future__ import annotations

import os
import secrets
from typing import Final, NamedTuple

import pytest

from tests.support import corrections
from tests.support.actors import (
    BARS_ONLY,
    CREDENTIALS_ONLY,
    DELETE,
    FOREIGN,
    INSERT,
    OURS,
    PAIRED,
    REPAIR,
    SWITCH,
    Actor,
    correcting,
)
from tests.support.corrections import Correction
from tests.support.interleaving import Machine, Tally

SEED: Final = int(os.environ.get("MPESA_TEST_SEED", secrets.randbits(32)))
STATEMENTS: Final = 600
EVERYBODY: Final = (*OURS, *PAIRED, *FOREIGN, INSERT)
NOBODY_ALONE: Final = (*OURS, *PAIRED)


@pytest.fixture
def database_url(unnoticed_url: str) -> str:
    """Other writers on their own: no notice trigger makes them wait at their commit."""
    return unnoticed_url


def covered(tally: Tally, kinds: tuple[Actor, ...], *, at_least: int) -> None:
    """Demand that every kind of actor committed, that some were made to wait, and that some rolled back."""
    print(tally)
    for actor in kinds:
        assert tally.committed[actor.name] >= at_least, f"{actor.name} hardly took part: {tally.committed}"
    assert tally.blocked > 0, "nobody ever waited: nothing was interleaved"
    assert sum(tally.rolled_back.values()) > 0


async def test_right_after_our_commits_a_bar_is_as_we_say_whoever_else_writes(database_url: str) -> None:
    """R1.2, R1.3, R2.2, races.md: red with any lock of the writer or the correction weakened."""
    tally = await Machine(database_url, SEED, EVERYBODY).run(STATEMENTS)
    print(f"MPESA_TEST_SEED={SEED}")
    assert tally.broken == []
    covered(tally, EVERYBODY, at_least=1)
    assert tally.drift_seen > 0, "the other programs made no drift: there was nothing to correct"


async def test_writers_of_the_pair_and_ours_never_leave_drift_at_all(database_url: str) -> None:
    """R1.1: with nobody who writes a single field, every committed state is consistent."""
    tally = await Machine(database_url, SEED, NOBODY_ALONE, always_consistent=True).run(STATEMENTS)
    print(f"MPESA_TEST_SEED={SEED}")
    assert tally.broken == []
    covered(tally, NOBODY_ALONE, at_least=1)
    assert tally.drift_seen == 0


class Crowd(NamedTuple):
    """Who meets a correction, and how closely: races differ in what they need to show."""

    foreign: tuple[Actor, ...]
    bars: int
    seats: int


ANYBODY: Final = Crowd((*PAIRED, *FOREIGN, INSERT, CREDENTIALS_ONLY), bars=3, seats=5)
ROWS_COME_AND_GO: Final = Crowd(
    (*((INSERT,) * 4), *((DELETE,) * 3), *((CREDENTIALS_ONLY,) * 3), *((BARS_ONLY,) * 2)), bars=3, seats=5
)
ONE_BAR: Final = Crowd(
    (*((INSERT,) * 4), *((DELETE,) * 3), *((CREDENTIALS_ONLY,) * 4), *((BARS_ONLY,) * 2)), bars=1, seats=4
)
CROWDS: Final = pytest.mark.parametrize(
    "crowd", [ANYBODY, ROWS_COME_AND_GO, ONE_BAR], ids=["anybody", "rows", "one-bar"]
)
SWITCHING: Final = (*((SWITCH,) * 3), *((REPAIR,) * 2), *((INSERT,) * 5), *((DELETE,) * 4), *((CREDENTIALS_ONLY,) * 3))
WRONG: Final = [
    pytest.param(corrections.read_then_update, ANYBODY, id="read-then-update"),
    pytest.param(corrections.update_from, ANYBODY, id="update-from"),
    pytest.param(corrections.update_exists, ANYBODY, id="exists"),
    pytest.param(corrections.compare_and_set, ANYBODY, id="compare-and-set"),
    pytest.param(corrections.bars_only, ROWS_COME_AND_GO, id="only-bars-locked"),
    pytest.param(corrections.no_key_update, ROWS_COME_AND_GO, id="for-no-key-update"),
    pytest.param(corrections.ours_locked_once, ONE_BAR, id="new-rows-not-locked"),
]
MACHINES: Final = 16
EACH: Final = 300


def machine(url: str, correction: Correction, crowd: Crowd, seed: int) -> Machine:
    """Return a machine in which corrections of this form meet the crowd."""
    kinds = (correcting("correction", correction),) * 4 + crowd.foreign
    return Machine(url, seed, kinds, bars=crowd.bars, seats=crowd.seats, modelled=False)


@pytest.mark.parametrize(("wrong", "crowd"), WRONG)
async def test_the_machine_finds_the_drift_that_a_wrong_correction_makes(
    database_url: str, wrong: Correction, crowd: Crowd
) -> None:
    """The twin that must fail: within 4,800 statements drift is seen right after such a commit, or by its read-back."""
    tally = Tally()
    for seed in range(MACHINES):
        tally.add(await machine(database_url, wrong, crowd, seed).run(EACH))
        if tally.broken:
            break
    print(tally)
    assert tally.broken, f"not found in {tally.statements} statements"
    for broken in tally.broken:
        assert broken.actor == "correction"
        assert broken.message.startswith(("claimed", "failed with IntegrityFault"))


@CROWDS
async def test_our_correction_makes_none_in_the_same_crowds(database_url: str, crowd: Crowd) -> None:
    """R2.2: the seeds in which the wrong forms are found out; `make prove` goes on where these end."""
    tally = Tally()
    for seed in range(3):
        tally.add(await machine(database_url, corrections.ours, crowd, seed).run(EACH))
    print(tally)
    assert tally.broken == []
    covered(tally, (correcting("correction", corrections.ours), *crowd.foreign), at_least=2)


async def test_our_switch_is_as_asked_where_rows_come_and_go(database_url: str) -> None:
    """R1.2, R1.3: one bar, crowded; red where a row that came while the switch waited is not locked too."""
    tally = Tally()
    for seed in range(4):
        tally.add(await Machine(database_url, seed, SWITCHING, bars=1, seats=4).run(EACH))
    assert tally.broken == []
    covered(tally, SWITCHING, at_least=5)


async def test_the_machine_sees_the_other_lock_order_deadlock(database_url: str) -> None:
    """faults.md 7: `bars` before credentials is right about drift and deadlocks with whoever keeps the one order."""
    kinds = (correcting("reversed", corrections.reversed_order),) * 3 + OURS
    tally = await Machine(database_url, 1, kinds, modelled=False).run(EACH)
    print(tally)
    assert tally.broken == []
    assert tally.refused["40P01"] + tally.refused["55P03"] > 0
