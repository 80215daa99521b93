"""`Reader`: many wakes are one read. One read is in flight at a time, and what is asked meanwhile is in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from mpesa_sync.clock import Clock
from mpesa_sync.db.errormap import translate
from mpesa_sync.errors import TransientFault
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.offers import Known
from mpesa_sync.live.tasks import report
from mpesa_sync.monitoring import metrics

_PAUSE_S: Final = 0.1
"""After a read that failed, before the next one."""

_CLOSED: Final = "This process is being stopped."

Read = Callable[[Sequence[UUID]], Awaitable[Mapping[UUID, Known]]]
Found = Callable[[UUID, Known | None], None]
Unread = Callable[[UUID], None]
Answer = asyncio.Future[Known | None]


class Reader:
    """Reads bars in batches and hands each, or None where it does not exist, to `found`.

    Urgent bars (somebody waits, or a notice came) go before a sweep's. What could not be read is read again, so that
    no notice is lost with a connection.

    Arguments:
        read: reads many bars in one moment.
        found: is told of each bar, before those who wait for it.
        unread: is told of each bar that should have been read and cannot be now, until `found` is.
    """

    def __init__(self, read: Read, found: Found, unread: Unread, *, limits: Limits, clock: Clock) -> None:
        self._read = read
        self._found = found
        self._unread = unread
        self._limits = limits
        self._clock = clock
        self._urgent: dict[UUID, Answer | None] = {}
        self._later: dict[UUID, None] = {}
        self._in_flight: dict[UUID, Answer | None] = {}
        self._work = asyncio.Event()
        self._landed = asyncio.Event()
        self._swept: list[asyncio.Future[None]] = []
        self._is_closed = False

    def is_dirty(self, bar_id: UUID) -> bool:
        """Return whether a read of this bar was asked for that has not ended yet."""
        return bar_id in self._urgent or bar_id in self._in_flight

    async def others_first(self, bar_id: UUID) -> None:
        """Wait while other bars than this one are being read or are about to be, for `Limits.held_s` at most (L7)."""
        if not self._reads_beside(bar_id):
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.held_s):
                while self._reads_beside(bar_id):
                    await self._landed.wait()

    def _reads_beside(self, bar_id: UUID) -> bool:
        return any(len(bars) > (bar_id in bars) for bars in (self._urgent, self._in_flight))

    def wake(self, bar_id: UUID) -> None:
        """Have the bar read soon; many wakes are one read."""
        self._urgent.setdefault(bar_id, None)
        self._work.set()

    async def ask(self, bar_id: UUID) -> Known | None:
        """Return the bar as a read finds it that begins after this call; None where it does not exist.

        Raises:
            DatabaseFault, SchemaError: the database cannot be asked.
        """
        if self._is_closed:
            raise TransientFault(_CLOSED)
        answer = self._urgent.get(bar_id)
        if answer is None:
            answer = self._urgent[bar_id] = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
        self._work.set()
        return await asyncio.shield(answer)

    async def sweep(self, bar_ids: Iterable[UUID]) -> None:
        """Have all these bars read, after what is urgent, and wait until they are.

        Raises:
            DatabaseFault, SchemaError: some of them could not be read.
        """
        self._later.update(dict.fromkeys(bar_ids))
        if not self._later:
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.add_done_callback(_seen)
        self._swept.append(done)
        self._work.set()
        await done

    def close(self) -> None:
        """Tell those who wait that no read will come."""
        self._is_closed = True
        for answer in [*self._urgent.values(), *self._in_flight.values()]:
            if answer is not None and not answer.done():
                answer.set_exception(TransientFault(_CLOSED))
        self._end_sweep(TransientFault(_CLOSED))

    async def one_batch(self) -> None:
        """Wait until there is something to read, and read one batch of it."""
        if not self._urgent and not self._later:
            self._work.clear()
            await self._work.wait()
        batch = self._batch()
        try:
            async with asyncio.timeout(self._limits.read_timeout_s):
                known = await self._read(list(batch))
        except Exception as exc:  # noqa: BLE001 - logged, and handed to those who wait
            self._land()
            await self._failed(batch, translate(exc))
            return
        self._land()
        metrics.feed_reads.labels("done").inc()
        for bar_id, answer in batch.items():
            self._found(bar_id, known.get(bar_id))
            if answer is not None and not answer.done():
                answer.set_result(known.get(bar_id))
        if not self._later:
            self._end_sweep(None)

    def _land(self) -> None:
        """Nothing is in flight now; tell those who wait for that."""
        self._in_flight = {}
        self._landed.set()
        self._landed.clear()

    def _batch(self) -> dict[UUID, Answer | None]:
        """Take the next bars; they are in flight from now on."""
        source, size = (self._urgent, self._limits.read_batch)
        if not self._urgent:
            source, size = dict.fromkeys(self._later, None), self._limits.sweep_batch
        batch = dict(list(source.items())[:size])
        for bar_id in batch:
            self._urgent.pop(bar_id, None)
            self._later.pop(bar_id, None)
        self._in_flight = batch
        return batch

    async def _failed(self, batch: Mapping[UUID, Answer | None], error: BaseException) -> None:
        """Tell those who wait, and whom it may leave with an old answer; all of it is read again.

        What waits behind the batch, or of the same sweep, would not be read in time either (L6).
        """
        metrics.feed_reads.labels("failed").inc()
        report("reader", error)
        for bar_id in [*batch, *self._later]:
            self._urgent.setdefault(bar_id, None)
        for bar_id in self._urgent:
            self._unread(bar_id)
        for answer in batch.values():
            if answer is not None and not answer.done():
                answer.set_exception(error)
        self._later.clear()
        self._end_sweep(error)
        await self._clock.sleep(_PAUSE_S)

    def _end_sweep(self, error: BaseException | None) -> None:
        waiting, self._swept = self._swept, []
        for done in waiting:
            if done.done():
                continue
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)


def _seen(future: asyncio.Future[Any]) -> None:
    """Look at the outcome, so that one that nobody waits for any more is no complaint of the loop."""
    if not future.cancelled():
        future.exception()
