"""`Pace`: how often background work looks, how long it waits, and when it gives up."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Pace:
    """The times of background work, in seconds unless the name says otherwise.

    Arguments:
        look_every_s: how often it is looked for what has to be told.
        poll_every_s: how often the queue is asked for jobs where no notice tells of any, such as those to take over.
        send_limit_s: how long one message may take.
        stop_within_s: how long running jobs may take to end once they shall.
        heartbeat_timeout_s: after how long without a sign of life the job of a worker is taken over by another.
        first_retry_s, longest_retry_s: the upper bounds of the first wait of a message that failed, and of the last.
        claim_margin_s: how much longer than it may take to send it a message belongs to whoever sends it, so that
            what became of it can be written down.
        give_up_after_s: how long a message is tried.
        give_up_untried_after_s: how long a message waits that nobody has tried, for a channel this program lacks.
        tidy_every_s: how often old rows are removed.
        probe_limit_s: how long a statement on the queue's connection may take.
        sweep_every_s: how often the reconciler looks at all bars.
        stale_grace_s: for how long a program has run before it says that no sweep comes to its end.
        uniform: draws a wait between 0 and its upper bound; `random.uniform` unless a test says otherwise.
    """

    look_every_s: float = 5.0
    poll_every_s: float = 5.0
    send_limit_s: float = 15.0
    stop_within_s: float = 5.0
    heartbeat_timeout_s: float = 12.0
    first_retry_s: float = 5.0
    longest_retry_s: float = 900.0
    claim_margin_s: float = 7.0
    give_up_after_s: float = 86_400.0
    give_up_untried_after_s: float = 604_800.0
    tidy_every_s: float = 3_600.0
    probe_limit_s: float = 10.0
    sweep_every_s: float = 900.0
    stale_grace_s: float = 120.0
    uniform: Callable[[float, float], float] = random.uniform

    def again_in(self, attempts: int) -> timedelta:
        """Return how long a message waits that has now failed `attempts` times (1, 2 …): full jitter."""
        bound_s = min(self.longest_retry_s, self.first_retry_s * 2.0 ** min(attempts - 1, 30))
        return timedelta(seconds=self.uniform(0.0, bound_s))
