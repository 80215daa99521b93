"""`Streams`: every open page of this process: how many there may be, and that each gets what is due, in turns.

Nothing is queued: a stream is told that something is due, and the newest of it is written at once. Only a client that
does not take it has a task, for as long as that lasts.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Final
from uuid import UUID

from mpesa_sync.clock import Clock
from mpesa_sync.live.connection import Send, Stream, Wire
from mpesa_sync.live.eager import begun
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.tasks import Tasks, report
from mpesa_sync.live.watched import Entry, Watched
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("live")
_RESTS: Final = 4
"""A crowded bar rests for so many times as long as it was written to: at most a fifth of this process is its."""
_LONGEST_REST_S: Final = 0.5
_REASONS: Final = {
    "draining": "This server is being stopped.",
    "process": "This server has as many open pages as it can carry.",
    "address": "Too many pages are open from this address.",
    "bar": "Too many pages of this bar are open.",
}


class StreamRefused(Exception):
    """No stream is opened now.

    `cause` is one of draining, process, address, bar; `retry_after_s` says when to come again.
    """

    def __init__(self, cause: str, retry_after_s: int) -> None:
        super().__init__(_REASONS[cause])
        self.cause = cause
        self.retry_after_s = retry_after_s


class Streams:
    """All open streams, their caps, their heartbeat, and their end.

    Arguments:
        others_first: waits for reads of other bars than the one given, for a moment at most.
    """

    def __init__(
        self, watched: Watched, others_first: Callable[[UUID], Awaitable[None]], *, limits: Limits, clock: Clock
    ) -> None:
        self._watched = watched
        self._others_first = others_first
        self._limits = limits
        self._clock = clock
        self._all: dict[Stream, None] = {}  # in the order of their next heartbeat
        self._addresses: Counter[str] = Counter()
        self._busy: set[Stream] = set()
        self._turns = Tasks()
        self._written = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.is_draining = False
        self.is_stale = True
        """Whether pages have been told that the feed is not proven live (L6)."""

    def __len__(self) -> int:
        return len(self._all)

    def join(self, entry: Entry, address: str, send: Send, wire: Wire | None = None) -> Stream:
        """Register a page, before its bar is read for it, so that nothing falls between (L5).

        Raises:
            StreamRefused: a cap is reached, or the process is being stopped.
        """
        self._admit(entry, address)
        now = self._clock.monotonic()
        stream = Stream(
            entry,
            address,
            send,
            wire=wire,
            retry_ms=random.randint(*self._limits.retry_ms),  # noqa: S311 - no secret
            ends_at=now + random.uniform(*self._limits.life_s),  # noqa: S311
            beat_at=now + self._limits.beat_every_s,
        )
        self._all[stream] = None
        self._addresses[address] += 1
        self._watched.add(entry, stream)
        self._empty.clear()
        metrics.streams.inc()
        return stream

    def _admit(self, entry: Entry, address: str) -> None:
        limits = self._limits
        cause = None
        if self.is_draining:
            cause = "draining"
        elif len(self._all) >= limits.streams:
            cause = "process"
        elif self._addresses[address] >= limits.streams_per_address:
            cause = "address"
        elif len(entry.streams) >= limits.streams_per_bar:
            cause = "bar"
        if cause is not None:
            metrics.streams_refused.labels(cause).inc()
            raise StreamRefused(cause, random.randint(2, 10))  # noqa: S311 - no secret

    def leave(self, stream: Stream) -> None:
        """Forget a page that has ended; harmless where it is forgotten already."""
        if self._all.pop(stream, stream) is stream:
            return
        stream.end("gone")
        if stream.writer is not None:
            stream.writer.cancel()
        self._addresses[stream.address] -= 1
        if not self._addresses[stream.address]:
            del self._addresses[stream.address]
        self._watched.remove(stream.entry, stream, self._clock.monotonic())
        metrics.streams.dec()
        metrics.streams_closed.labels(stream.cause).inc()
        if not self._all:
            self._empty.set()

    def push(self, stream: Stream) -> None:
        """Have written what is due on a stream, unless its client is still taking what came before."""
        if stream.frame_due:  # a frame alone says that all is well
            stream.stale_due = self.is_stale or stream.entry.is_owed
        if not stream.is_open or stream.writer is not None or stream.cause is not None:
            return
        body = stream.next_bytes()
        if body is None:
            return
        try:
            rest = None if stream.write_now(body) else begun(stream.write(body))
        except Exception as exc:  # noqa: BLE001 - this page alone ends by it
            self._broken(stream, exc)
            return
        if rest is None:
            self._taken(stream)
        else:
            stream.writer = asyncio.get_running_loop().create_task(self._until_taken(stream, rest))

    async def _until_taken(self, stream: Stream, writing: Awaitable[None]) -> None:
        """Wait for a client that does not take what it is given; then give it what has become due meanwhile."""
        self._busy.add(stream)
        stream.busy_since = self._clock.monotonic()
        try:
            await writing
            self._taken(stream)
            while stream.cause is None and (body := stream.next_bytes()) is not None:
                stream.busy_since = self._clock.monotonic()
                await stream.write(body)
                self._taken(stream)
        except Exception as exc:  # noqa: BLE001 - this page alone ends by it
            self._broken(stream, exc)
        finally:
            self._busy.discard(stream)
            stream.writer = None

    def _taken(self, stream: Stream) -> None:
        self._written += 1
        if stream.has_parted:
            stream.end("bye")

    def _broken(self, stream: Stream, exc: Exception) -> None:
        """End a page that cannot be written to: an OSError is the server's way to say that it has gone (ASGI: send)."""
        if isinstance(exc, OSError):
            stream.end("gone")
        else:
            report("stream", exc)
            stream.end("failed")

    def publish(self, entry: Entry) -> None:
        """Have the newest frame of a bar written to all its pages, in turns with those of other bars (L7)."""
        if entry.is_fanning:
            entry.again = True
        elif len(entry.streams) <= self._limits.slice_of:
            for stream in entry.streams:
                stream.frame_due = True
                self.push(stream)
        else:
            entry.is_fanning = True
            self._turns.start("fan-out", self._fan_out(entry))

    def doubt(self, entry: Entry) -> None:
        """Tell the pages of a bar that what they show cannot be kept true; they get a frame when it can.

        Harmless where they have been told.
        """
        if entry.is_owed:
            return
        entry.is_owed = True
        for stream in entry.streams:
            stream.stale_due = True
        self._turns.start("doubt", self._in_turns(entry.streams))

    async def _fan_out(self, entry: Entry) -> None:
        """Write to all pages of a bar, and again where it has changed meanwhile, after a rest.

        So a crowded bar that changes all the time takes a share of this process and no more, and while another bar is
        read, it lets that go first: its turns came between the round trips of the read (L7).
        """
        try:
            entry.again = True
            while entry.again:
                entry.again = False
                began = self._clock.monotonic()
                await self._in_turns(entry.streams, frame=True, of_bar=entry.bar_id)
                if entry.again:
                    took_s = self._clock.monotonic() - began
                    await self._clock.sleep(min(_RESTS * took_s, _LONGEST_REST_S))
        finally:
            entry.is_fanning = False

    async def _in_turns(self, streams: Iterable[Stream], *, frame: bool = False, of_bar: UUID | None = None) -> None:
        chosen = list(streams)
        for start in range(0, len(chosen), self._limits.slice_of):
            for stream in chosen[start : start + self._limits.slice_of]:
                stream.frame_due = stream.frame_due or frame
                self.push(stream)
            await asyncio.sleep(0)
            if of_bar is not None:
                await self._others_first(of_bar)

    def say_stale(self) -> None:
        """Tell every page that the feed is not proven live (L6)."""
        self.is_stale = True
        for stream in self._all:
            stream.stale_due = True
        self._turns.start("stale", self._in_turns(self._all))

    def say_live(self) -> None:
        """Give every page that was told that it is stale the newest frame, whether it has changed or not."""
        self.is_stale = False
        for stream in self._all:
            stream.stale_due = False
        self._turns.start("live", self._in_turns(self._all, frame=True))

    def dismiss(self, streams: Iterable[Stream]) -> None:
        """Say goodbye to these pages, each with a time of its own to come back, and end them."""
        chosen = list(streams)
        for stream in chosen:
            retry_ms = random.randint(*self._limits.retry_ms)  # noqa: S311 - no secret
            stream.bye = b'event: bye\ndata: {"retry_ms":%d}\n\n' % retry_ms
        self._turns.start("bye", self._in_turns(chosen))

    def tick(self) -> None:
        """Do what time asks for: close clients that take nothing, send heartbeats, end what has lived long enough."""
        now = self._clock.monotonic()
        metrics.stream_frames.inc(self._written)
        self._written = 0
        for stream in [s for s in self._busy if now - s.busy_since >= self._limits.drain_after_s]:
            _log.info(Event.STREAM_SLOW)
            stream.end("slow")
            if stream.writer is not None:
                stream.writer.cancel()
        due: list[Stream] = []
        over: list[Stream] = []
        for stream in self._all:
            if stream.beat_at > now:
                break
            (over if stream.ends_at <= now else due).append(stream)
        for stream in due + over:
            del self._all[stream]
            self._all[stream] = None
            stream.beat_at = now + self._limits.beat_every_s
            stream.beat_due = stream.writer is None
        if due:
            self._turns.start("heartbeat", self._in_turns(due))
        if over:
            self.dismiss(over)

    async def drain(self, deadline_s: float) -> int:
        """Refuse new pages, say goodbye to all, and wait for their end; return how many were cut at the deadline."""
        self.is_draining = True
        self.dismiss(self._all)
        try:
            async with asyncio.timeout(deadline_s):
                await self._empty.wait()
        except TimeoutError:
            pass
        left = list(self._all)
        for stream in left:
            stream.end("cut")
            if stream.writer is not None:
                stream.writer.cancel()
        return len(left)

    async def close(self) -> None:
        """End every page at once."""
        await self.drain(0)
        await self._turns.stop()
