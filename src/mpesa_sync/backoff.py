"""Waiting as a value: how long before the next attempt, or that there shall be none."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter, bounded in attempts and in total time (R5.1, faults.md).

    Arguments:
        max_retries: attempts after the first one, 0 or more.
        base_s: upper bound of the first wait, in seconds.
        factor: what the upper bound is multiplied with for each further wait.
        cap_s: the highest upper bound of one wait, in seconds.
        total_s: no wait starts that would end later than this after the beginning, in seconds.
        uniform: draws the wait between 0 and its upper bound; `random.uniform` unless a test says otherwise.
    """

    max_retries: int = 3
    base_s: float = 0.1
    factor: float = 2.0
    cap_s: float = 2.0
    total_s: float = 8.0
    uniform: Callable[[float, float], float] = random.uniform

    def delay_s(self, attempt: int, elapsed_s: float) -> float | None:
        """Return the seconds to wait after the `attempt`-th attempt (1, 2 …) failed, None to give up.

        `elapsed_s` is the time since the first attempt began.
        """
        if attempt > self.max_retries:
            return None
        bound_s = min(self.cap_s, self.base_s * self.factor ** (attempt - 1))
        wait_s = self.uniform(0.0, bound_s)
        return None if elapsed_s + wait_s >= self.total_s else wait_s
