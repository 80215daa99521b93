"""Named places where the proofs may stop or kill this process. Nothing here can be armed in production.

Arming needs the interpreter option `-X mpesa_sync_failpoints`, which only the test harness passes when it starts
a process of its own; `hit` is a dictionary look-up otherwise. An exception to the conventions, by name
(architecture.md).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from typing import Final

_OPTION: Final = "mpesa_sync_failpoints"


class Failpoint(StrEnum):
    """Every place, in the order in which a write passes them: one operation, a run of the migration, a sweep."""

    BEGUN = "begun"
    OPERATION_CLAIMED = "operation_claimed"
    BAR_LOCKED = "bar_locked"
    PAIR_WRITTEN = "pair_written"
    RESULT_STORED = "result_stored"
    COMMITTED = "committed"
    RUN_PLANNED = "run_planned"
    RUN_OPENED = "run_opened"
    BATCH_CLAIMED = "batch_claimed"
    BATCH_LOCKED = "batch_locked"
    BATCH_WRITTEN = "batch_written"
    BATCH_COUNTED = "batch_counted"
    BATCH_COMMITTED = "batch_committed"
    RUN_VERIFYING = "run_verifying"
    ROUND_PLANNED = "round_planned"
    ROUND_BEGUN = "round_begun"
    RUN_ENDING = "run_ending"
    RUN_ENDED = "run_ended"
    SLICE_LEASED = "slice_leased"
    SLICE_LOOKED = "slice_looked"
    SLICE_COUNTED = "slice_counted"
    SLICE_COMMITTED = "slice_committed"


_armed: Final[dict[Failpoint, Callable[[], None]]] = {}


def arm(point: Failpoint, action: Callable[[], None]) -> None:
    """Run `action` each time `point` is passed.

    Raises:
        RuntimeError: this process was not started by the harness.
    """
    if _OPTION not in sys._xoptions:
        raise RuntimeError(f"failpoints need the interpreter option -X {_OPTION}")
    _armed[point] = action


def hit(point: Failpoint) -> None:
    """Say that the code is at `point`; does nothing unless the harness armed it."""
    action = _armed.get(point)
    if action is not None:
        action()
