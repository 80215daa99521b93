"""The reconciler as background work: slices that are due, from the queue, and bars that notices name, as they come.

Notices have a connection of their own. Where it is lost, another one is made and a sweep is asked for, since what was
said meanwhile was not heard; the sweep itself needs no notice.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final
from uuid import UUID

import asyncpg

from mpesa_sync.backoff import Backoff
from mpesa_sync.db import notices, pooler, session, transaction
from mpesa_sync.db import reconciler as rows
from mpesa_sync.db.errormap import translate
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.jobs import queue
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret
from mpesa_sync.sync import reconciler_alerts
from mpesa_sync.sync.reconciler import Reconciler, Rhythm

_log: Final = logs.get("reconciler")
_APPLICATION: Final = "mpesa-sync reconciler"
_GATHER_S: Final = 0.1
"""How long notices are gathered, so that many bars are one statement."""
_MOST: Final = 5_000
"""Bars that wait to be looked at; more of them are a whole sweep."""
_LINGER_S: Final = 5.0
"""Up to which rest the job of the sweep waits for the next slice itself; else the next look makes another one."""
_PROBE_S: Final = 5.0
_AGAIN: Final = Backoff(base_s=0.1, cap_s=5.0)


class Reconciling:
    """What the loops of background work call.

    Arguments:
        url: a direct connection to the database, not through a pooler in transaction mode.
        stop: ends all of it.
    """

    def __init__(self, database: Database, url: Secret, rhythm: Rhythm, pace: Pace, stop: asyncio.Event) -> None:
        self._db = database
        self._url = url
        self._reconciler = Reconciler(database, rhythm)
        self._pace = pace
        self._stop = stop
        self._began = database.clock.monotonic()
        self._heard: set[UUID] = set()
        self._all = False
        self._awake = asyncio.Event()

    @property
    def is_off(self) -> bool:
        """Whether this program leaves drift to others."""
        return self._db.reconcile == "off"

    async def look(self) -> None:
        """Make the job of the sweep where a slice is due, and say where no sweep comes to its end."""
        if self.is_off:
            return
        rhythm = self._reconciler.rhythm
        async with self._db.reading() as connection:
            state = await rows.state(connection)
        if state is None or state.is_due(rhythm.cycle_s):
            await transaction.once(self._db, session.WRITE, queue.enqueue_sweep)
        if self._db.clock.monotonic() - self._began >= self._pace.stale_grace_s:
            await reconciler_alerts.tell_if_stale(self._db, rhythm.stale_after_s)

    async def sweep(self) -> None:
        """Do slices as long as one is due soon: the job of the queue."""
        while not self._stop.is_set():
            done = await self._reconciler.slice()
            if done is None or done.next_in_s > _LINGER_S:
                return
            await self._wait(self._stop, done.next_in_s)

    async def listen_for_ever(self) -> None:
        """Listen, on one connection after the other, and look at the bars that are named, until the work shall stop."""
        if self.is_off:
            await self._stop.wait()
            return
        looking = asyncio.create_task(self._look_at_what_is_heard())
        try:
            await self._listen()
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _listen(self) -> None:
        failures, was_heard = 0, False
        while not self._stop.is_set():
            began = self._db.clock.monotonic()
            try:
                await self._session(is_again=was_heard)
                error: BaseException = ConnectionResetError()
            except Exception as exc:  # noqa: BLE001 - whatever it is, notices have to be heard again
                error = translate(exc)
            if self._stop.is_set():
                return
            was_heard = True
            failures = 1 if self._db.clock.monotonic() - began > _AGAIN.cap_s else failures + 1
            _log.warning(Event.RECONCILER_DEAF, error=getattr(error, "code", type(error).__name__))
            bound_s = min(_AGAIN.cap_s, _AGAIN.base_s * _AGAIN.factor ** min(failures - 1, 10))
            await self._wait(self._stop, _AGAIN.uniform(0.0, bound_s))

    async def _session(self, *, is_again: bool) -> None:
        """Listen on one connection until it is lost or the work shall stop."""
        connection = await asyncpg.connect(
            self._url.reveal(),
            timeout=session.CONNECT_TIMEOUT_S,
            server_settings={"application_name": _APPLICATION},
        )
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _connection: lost.set())
        stopping = asyncio.create_task(self._ended(connection))
        try:
            await self._within(connection, connection.execute(session.QUEUE_SETUP))
            await self._within(connection, pooler.warn_of(connection))
            await self._within(connection, connection.add_listener(notices.CHANNEL, self._on_notice))
            _log.info(Event.RECONCILER_LISTENS)
            if is_again:
                self._hear(notices.EVERY_BAR)
            while not lost.is_set():
                await self._within(connection, connection.execute("select 1"))
                await self._wait(lost, _PROBE_S)
        finally:
            stopping.cancel()
            connection.terminate()

    async def _ended(self, connection: Any) -> None:
        await self._stop.wait()
        connection.terminate()

    async def _within(self, connection: Any, statement: Any) -> None:
        """Run a statement; the connection is closed under one that takes too long."""
        watchdog = asyncio.get_running_loop().call_later(self._pace.probe_limit_s, connection.terminate)
        try:
            await statement
        finally:
            watchdog.cancel()

    def _on_notice(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        self._hear(str(payload))

    def _hear(self, payload: str) -> None:
        """Note a bar; whoever may NOTIFY may send anything, and what is no id is passed over."""
        if payload == notices.EVERY_BAR or len(self._heard) >= _MOST:
            self._heard.clear()
            self._all = True
        else:
            with contextlib.suppress(ValueError):
                self._heard.add(UUID(payload))
        self._awake.set()

    async def _look_at_what_is_heard(self) -> None:
        while True:
            await self._awake.wait()
            await self._wait(self._stop, _GATHER_S)
            self._awake.clear()
            heard, everything = list(self._heard), self._all
            self._heard.clear()
            self._all = False
            if everything:
                await self._tried("every bar", self._ask)
            if heard:
                await self._tried("noticed", partial(self._reconciler.noticed, heard))

    async def _ask(self) -> None:
        """Have a whole sweep begin at once."""

        async def work(connection: Any) -> None:
            await rows.ask(connection)
            await queue.enqueue_sweep(connection)

        await transaction.once(self._db, session.WRITE, work)

    async def _tried(self, what: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do it, or say that it failed: the sweep finds what was not looked at."""
        try:
            await work()
        except Exception as exc:  # noqa: BLE001 - nothing of it may end the listening
            expected = isinstance(exc, MpesaSyncError | OSError)
            write = _log.warning if expected else _log.error
            code = getattr(translate(exc), "code", type(exc).__name__)
            write(Event.JOB_FAILED, job=what, error=code, exc_info=None if expected else exc)

    async def _wait(self, event: asyncio.Event, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await event.wait()
