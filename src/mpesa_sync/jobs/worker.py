"""Runs background work until it shall stop: it looks for what has to be told, and does the jobs of the queue.

The queue has a connection of its own, supervised: where it is lost, another one is made, with growing pauses. There is
no cron here: the first look is at once, and every program may look, since what it makes is made once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import asyncpg
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.models import Job

from mpesa_sync.backoff import Backoff
from mpesa_sync.db import deliveries, session
from mpesa_sync.db.errormap import translate
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.jobs import channels, look, queue
from mpesa_sync.jobs.channels import Sender
from mpesa_sync.jobs.deliver import Delivery
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.jobs.quiet import Quiet, library_logs
from mpesa_sync.jobs.reconciling import Reconciling
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.sync.reconciler_policy import Rhythm

_log: Final = logs.get("jobs")
_APPLICATION: Final = "mpesa-sync jobs"
_BATCH: Final = 4
_AT_ONCE: Final = 8
"""Jobs that one program does at the same time: below the size of its pool."""
_AGAIN: Final = Backoff(base_s=0.1, cap_s=5.0)
_RESTART_S: Final = 1.0
_LAST_GRACE_S: Final = 2.0
_GOODBYE_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Jobs:
    """What background work is done with; made by `prepared`.

    `url` is a direct connection to the database, `channels` are those of the operators by name, `budget` is how many
    bars the reconciler repairs in an hour at most.
    """

    database: Database
    url: Secret
    channels: Mapping[str, Secret]
    repeat_minutes: int = 60
    public_url: str | None = None
    pace: Pace = field(default_factory=Pace)
    budget: int = 100


async def prepared(database: Database, url: Secret, settings: Settings, pace: Pace | None = None) -> Jobs:
    """Return what background work needs, with the channels of the settings.

    Arguments:
        url: a direct connection to the same database, not through a pooler in transaction mode.
    Raises:
        ConfigurationError: names every URL of a channel that cannot be used, by its position.
        DatabaseFault, SchemaError: the database cannot be asked, or is not prepared.
    """
    salt = b""
    if settings.alert_urls:
        async with database.reading() as connection:
            salt = await deliveries.salt(connection)
    found = await asyncio.to_thread(channels.channels_of, settings.alert_urls, salt)
    often, budget = settings.alert_repeat_minutes, settings.reconcile_budget
    return Jobs(database, url, found, often, settings.public_url, pace or Pace(), budget)


@asynccontextmanager
async def running(jobs: Jobs, stop: asyncio.Event | None = None) -> AsyncIterator[None]:
    """Do background work beside what the block does; at its end running jobs may end, within the limit.

    Arguments:
        stop: ends it before the block does.
    """
    stop = stop or asyncio.Event()
    task = asyncio.create_task(run(jobs, stop), name="jobs")
    try:
        yield
    finally:
        stop.set()
        await task


async def run(jobs: Jobs, stop: asyncio.Event) -> None:
    """Do background work until `stop` is set, whatever becomes of the database meanwhile."""
    channels.silence()
    sender = Sender(jobs.pace.send_limit_s)
    work = _Work(jobs, sender, stop)
    with library_logs(Quiet(jobs.database.clock)):
        loops = {"look": work.look_for_ever, "queue": work.queue_for_ever, "notices": work.reconciling.listen_for_ever}
        tasks = [asyncio.create_task(_kept_up(name, loop, stop)) for name, loop in loops.items()]
        _log.info(Event.JOBS_STARTED, channels=sorted(jobs.channels), owners=bool(jobs.database.keys))
        try:
            await stop.wait()
            _done, late = await asyncio.wait(tasks, timeout=jobs.pace.stop_within_s)
            await sender.close()
            if late:
                await asyncio.wait(late, timeout=_LAST_GRACE_S)
        finally:
            stop.set()
            await sender.close()
            work.abandon()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            _log.info(Event.JOBS_STOPPED)


async def _kept_up(name: str, loop: Callable[[], Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
    """Run a loop, in a task of its own, and begin it again, whatever has ended it, until `stop` is set."""
    while not stop.is_set():
        task = asyncio.create_task(loop(), name=f"jobs {name}")
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()  # where we are cancelled; else it has ended
            await asyncio.gather(task, return_exceptions=True)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if not stop.is_set():
            _log.error(Event.JOB_FAILED, job=name, error=error and type(error).__name__, exc_info=error)
            await _until(stop, _RESTART_S)


async def _until(stop: asyncio.Event, within_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await stop.wait()


class _Work:
    """The three loops of `run`."""

    def __init__(self, jobs: Jobs, sender: Sender, stop: asyncio.Event) -> None:
        self._jobs = jobs
        self._stop = stop
        self._connection: Any = None
        self._quiet = Quiet(jobs.database.clock)
        self._delivery = Delivery(
            jobs.database, sender, jobs.channels, jobs.public_url, jobs.pace, is_stopping=stop.is_set
        )
        self.reconciling = Reconciling(
            jobs.database, jobs.url, Rhythm(cycle_s=jobs.pace.sweep_every_s, budget=jobs.budget), jobs.pace, stop
        )

    async def look_for_ever(self) -> None:
        """Look, at once and then every few seconds; tidy now and then."""
        jobs, pace = self._jobs, self._jobs.pace
        tidy_at = jobs.database.clock.monotonic()
        while not self._stop.is_set():
            await self._guarded(
                "look",
                lambda: look.look(
                    jobs.database,
                    channels=jobs.channels,
                    owners=bool(jobs.database.keys),
                    repeat_minutes=jobs.repeat_minutes,
                    pace=pace,
                ),
            )
            await self._guarded("reconcile", self.reconciling.look)
            if jobs.database.clock.monotonic() >= tidy_at:
                await self._guarded("tidy", lambda: look.tidy(jobs.database))
                tidy_at = jobs.database.clock.monotonic() + pace.tidy_every_s
            await _until(self._stop, pace.look_every_s)

    async def queue_for_ever(self) -> None:
        """Do the queue's jobs on one connection after the other."""
        if self.reconciling.is_off and not self._audiences():
            await self._stop.wait()
        failures = 0
        while not self._stop.is_set():
            began = self._jobs.database.clock.monotonic()
            try:
                await self._session()
                failure: BaseException | None = None
            except Exception as exc:  # noqa: BLE001 - whatever it is, the jobs have to go on
                failure = exc
            if self._stop.is_set():
                return
            failures = 1 if self._jobs.database.clock.monotonic() - began > _AGAIN.cap_s else failures + 1
            if self._quiet.may_say(Event.JOBS_LOST):
                _log.warning(Event.JOBS_LOST, error=_word(failure or ConnectionResetError()))
            bound_s = min(_AGAIN.cap_s, _AGAIN.base_s * _AGAIN.factor ** min(failures - 1, 10))
            await _until(self._stop, _AGAIN.uniform(0.0, bound_s))

    def abandon(self) -> None:
        """Close the queue's connection, whatever is under way on it."""
        if self._connection is not None:
            self._connection.terminate()

    async def _session(self) -> None:
        """Do jobs on one connection until it is lost or the work shall stop."""
        pace = self._jobs.pace
        connection = self._connection = await asyncpg.connect(
            self._jobs.url.reveal(),
            timeout=session.CONNECT_TIMEOUT_S,
            server_settings={"application_name": _APPLICATION},
        )
        ending = back = None
        try:
            await connection.execute(session.QUEUE_SETUP, timeout=pace.probe_limit_s)
            manager = QueueManager(queue.queries_on(connection, limit_s=pace.probe_limit_s), channel=queue.CHANNEL)
            for audience in self._audiences():
                manager.entrypoint(queue.TELL[audience])(self._handler(audience))
            if not self.reconciling.is_off:
                manager.entrypoint(queue.SWEEP)(self._sweep)
            connection.add_termination_listener(lambda _connection: manager.shutdown.set())
            ending = asyncio.create_task(self._shut_down(manager))
            back = asyncio.get_running_loop().call_later(pace.poll_every_s, self._back)
            await manager.run(
                dequeue_timeout=timedelta(seconds=pace.poll_every_s),
                batch_size=_BATCH,
                max_concurrent_tasks=_AT_ONCE,
                shutdown_on_listener_failure=True,
                heartbeat_timeout=timedelta(seconds=pace.heartbeat_timeout_s),
            )
        finally:
            if ending is not None:
                ending.cancel()
            if back is not None:
                back.cancel()
            self._connection = None
            await _close(connection)

    def _back(self) -> None:
        """Say that jobs are done again: a connection that is lost at once, time and again, is not back."""
        if self._quiet.over(Event.JOBS_LOST):
            _log.info(Event.JOBS_BACK)

    async def _sweep(self, _job: Job) -> None:
        await self._guarded(queue.SWEEP, self.reconciling.sweep)

    def _audiences(self) -> list[str]:
        found = ["operators"] if self._jobs.channels else []
        return [*found, "owner"] if self._jobs.database.keys else found

    def _handler(self, audience: str) -> Callable[[Job], Awaitable[None]]:
        async def tell(job: Job) -> None:
            channel = (job.payload or b"").decode()
            await self._guarded(queue.TELL[audience], lambda: self._delivery.over(audience, channel))

        return tell

    async def _shut_down(self, manager: QueueManager) -> None:
        await self._stop.wait()
        manager.shutdown.set()

    async def _guarded(self, what: str, work: Callable[[], Awaitable[Any]]) -> None:
        """Do `work`; nothing that it raises goes further, as it would into the queue's own log with its text."""
        try:
            await work()
            self._quiet.over(what)
        except Exception as exc:  # noqa: BLE001 - see above; it is tried again at the next look
            if isinstance(exc, MpesaSyncError | OSError):
                if self._quiet.may_say(what):
                    _log.warning(Event.JOB_FAILED, job=what, error=_word(exc))
            else:
                _log.error(Event.JOB_FAILED, job=what, error=_word(exc), exc_info=exc)


async def _close(connection: Any) -> None:
    """Say goodbye to the server, or close the connection at once where it does not answer."""
    try:
        await connection.close(timeout=_GOODBYE_S)
    except Exception:  # noqa: BLE001 - lost or silent: nothing depends on a goodbye
        connection.terminate()


def _word(exc: BaseException) -> str:
    error = translate(exc)
    return str(getattr(error, "code", type(error).__name__))
