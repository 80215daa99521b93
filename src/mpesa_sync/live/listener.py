"""`Listener`: the one connection of this process that hears notices, and the proof that it still does.

At the start and after every loss it listens first and has everything read anew then, so no change falls between.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import asyncpg

from mpesa_sync.clock import Clock
from mpesa_sync.db import notices, offers, pooler
from mpesa_sync.db.errormap import translate
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.tasks import report
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret

T = TypeVar("T")
_log: Final = logs.get("live")
_APPLICATION: Final = "mpesa-sync listener"
_FIRST_WAIT_S: Final = 0.05
_SOON_S: Final = 10.0
_SOON_CAP_S: Final = 1.0
_LATE_CAP_S: Final = 5.0


class Listener:
    """Owns the connection. What it hears, and what has to be read, is the business of those it calls.

    Arguments:
        url: a direct connection to the server, not through a pooler in transaction mode.
        heard: told of every notice, with its payload.
        resync: reads everything that is watched anew; called once LISTEN is in force.
        has_notices: told whether there are notice triggers.
        probe: a cheap statement on the connection, which also finds what no notice told.
        proved: told after every probe that succeeded.
    """

    def __init__(
        self,
        url: Secret,
        *,
        heard: Callable[[str], None],
        resync: Callable[[], Awaitable[None]],
        has_notices: Callable[[bool], None],
        probe: Callable[[Any], Awaitable[None]],
        proved: Callable[[], None],
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._url = url
        self._heard = heard
        self._resync = resync
        self._has_notices = has_notices
        self._probe = probe
        self._proved = proved
        self._limits = limits
        self._clock = clock
        self._connection: Any = None
        self._is_closing = False
        self.is_connected = False
        """Whether notices are heard, and everything has been read since they are."""
        self.proven_at: float | None = None
        """When the connection last answered, on the clock's monotonic time."""

    def is_live(self) -> bool:
        """Return whether the feed was proven live within the limit (L6)."""
        return self.proven_at is not None and self._clock.monotonic() - self.proven_at <= self._limits.stale_after_s

    async def run(self) -> None:
        """Listen until `stop`; connect again after every loss."""
        failures, failing_since = 0, self._clock.monotonic()
        while not self._is_closing:
            began = self._clock.monotonic()
            try:
                await self._session()
                raise ConnectionResetError
            except Exception as exc:  # noqa: BLE001 - whatever it is, the feed has to come back
                self._lost(exc)
            now = self._clock.monotonic()
            if now - began >= 1.0 and self.proven_at is not None and self.proven_at >= began:
                failures, failing_since = 0, now
            failures += 1
            if not self._is_closing:
                await self._clock.sleep(_wait_s(failures, now - failing_since))

    async def stop(self) -> None:
        """End the connection; `run` returns or is cancelled."""
        self._is_closing = True
        if self._connection is not None:
            self._connection.terminate()

    async def _session(self) -> None:
        """Listen on one connection until it is lost."""
        connection = self._connection = await self._open()
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        try:
            await self._begin(connection)
            metrics.feed_connects.labels("done").inc()
            _log.info(Event.FEED_LIVE)
            while not lost.is_set():
                await self._prove(connection)
                await _either(lost, self._limits.probe_every_s)
        finally:
            self.is_connected = False
            self._connection = None
            connection.terminate()

    async def _open(self) -> Any:
        return await asyncpg.connect(
            self._url.reveal(),
            timeout=self._limits.connect_timeout_s,
            server_settings={"application_name": _APPLICATION},
        )

    async def _begin(self, connection: Any) -> None:
        """Listen, then have everything read: a commit between the two is in both, never in none (L5).

        What pages wait for comes first, the rest of the beginning after it.
        """
        await self._within(connection, connection.add_listener(notices.CHANNEL, self._on_notice))
        await self._resync()
        await self._within(connection, connection.execute(offers.LISTENER_SETUP))
        self._has_notices(await self._within(connection, notices.installed(connection)))
        self.is_connected = True
        await self._within(connection, pooler.warn_of(connection))

    def _on_notice(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        metrics.feed_notices.inc()
        self._heard(str(payload))

    async def _prove(self, connection: Any) -> None:
        await self._within(connection, self._probe(connection))
        self.proven_at = self._clock.monotonic()
        self._proved()

    async def _within(self, connection: Any, statement: Awaitable[T]) -> T:
        """Run a statement. The connection is closed under one that takes too long.

        To cancel it instead, the driver would have to reach the server that does not answer.
        """
        watchdog = asyncio.get_running_loop().call_later(self._limits.probe_timeout_s, connection.terminate)
        try:
            return await statement
        finally:
            watchdog.cancel()

    def _lost(self, exc: Exception) -> None:
        error = translate(exc)
        if self._is_closing:
            return
        metrics.feed_connects.labels("lost").inc()
        if error is exc:
            report("listener", exc)
        _log.warning(Event.FEED_LOST, error=getattr(error, "code", type(error).__name__))


def _wait_s(failures: int, elapsed_s: float) -> float:
    """Return the seconds before the next attempt to connect: full jitter, at most 1 s in the first 10 s.

    The first is made at once: most often one backend was ended, and the server is there. Where it is not, the others
    of many processes come at random.
    """
    if failures == 1:
        return 0.0
    cap_s = _SOON_CAP_S if elapsed_s < _SOON_S else _LATE_CAP_S
    return random.uniform(0.0, min(cap_s, _FIRST_WAIT_S * 2.0 ** min(failures, 10)))  # noqa: S311 - no secret


async def _either(event: asyncio.Event, timeout_s: float) -> None:
    """Wait for the event, at most for so long."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
