"""The bars that this process watches: those with open pages, and those that were asked for lately."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from uuid import UUID

from mpesa_sync.live.offers import Known, Step, step

if TYPE_CHECKING:
    from mpesa_sync.live.connection import Stream

CLOSED: Final = b"event: closed\ndata: {}\n\n"
"""Before a frame: the venue is marked as closed. Where it is not there, the venue is open."""


class Entry:
    """One watched bar: what is known of it, its frame, encoded once, and who has it open."""

    __slots__ = ("again", "bar_id", "bump", "frame", "is_fanning", "is_owed", "known", "streams", "used_at")

    def __init__(self, bar_id: UUID, now: float) -> None:
        self.bar_id = bar_id
        self.known: Known | None = None
        self.frame: bytes | None = None
        self.streams: dict[Stream, None] = {}
        self.used_at = now
        self.bump: asyncio.Task[None] | None = None
        self.is_fanning = self.again = False
        self.is_owed = False
        """Whether its pages were told `stale`: what is held is not to be trusted until a read has proved it (L6)."""

    def hold(self, known: Known) -> None:
        """Take what customers see from now on, and encode its frame."""
        self.known = known
        offer = b"event: payment-methods\nid: %s\ndata: %s\n\n" % (known.offer.version.encode(), known.body)
        self.frame = CLOSED + offer if known.is_closed else offer

    def wants_bump(self, read: Known) -> bool:
        """Return whether a writer changed the bar and moved no version, as far as this read tells."""
        return step(self.known, read) is Step.BUMP

    def is_behind(self, read: Known) -> bool:
        """Return whether the version that was read is being moved, or has to be."""
        return self.bump is not None or self.wants_bump(read)

    async def bumped(self) -> None:
        """Wait for the move of the version that is under way, if one is."""
        if self.bump is not None:
            await asyncio.wait([self.bump])


class Watched:
    """Bars by id. One without streams is forgotten when it was not used for a while, or when there are too many.

    Arguments:
        forget_after_s: how long after its last use.
        most_idle: how many bars without streams are kept.
    """

    def __init__(self, *, forget_after_s: float, most_idle: int) -> None:
        self._entries: dict[UUID, Entry] = {}
        self._idle: OrderedDict[UUID, Entry] = OrderedDict()
        self._forget_after_s = forget_after_s
        self._most_idle = most_idle

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, bar_id: UUID) -> Entry | None:
        """Return the bar if it is watched."""
        return self._entries.get(bar_id)

    def use(self, bar_id: UUID, now: float) -> Entry:
        """Return the bar and watch it for a while from now on."""
        entry = self._entries.get(bar_id)
        if entry is None:
            entry = self._entries[bar_id] = Entry(bar_id, now)
        entry.used_at = now
        if not entry.streams:
            self._idle[bar_id] = entry
            self._idle.move_to_end(bar_id)
            if len(self._idle) > self._most_idle:
                del self._entries[self._idle.popitem(last=False)[0]]
        return entry

    def add(self, entry: Entry, stream: Stream) -> None:
        """Note an open page."""
        entry.streams[stream] = None
        self._idle.pop(entry.bar_id, None)

    def remove(self, entry: Entry, stream: Stream, now: float) -> None:
        """Note that a page has closed."""
        entry.streams.pop(stream, None)
        if not entry.streams and self._entries.get(entry.bar_id) is entry:
            self.use(entry.bar_id, now)

    def forget(self, entry: Entry) -> None:
        """Watch the bar no longer: it does not exist any more."""
        if self._entries.get(entry.bar_id) is entry:
            del self._entries[entry.bar_id]
            self._idle.pop(entry.bar_id, None)

    def forget_unused(self, now: float) -> None:
        """Watch no longer what nobody has used for a while."""
        while self._idle:
            entry = next(iter(self._idle.values()))
            if now - entry.used_at <= self._forget_after_s:
                return
            self.forget(entry)
