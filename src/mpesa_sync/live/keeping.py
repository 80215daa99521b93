"""`Keeping`: what has watched bars read again: a notice, a probe that found another version, a sweep, a new listener.

It decides when to read and never what is shown.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from mpesa_sync.clock import Clock
from mpesa_sync.db import notices, offers
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.offers import uuid_in
from mpesa_sync.live.reader import Reader
from mpesa_sync.live.state import Mode
from mpesa_sync.live.watched import Watched
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("live")


class Keeping:
    """Keeps true what is held of the watched bars. `mode` says whether notices tell of every change."""

    def __init__(self, database: Database, watched: Watched, reader: Reader, *, limits: Limits, clock: Clock) -> None:
        self._db = database
        self._watched = watched
        self._reader = reader
        self._limits = limits
        self._clock = clock
        self.mode: Mode = "sweep"

    def heard(self, payload: str) -> None:
        """Take a notice."""
        if payload == notices.EVERY_BAR:
            self._wake_all()
        elif (bar_id := uuid_in(payload)) is not None and self._watched.get(bar_id) is not None:
            self._reader.wake(bar_id)  # anybody may send anything on the channel

    async def resync(self) -> None:
        """Read everything that is watched, what somebody looks at first; called when notices are heard (again)."""
        await self._reader.sweep(self._all())

    async def probe(self, connection: Any) -> None:
        """Prove that the connection answers, and wake what no notice told."""
        told = {
            entry.bar_id: entry.known
            for entry in self._watched
            if entry.known is not None and not self._reader.is_dirty(entry.bar_id)
        }
        epoch, missed = await offers.moved(connection, {bar_id: known.version for bar_id, known in told.items()})
        missed += [bar_id for bar_id, known in told.items() if known.epoch != epoch]
        for bar_id in missed:
            if not self._reader.is_dirty(bar_id):
                metrics.feed_missed.inc()
                self._reader.wake(bar_id)

    async def sweep(self) -> None:
        """Wait for the time of a sweep, and read everything that is watched."""
        await self._clock.sleep(self._limits.sweep_every_s)
        try:
            async with self._db.reading() as connection:
                self.set_mode(await notices.installed(connection))
        except MpesaSyncError:
            self._wake_all()  # what cannot be read either is said to be stale
            raise
        await self._reader.sweep(self._all())

    def set_mode(self, has_notices: bool) -> None:
        """Note whether there are notice triggers."""
        mode: Mode = "notices" if has_notices else "sweep"
        if mode != self.mode:
            self.mode = mode
            _log.info(Event.FEED_MODE, mode=mode)

    def _all(self) -> list[UUID]:
        return [entry.bar_id for entry in sorted(self._watched, key=lambda entry: not entry.streams)]

    def _wake_all(self) -> None:
        for entry in self._watched:
            self._reader.wake(entry.bar_id)
