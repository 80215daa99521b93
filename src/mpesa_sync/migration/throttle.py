"""Holding back while others suffer: until no crowd waits for locks and clean-up can follow, within a bound (R2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from mpesa_sync.clock import Clock
from mpesa_sync.db.pressure import Holder, Pressure

MAX_WAITING: Final = 3
"""Sessions that may wait for locks. Two or three come and go wherever people save; more stand behind something."""
MAX_TRANSACTION_S: Final = 600.0
"""Seconds that the oldest transaction may hold back clean-up. Every bar corrected leaves a dead row behind, and a
nightly copy of a platform's database takes minutes; what takes longer makes the table grow for good."""
BOUND_S: Final = 300.0
"""Seconds after which waiting is given up: a run that hangs all night helps nobody."""
_FIRST_WAIT_S: Final = 0.25
_LONGEST_WAIT_S: Final = 5.0
_NAME_LENGTH: Final = 40


class Throttle:
    """Decides whether a run should hold back, says why, and waits.

    Arguments:
        clock: where its seconds come from.
        max_waiting: sessions that may wait for locks before the run holds back.
        max_transaction_s: seconds that a transaction may hold back clean-up before the run holds back.
    """

    def __init__(
        self, clock: Clock, *, max_waiting: int = MAX_WAITING, max_transaction_s: float = MAX_TRANSACTION_S
    ) -> None:
        self._clock = clock
        self._max_waiting = max_waiting
        self._max_transaction_s = max_transaction_s

    def reason(self, sample: Pressure) -> str | None:
        """Return why to hold back, in plain words on one line; None where there is no reason."""
        reasons = []
        if sample.waiting > self._max_waiting:
            reasons.append(
                f"{sample.waiting:,} sessions wait for locks" if sample.waiting != 1 else "1 session waits for a lock"
            )
        if sample.oldest is not None and sample.oldest.age_s > self._max_transaction_s:
            reasons.append(_held_back(sample.oldest))
        return "; ".join(reasons) or None

    def unseen(self, sample: Pressure) -> str | None:
        """Return what this role cannot see of others, to be said once; None where it sees all."""
        if not sample.unseen:
            return None
        transactions = "1 transaction" if sample.unseen == 1 else f"{sample.unseen:,} transactions"
        return (
            f"How old {transactions} of other roles may be cannot be seen, so nothing is held back for them; "
            "a member of pg_read_all_stats would see it."
        )

    async def wait_until_calm(
        self,
        sample: Callable[[], Awaitable[Pressure]],
        sleep: Callable[[float], Awaitable[None]],
        tell: Callable[[str | None], None],
        bound_s: float = BOUND_S,
    ) -> bool:
        """Wait until there is no reason to hold back.

        Arguments:
            sample: looks at how others fare.
            sleep: waits so many seconds; may raise, to end the waiting.
            tell: given the reason at every look while there is one, and None once it is gone; not called where
                there was none.
            bound_s: seconds after which it gives up.
        Returns:
            Whether it is calm; False: the bound is over, and the run should stop (exit code 6).
        """
        began, wait_s, told = self._clock.monotonic(), _FIRST_WAIT_S, False
        while (reason := self.reason(await sample())) is not None:
            tell(reason)
            told = True
            left_s = began + bound_s - self._clock.monotonic()
            if left_s <= 0:
                return False
            await sleep(min(wait_s, left_s))
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)
        if told:
            tell(None)
        return True


def _held_back(holder: Holder) -> str:
    age = f"{holder.age_s / 60:.0f} min" if holder.age_s >= 60 else f"{holder.age_s:.0f} s"
    who = holder.who if len(holder.who) <= _NAME_LENGTH else holder.who[: _NAME_LENGTH - 1] + "…"
    if holder.pid is None:
        return f"a prepared transaction of {age} holds back clean-up: {who}"
    named = f", application {who}" if who else ""
    return f"a transaction of {age} holds back clean-up: pid {holder.pid}{named}"
