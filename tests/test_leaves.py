"""The leaves: a secret that shows itself to nobody, waiting as a value, and the one error tree."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpesa_sync import errors
from mpesa_sync.backoff import Backoff
from mpesa_sync.errors import ConfigurationError, ConstraintRefused, CredentialsUnusable, InvalidInput, MpesaSyncError
from mpesa_sync.secret import Secret

CANARY = "canary-" + "7f3a9c51d2"


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        lambda secret: f"{secret}",
        lambda secret: f"{secret!r}",
        lambda secret: f"{secret:>40}",
        lambda secret: "{}".format(secret),  # noqa: UP032 - the other way to format
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - and the oldest
        lambda secret: str([secret]) + str({"key": secret}) + str((secret,)),
        lambda secret: repr(ValueError(secret)),
        lambda secret: json.dumps({"secret": secret}, default=str),
    ],
)
def test_a_secret_shows_stars_in_every_way_of_making_a_text(show: Any) -> None:
    """conventions.md: secrets print `***`, alone, formatted, and inside of other values."""
    text = show(Secret(CANARY))
    assert "***" in text
    assert CANARY not in text


@pytest.mark.parametrize(
    "serialise",
    [
        json.dumps,
        lambda secret: json.dumps({"secret": [secret]}),
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        pickle.dumps,
        lambda secret: pickle.dumps([secret], protocol=0),
        copy.deepcopy,
    ],
)
def test_a_secret_refuses_to_be_serialised(serialise: Any) -> None:
    """conventions.md: secrets refuse JSON and pickling, and the refusal does not show them."""
    with pytest.raises(TypeError) as refused:
        serialise(Secret(CANARY))
    assert CANARY not in str(refused.value)


def test_a_secret_is_opened_by_one_method_and_compared_only_with_secrets() -> None:
    """conventions.md: `reveal` is the name to search for; nothing of it is in an attribute that `vars` shows."""
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert (secret == Secret(CANARY), secret == Secret("other"), secret == CANARY) == (True, False, False)
    assert len({secret, Secret(CANARY)}) == 1
    assert (bool(secret), bool(Secret(""))) == (True, False)
    with pytest.raises(TypeError):
        vars(secret)


@given(
    draws=st.lists(st.floats(0, 1), min_size=12, max_size=12),
    work_s=st.lists(st.floats(0, 3), min_size=12, max_size=12),
)
def test_waiting_is_bounded_in_number_each_and_in_total(draws: list[float], work_s: list[float]) -> None:
    """R5.1, faults.md: at most 3 retries, each wait within base × 2ⁿ and the cap, none ends after 8 s."""
    drawn, asked = iter(draws), []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return low + (high - low) * next(drawn)

    retry, elapsed_s, waits = Backoff(uniform=uniform), 0.0, 0
    for attempt, duration_s in enumerate(work_s, start=1):
        elapsed_s += duration_s
        wait_s = retry.delay_s(attempt, elapsed_s)
        if wait_s is None:
            break
        waits += 1
        assert 0.0 <= wait_s <= min(2.0, 0.1 * 2 ** (attempt - 1))
        elapsed_s += wait_s
        assert elapsed_s < 8.0
    assert waits <= 3
    assert asked == [(0.0, 0.1), (0.0, 0.2), (0.0, 0.4)][: len(asked)]


def test_one_wait_never_exceeds_the_cap() -> None:
    """faults.md: base 100 ms, factor 2, cap 2 s; with enough retries the cap is what bounds each wait."""
    retry = Backoff(max_retries=10, uniform=lambda _low, high: high)
    bounds = [retry.delay_s(attempt, 0.0) for attempt in range(1, 12)]
    assert bounds == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 2.0, 2.0, None]


@pytest.mark.parametrize(("elapsed_s", "wait_s"), [(7.0, 0.1), (7.89, 0.1), (7.9, None), (8.0, None), (99.0, None)])
def test_no_wait_ends_after_the_total(elapsed_s: float, wait_s: float | None) -> None:
    """R5.1: bounded in total time, whatever the attempts took."""
    assert Backoff(uniform=lambda _low, high: high).delay_s(1, elapsed_s) == wait_s


def test_the_jitter_is_full_and_differs() -> None:
    """R5.1: many who failed together do not come back together."""
    waits = [Backoff().delay_s(3, 0.0) for _ in range(200)]
    assert all(wait is not None and 0.0 <= wait <= 0.4 for wait in waits)
    assert min(wait or 0 for wait in waits) < 0.1 < 0.3 < max(wait or 0 for wait in waits)


def drawn_tree() -> dict[str, str]:
    """Class → parent, as the docstring of `errors` draws it."""
    parents, stack = {}, [(-1, "Exception")]
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^( *(?:[│├└─ ]*))([A-Z]\w+)(?: {2,}|$)", line):
            depth = len(found[1])
            while stack[-1][0] >= depth:
                stack.pop()
            parents[found[2]] = stack[-1][1]
            stack.append((depth, found[2]))
    return parents


def classes() -> list[type[MpesaSyncError]]:
    """Every class of the tree that `errors` defines."""
    members = [member for _, member in inspect.getmembers(errors, inspect.isclass)]
    return [member for member in members if issubclass(member, MpesaSyncError)]


def test_the_error_tree_is_as_its_docstring_draws_it() -> None:
    """conventions.md: one tree, drawn where it is; every class of it, under its parent, and none else."""
    assert drawn_tree() == {cls.__name__: cls.__bases__[0].__name__ for cls in classes()}


def test_every_error_has_a_code_a_status_and_a_docstring_of_its_own() -> None:
    """conventions.md: each class has a code, an HTTP status, `retryable`, and says what it is."""
    assert len({cls.code for cls in classes()}) == len(classes())
    retryable = {cls.__name__ for cls in classes() if cls.retryable}
    assert retryable == {"TransientFault", "PoolExhausted", "ResourcesExhausted"}
    for cls in classes():
        assert re.fullmatch(r"[a-z_]+", cls.code)
        assert cls.http_status in {400, 401, 403, 404, 409, 429, 500, 503}
        assert cls.__doc__
        assert cls.__doc__ != (cls.__bases__[0].__doc__ or "")


def test_an_error_keeps_its_message_and_what_is_beside_it() -> None:
    """spec R1: errors carry a message safe to show, and room for the call's result."""
    error = InvalidInput("actor", "must be a text")
    assert (str(error), error.message, error.field) == ("actor: must be a text",) * 2 + ("actor",)
    assert (error.result, error.attempts) == (None, 0)
    assert ConfigurationError(["a is missing", "b is wrong"]).faults == ("a is missing", "b is wrong")
    assert CredentialsUnusable("no", reason="secrets_malformed").reason == "secrets_malformed"
    refused = ConstraintRefused("no", sqlstate="23514", constraint="one_method")
    assert (refused.sqlstate, refused.constraint, refused.retryable) == ("23514", "one_method", False)
