"""How many bars the next batch takes: as many as fit into the target, so that no live writer waits longer (R2)."""

from __future__ import annotations

import math
from typing import Final

from mpesa_sync.errors import InvalidInput

TARGET_MS: Final = 150.0
LEAST: Final = 50
MOST: Final = 5_000
_STEP: Final = 2.0
"""A batch is at most this many times larger or smaller than the one before."""
_CAREFUL_STEP: Final = 1.25
_CAREFUL_BATCHES: Final = 8
"""After a fault sizes grow by this much at most, for so many batches: what halved them may last."""
_NEWEST: Final = 0.5
"""The weight of the last batch against all before it: one slow COMMIT does not halve the size."""
_MARGIN: Final = 2.0
"""How many times the usual difference of a batch from those before is kept back: where they vary, some take longer."""
_SHORTEST_MS: Final = 0.01


class BatchSize:
    """The size of batches, adapted to how long they take.

    Arguments:
        target_ms: what a batch should take, in milliseconds.
        least, most: bounds of the size, in bars.
        first: the size of the first batch, within the bounds.
        fixed: a size that a person chose, 1 to `most`: it stays, whatever a batch takes.
    Raises:
        InvalidInput: `fixed` is outside of its bounds.
    """

    def __init__(
        self,
        target_ms: float = TARGET_MS,
        *,
        least: int = LEAST,
        most: int = MOST,
        first: int = LEAST,
        fixed: int | None = None,
    ) -> None:
        if fixed is not None and not 1 <= fixed <= most:
            raise InvalidInput("batch_size", f"must be 1 to {most}")
        self.target_ms = None if fixed is not None else target_ms
        self._target_ms = target_ms
        self._least, self._most, self._fixed = least, most, fixed
        self._size = float(min(max(first, least), most))
        self._cost_ms: float | None = None
        self._spread_ms = 0.0
        self._careful = 0

    @property
    def size(self) -> int:
        """Bars in the next batch."""
        return self._fixed if self._fixed is not None else round(self._size)

    def next(self, elapsed_ms: float, bars: int) -> int:
        """Take in a batch that committed and return the size of the next.

        Arguments:
            elapsed_ms: what it took, from BEGIN to the answer of COMMIT. What is no time (below 0, not a number)
                is not counted.
            bars: how many it held. The rest at an end, of less than half the size, says little of a whole batch and
                counts only where it took too long all the same.
        """
        too_small = bars < self._size / 2 and elapsed_ms <= self._target_ms
        if self._fixed is not None or bars <= 0 or too_small or not 0 <= elapsed_ms < math.inf:
            return self.size
        cost_ms = max(elapsed_ms, _SHORTEST_MS) / bars
        differs_ms = 0.0 if self._cost_ms is None else cost_ms - self._cost_ms
        self._cost_ms = cost_ms if self._cost_ms is None else self._cost_ms + _NEWEST * differs_ms
        self._spread_ms += _NEWEST / 2 * (abs(differs_ms) - self._spread_ms)
        up = _CAREFUL_STEP if self._careful else _STEP
        self._careful = max(0, self._careful - 1)
        likely_ms = self._cost_ms + _MARGIN * self._spread_ms
        self._set(self._target_ms / likely_ms, lowest=self._size / _STEP, highest=self._size * up)
        return self.size

    def failed(self) -> int:
        """Halve the size after a fault of a batch, to the least at most, and return it."""
        self._careful = _CAREFUL_BATCHES
        self._set(self._size / _STEP, lowest=0, highest=math.inf)
        return self.size

    def _set(self, wanted: float, *, lowest: float, highest: float) -> None:
        self._size = min(max(wanted, lowest, self._least), highest, self._most)
