"""`Hub`: what is known of the watched bars, kept true by notices, probe and sweep, and given to every open page.

Notices only wake, a read is the truth, versions order it (facts/live.md). It says when it is not proven live.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import Final, Self
from uuid import UUID

from mpesa_sync.clock import Clock
from mpesa_sync.db.first_answer import FirstAnswers
from mpesa_sync.db.offers import READ
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import BarNotFound
from mpesa_sync.live.bumps import Bumps
from mpesa_sync.live.connection import Send, Stream, Wire
from mpesa_sync.live.delivery import Streams
from mpesa_sync.live.keeping import Keeping
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.listener import Listener
from mpesa_sync.live.lookup import Lookup
from mpesa_sync.live.offers import NOT_FOUND, Judge, Known, Step, read_soon, resolve, step, uuid_in
from mpesa_sync.live.reader import Reader
from mpesa_sync.live.state import FeedState
from mpesa_sync.live.tasks import Tasks, for_ever
from mpesa_sync.live.watched import Entry, Watched
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret

_log: Final = logs.get("live")


class Hub:
    """The live path of one process. Use it with `async with`, or `start` and `close`.

    Arguments:
        database: read through its pool; its keys judge the stored secrets.
        listen_url: a direct connection to the same database, not through a pooler in transaction mode.
        limits: how long and how many.
        clock: time; None: that of the database.
    """

    def __init__(
        self, database: Database, *, listen_url: Secret, limits: Limits | None = None, clock: Clock | None = None
    ) -> None:
        self._db = database
        self.limits = limits or Limits()
        self._clock = clock or database.clock
        self._watched = Watched(forget_after_s=self.limits.forget_after_s, most_idle=self.limits.idle_bars)
        reads = partial(read_soon, FirstAnswers(database, READ), Judge(database.keys, database.allow_sandbox))
        self._reader = Reader(reads, self._found, self._unread, limits=self.limits, clock=self._clock)
        self._streams = Streams(self._watched, self._reader.others_first, limits=self.limits, clock=self._clock)
        self._keeping = Keeping(database, self._watched, self._reader, limits=self.limits, clock=self._clock)
        self._lookup = Lookup(partial(resolve, database))
        self._listener = Listener(
            listen_url,
            heard=self._keeping.heard,
            resync=self._keeping.resync,
            has_notices=self._keeping.set_mode,
            probe=self._keeping.probe,
            proved=self._proved,
            limits=self.limits,
            clock=self._clock,
        )
        self._tasks = Tasks()
        self._bumps = Bumps(
            database, self._tasks, moved=self._reader.wake, failed=self._streams.doubt, limits=self.limits
        )
        self._first_proof = asyncio.Event()

    async def start(self) -> None:
        """Start to listen. Returns when the feed is live, or after the time in which it should be; never raises."""
        works = (self._listener.run, self._reader.one_batch, self._keeping.sweep, self._timer)
        for name, work in zip(("listener", "reader", "sweep", "timer"), works, strict=True):
            self._tasks.start(name, for_ever(name, self._clock, work))
        try:
            async with asyncio.timeout(self.limits.stale_after_s):
                await self._first_proof.wait()
        except TimeoutError:
            _log.warning(Event.FEED_STALE)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def drain(self, deadline_s: float) -> int:
        """Open no more streams, say goodbye to those there are, and wait for their end.

        Arguments:
            deadline_s: how long; what is open then is cut.
        Returns:
            How many were cut.
        """
        cut = await self._streams.drain(deadline_s)
        _log.info(Event.STREAMS_DRAINED, cut=cut)
        return cut

    async def close(self) -> None:
        """End every stream and every task."""
        await self._streams.close()
        await self._listener.stop()
        await self._tasks.stop()
        self._reader.close()
        metrics.feed_live.set(0)

    @property
    def state(self) -> FeedState:
        """How the feed stands now."""
        proven_at = self._listener.proven_at
        return FeedState(
            is_live=self._listener.is_live(),
            mode=self._keeping.mode,
            heard_ago_s=None if proven_at is None else self._clock.monotonic() - proven_at,
            watched=len(self._watched),
            streams=len(self._streams),
            is_draining=self._streams.is_draining,
        )

    async def known(self, bar_id: UUID, *, fresh: bool = False) -> Known:
        """Return what customers of a bar are offered now (R3.1), from memory where that is known to be true.

        Arguments:
            fresh: read it, whatever is in memory: for those who have just written.
        Raises:
            BarNotFound: there is no such bar.
            DatabaseFault, SchemaError: it cannot be had; offer no M-Pesa (spec 2).
        """
        entry = self._watched.use(bar_id, self._clock.monotonic())
        if not fresh and entry.known is not None and self._may_trust(entry):
            return entry.known
        for _ in range(3):  # one read may ask for a new version, the next names it; another's move may end in between
            found = await self._ask(bar_id)
            held = self._watched.get(bar_id)
            if held is None or not held.is_behind(found):
                break
            await held.bumped()
        # Not what was read where something newer was shown already (L3); but the truth, where no version can be moved.
        if held is None or held.known is None or held.is_owed or held.wants_bump(found):
            return found
        return held.known

    async def resolve(self, text: str) -> UUID:
        """Return the id of the bar that an id or a slug means; an id wins (spec 6).

        Raises:
            BarNotFound: there is no such bar.
            DatabaseFault, SchemaError: the database cannot be asked.
        """
        if (bar_id := uuid_in(text)) is not None:
            entry = self._watched.get(bar_id)
            if entry is not None and entry.known is not None:  # whether it still is, is for whoever asks for its offer
                return bar_id
            with suppress(BarNotFound):
                await self.known(bar_id)  # one statement looks up every bar that is being asked for
                return bar_id
        return await self._lookup(text)

    def is_current(self, known: Known, seen: str | None) -> bool:
        """Return whether a client that has the version `seen` has all of `known`, so that nothing need be sent.

        Without notices that cannot be told from a version: a writer may have moved none while nobody looked.
        """
        return seen == known.offer.version and self._keeping.mode == "notices"

    def is_ahead(self, bar_id: UUID, seen: str | None) -> bool:
        """Return whether a client has seen a newer version than this process, from another one (L3)."""
        entry = self._watched.get(bar_id)
        return entry is not None and entry.known is not None and entry.known.is_older_than(seen)

    def join(self, bar_id: UUID, address: str, send: Send, wire: Wire | None = None) -> Stream:
        """Register a page. `open` it when its answer has begun, `leave` when it has ended.

        Raises:
            StreamRefused: a cap is reached, or the process is being stopped.
        """
        return self._streams.join(self._watched.use(bar_id, self._clock.monotonic()), address, send, wire)

    def open(self, stream: Stream, *, seen: str | None, is_stale: bool = False) -> None:
        """Begin to write to a page: the newest frame, unless `seen` says that it has that; `stale` if need be.

        Arguments:
            seen: the version that the client has.
            is_stale: its bar could not be read for it.
        """
        entry = stream.entry
        stream.is_open = True
        stream.stale_due, stream.frame_due = is_stale, not is_stale
        if is_stale:
            self._streams.doubt(entry)
            self._reader.wake(entry.bar_id)
        if entry.known is not None and not self._streams.is_stale and self.is_current(entry.known, seen):
            stream.sent = entry.frame
        self._streams.push(stream)

    def leave(self, stream: Stream) -> None:
        """Forget a page that has ended."""
        self._streams.leave(stream)

    def tick(self) -> None:
        """Look at what time asks for; the shared timer calls it."""
        if not self._streams.is_stale and not self._listener.is_live():
            metrics.feed_live.set(0)
            _log.warning(Event.FEED_STALE)
            self._streams.say_stale()
        self._streams.tick()
        self._watched.forget_unused(self._clock.monotonic())

    def _may_trust(self, entry: Entry) -> bool:
        is_told = self._keeping.mode == "notices" and self._listener.is_connected and self._listener.is_live()
        return is_told and not entry.is_owed and entry.bump is None and not self._reader.is_dirty(entry.bar_id)

    async def _ask(self, bar_id: UUID) -> Known:
        found = await self._reader.ask(bar_id)
        if found is None:
            raise BarNotFound(NOT_FOUND)
        return found

    def _found(self, bar_id: UUID, known: Known | None) -> None:
        """Take in what a read found."""
        if (entry := self._watched.get(bar_id)) is None:
            return
        if known is None:
            self._watched.forget(entry)
            self._streams.dismiss(entry.streams)
            return
        match step(entry.known, known):
            case Step.PUBLISH:
                entry.hold(known)
                entry.is_owed = False
                self._streams.publish(entry)
            case Step.REFRESH:
                entry.known = known
                if entry.is_owed:
                    entry.is_owed = False
                    self._streams.publish(entry)
            case Step.BUMP:
                self._bumps.start(entry)
            case Step.RAISE:
                _log.warning(Event.FEED_VERSION_WENT_BACK, bar_id=str(bar_id))
                self._streams.doubt(entry)
                self._bumps.start(entry)

    def _unread(self, bar_id: UUID) -> None:
        """Say that what is shown of a bar cannot be kept true now, though the listener may hear well (L6)."""
        if (entry := self._watched.get(bar_id)) is not None:
            self._streams.doubt(entry)

    def _proved(self) -> None:
        self._first_proof.set()
        if self._streams.is_stale:
            metrics.feed_live.set(1)
            self._streams.say_live()

    async def _timer(self) -> None:
        await self._clock.sleep(self.limits.tick_every_s)
        self.tick()
