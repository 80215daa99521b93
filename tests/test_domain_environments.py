"""Which environment becomes active: R1's order, as values, in every case."""

from __future__ import annotations

from itertools import permutations, product
from typing import Final

import pytest

from mpesa_sync.domain.bars import CredentialsRow
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.environments import choose
from mpesa_sync.errors import AmbiguousEnvironment, CredentialsMissing, MpesaSyncError
from tests.support.observer import AMBIGUOUS, MISSING, becomes_active
from tests.support.states import FLAGS

P, S = Environment.PRODUCTION, Environment.SANDBOX
REFUSALS: Final = {MISSING: CredentialsMissing, AMBIGUOUS: AmbiguousEnvironment}


def rows(**flags: bool | None) -> list[CredentialsRow]:
    return [CredentialsRow(Environment(name), flag) for name, flag in flags.items()]


@pytest.mark.parametrize(
    ("present", "named", "last", "chosen"),
    [
        # the named one, whatever else says otherwise
        (rows(sandbox=True, production=False), P, S, P),
        (rows(sandbox=False, production=True), S, P, S),
        # else the only row present, active or not, whatever was active before
        (rows(sandbox=False), None, P, S),
        (rows(production=None), None, S, P),
        # else the only row already active, whatever was active before
        (rows(sandbox=True, production=False), None, P, S),
        (rows(sandbox=None, production=True), None, S, P),
        # else the one last seen active: none is active, or both are
        (rows(sandbox=False, production=False), None, P, P),
        (rows(sandbox=None, production=False), None, S, S),
        (rows(sandbox=True, production=True), None, S, S),
    ],
)
def test_the_first_step_that_says_which_decides(
    present: list[CredentialsRow], named: Environment | None, last: Environment | None, chosen: Environment
) -> None:
    """R1: four steps in one order."""
    assert choose(present, named=named, last_active=last) is chosen


@pytest.mark.parametrize(
    ("present", "named", "last", "refusal", "said"),
    [
        ([], None, P, CredentialsMissing, "no M-Pesa credentials"),
        ([], S, S, CredentialsMissing, "sandbox"),
        (rows(sandbox=True), P, S, CredentialsMissing, "production"),  # never the other one instead
        (rows(sandbox=False, production=False), None, None, AmbiguousEnvironment, "environment='sandbox'"),
        (rows(sandbox=True, production=True), None, None, AmbiguousEnvironment, "environment='production'"),
    ],
)
def test_nothing_is_guessed(
    present: list[CredentialsRow],
    named: Environment | None,
    last: Environment | None,
    refusal: type[MpesaSyncError],
    said: str,
) -> None:
    """R1: a refusal that says what to do, instead of a guess."""
    with pytest.raises(refusal, match=said):
        choose(present, named=named, last_active=last)


def test_every_case_agrees_with_the_oracle_in_either_order_of_rows() -> None:
    """R1: all flags × named × last, and the order in which rows come means nothing."""
    seen = 0
    flags: list[dict[str, bool | None]] = [{}]
    flags += [{name: flag} for name, flag in product(Environment, FLAGS)]
    flags += [{"sandbox": one, "production": other} for one, other in product(FLAGS, FLAGS)]
    for present, named, last in product(flags, (None, *Environment), (None, *Environment)):
        expected = becomes_active(present, named=named, last=last)
        for order in permutations(rows(**present)):
            seen += 1
            if expected in REFUSALS:
                with pytest.raises(REFUSALS[expected]):
                    choose(order, named=named, last_active=last)
            else:
                assert choose(order, named=named, last_active=last) == expected
    assert seen == (1 + 6 + 9 * 2) * 9
