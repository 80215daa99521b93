"""`Quiet`: what goes wrong again and again is said once, then once a minute, and once more when it is over."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Hashable
from typing import Any, Final

from mpesa_sync.clock import Clock
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("jobs")
EVERY_S: Final = 60.0


class Quiet:
    """Says whether something is to be logged.

    Arguments:
        clock: time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[Hashable, float] = {}

    def may_say(self, what: Hashable) -> bool:
        """Return whether this has not been said within the last minute, or since it was over; it counts as said then.

        Arguments:
            what: names it; of few different ones.
        """
        now = self._clock.monotonic()
        last = self._said.get(what)
        if last is not None and now - last < EVERY_S:
            return False
        self._said[what] = now
        return True

    def over(self, what: Hashable) -> bool:
        """Return whether this had been said, and is over with that; the next time it is said at once."""
        return self._said.pop(what, None) is not None


class _Forwarded(logging.Handler):
    """Writes what the queue's library logs as an event of ours: which of its messages, and never what it filled in.

    Each at most once a minute: it repeats one for as long as a connection is lost.
    """

    def __init__(self, quiet: Quiet) -> None:
        super().__init__(logging.ERROR)
        self._quiet = quiet

    def emit(self, record: logging.LogRecord) -> None:
        exc = record.exc_info[1] if record.exc_info else None
        if self._quiet.may_say((str(record.msg), type(exc))):
            _log.log(record.levelno, Event.JOB_FAILED, said=str(record.msg), error=exc and type(exc).__name__)


@contextlib.contextmanager
def library_logs(quiet: Quiet) -> Any:
    """Have the queue's library log as we do, while the block lasts."""
    logger, handler = logging.getLogger("pgqueuer"), _Forwarded(quiet)
    kept = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = kept
