"""How fast a run goes lately, and how long the rest will take: an average in which what is past fades."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

FADES_S: Final = 15.0
"""After this many seconds a measurement has lost two thirds of its weight: calm to read, and not of an hour ago."""


class Pace:
    """The rate of a run and its end in sight.

    Arguments:
        monotonic: gives seconds that never go backwards.
        settled: bars that were settled before this began: those of a run that is resumed do not count as fast.
    """

    def __init__(self, monotonic: Callable[[], float], *, settled: int = 0) -> None:
        self._monotonic = monotonic
        self._settled = settled
        self._at = monotonic()
        self._bars = 0.0
        self._seconds = 0.0

    def tick(self, settled: int) -> None:
        """Take in how many bars are settled by now, in all; fewer than before begin a new phase.

        Waiting counts as time: a run that holds back is slow, and says so.
        """
        now = self._monotonic()
        elapsed_s = max(0.0, now - self._at)
        if settled < self._settled:
            self._bars = self._seconds = 0.0
        else:
            kept = math.exp(-elapsed_s / FADES_S)
            self._bars = self._bars * kept + (settled - self._settled)
            self._seconds = self._seconds * kept + elapsed_s
        self._settled, self._at = settled, now

    @property
    def rate(self) -> float:
        """Bars settled a second, lately; 0 where nothing is known."""
        return self._bars / self._seconds if self._seconds > 0 else 0.0

    def eta_s(self, left: int) -> float | None:
        """Return the seconds that `left` bars will take at this rate; None where nothing moves."""
        if left <= 0:
            return 0.0
        return left / self.rate if self.rate > 0 else None
