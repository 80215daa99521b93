"""How long a request that changes something may take, from the moment that we begin with it."""

from __future__ import annotations

from typing import Final

from mpesa_sync.clock import Clock

REQUEST_S: Final = 9.0
"""From the first byte that is handled to the answer."""
_LEAST_S: Final = 1.0
"""A body that came slowly leaves this much all the same: one attempt."""


class Deadline:
    """The seconds that a request has left. Begins when it is made.

    Arguments:
        clock: time; that of the database.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._end = clock.monotonic() + REQUEST_S

    def rest_s(self) -> float:
        """Return the seconds until the answer is due, 0 where it is overdue: for what can be left out of it."""
        return max(0.0, self._end - self._clock.monotonic())

    def left_s(self) -> float:
        """Return the seconds until the answer is due, at least 1."""
        return max(_LEAST_S, self._end - self._clock.monotonic())
