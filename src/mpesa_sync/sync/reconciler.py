"""Continuous reconciliation (spec 3, C): a sweep over all bars in slices, and a look at bars that a notice names.

Nothing is kept in this process but how many bars it looks at a time: place, next run and counts stand in the database.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from mpesa_sync.db import bar_pages, detection, failpoints, session, transaction
from mpesa_sync.db import reconciler as rows
from mpesa_sync.db.bar_pages import Page
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.db.reconciler import Cycle, Lease
from mpesa_sync.domain.availability import Direction
from mpesa_sync.errors import DatabaseFault
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import reconciler_alerts
from mpesa_sync.sync.reconciler_policy import Policy, Rhythm, policy, policy_on
from mpesa_sync.sync.reconciler_repair import Fate, LeaseLost, repair

__all__ = ["Fate", "Policy", "Reconciler", "Rhythm", "Slice", "policy", "policy_on"]
T = TypeVar("T")
Pair = tuple[UUID, bool]
_log: Final = logs.get("reconciler")
_CHUNK: Final = 5_000
_FIRST_PAGE: Final = 1_000
_SMALLEST_PAGE: Final = 50
_LARGEST_PAGE: Final = 20_000
_QUICK_S: Final = 0.1
_SLOW_S: Final = 0.4
_REST: Final = 9
"""How much longer than it looks it rests, where there is time."""
_LONGEST_REST_S: Final = 5.0
_SHARE: Final = 0.8
"""Of the time that a cycle may take: what is planned for."""
_LEAST_S: Final = 0.5
"""That one repair may take, however late in its slice."""
_NOTICED_S: Final = 30.0
"""That the repairs of bars which were noticed together may take."""
_NAMED: Final = 20
"""How many bars a log event names."""


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice that was done. `drifted`: the bars that stayed drifted, with what they should show.

    `next_in_s`: when the next one is due. `cycle`: what the cycle came to, where this was its last slice.
    """

    bars: int
    drifted: tuple[Pair, ...]
    fates: Counter[Fate]
    next_in_s: float
    cycle: Cycle | None


class Reconciler:
    """Does slices, as many as are due, whoever else does.

    Arguments:
        rhythm: None is as spec 3 says.
    """

    def __init__(self, database: Database, rhythm: Rhythm | None = None) -> None:
        self._db = database
        self.rhythm = rhythm or Rhythm()
        self._page = self.rhythm.page or _FIRST_PAGE
        self._asked = self._page
        self._expected = 0

    async def slice(self, *, as_policy: Policy | None = None, is_forced: bool = False) -> Slice | None:
        """Do the next slice where one is due and nobody else does it.

        Arguments:
            as_policy: what to do about drift; None: what `policy` says.
            is_forced: also where none is due.
        Returns:
            None where nothing was due, another process does it, or took it over.
        Raises:
            DatabaseFault, SchemaError: nothing is lost: the slice is done again.
        """
        chosen = as_policy or await policy(self._db)
        if chosen is Policy.OFF:
            return None
        token = uuid4()
        lease = await self._write(partial(self._leased, token=token, is_forced=is_forced), Failpoint.SLICE_LEASED)
        if lease is None:
            return None
        try:
            return await self._done(token, lease, chosen)
        except LeaseLost:
            _log.warning(Event.RECONCILER_LEASE_LOST)
            return None
        except DatabaseFault:
            if self.rhythm.page is None:  # too many bars for a slow database, perhaps
                self._page = max(_SMALLEST_PAGE, self._page // 2)
            await self._write(lambda connection: rows.give_back(connection, token))
            raise

    async def sweep(self, *, as_policy: Policy | None = None) -> Cycle | None:
        """Look at all bars now, from the first to the last, without rests.

        Returns:
            What was found and done; None where another process is at it, or the policy is off.
        Raises:
            DatabaseFault, SchemaError: as `slice`.
        """
        while (done := await self.slice(as_policy=as_policy, is_forced=True)) is not None:
            if done.cycle is not None:
                return done.cycle
        return None

    async def noticed(self, bar_ids: Sequence[UUID]) -> dict[UUID, Fate]:
        """Look at bars that a notice named, and repair at once what stays drifted, where the policy says so.

        Returns:
            What became of each bar that stayed drifted.
        Raises:
            DatabaseFault, SchemaError: nothing is lost: the sweep finds them.
        """
        chosen = await policy(self._db)
        if chosen is Policy.OFF:
            return {}
        drifted = await self._still_drifted(bar_ids)
        if drifted:
            drifted = await self._second_look([bar_id for bar_id, _ in drifted])
        if not drifted:
            return {}
        end = self._db.clock.monotonic() + _NOTICED_S
        fates: dict[UUID, Fate] = {}
        for bar_id, _ in drifted:
            if self._db.clock.monotonic() < end:  # the sweep finds what is left
                fates[bar_id] = await self._settle(None, bar_id, chosen, None)
        if Fate.POSTPONED in fates.values():
            await reconciler_alerts.budget_spent(self._db, self.rhythm.budget)
        _count(drifted, Counter(fates.values()))
        _log.warning(Event.RECONCILER_NOTICED, policy=chosen.value, **_said(drifted, Counter(fates.values())))
        return fates

    async def _leased(self, connection: Any, *, token: UUID, is_forced: bool) -> Lease | None:
        self._expected = self._expected or await rows.last_bars(connection)
        rhythm = self.rhythm
        return await rows.lease(connection, token, lease_s=rhythm.lease_s, cycle_s=rhythm.cycle_s, is_forced=is_forced)

    async def _done(self, token: UUID, lease: Lease, chosen: Policy) -> Slice:
        """Look, look again, settle what stayed, and write down how far it came."""
        clock, rhythm = self._db.clock, self.rhythm
        end = clock.monotonic() + rhythm.slice_s
        page, took_s = await self._looked_at(lease)
        failpoints.hit(Failpoint.SLICE_LOOKED)
        stale = {bar.bar_id for bar in page.drifted if bar.stale_authority}
        drifted = await self._second_look([bar.bar_id for bar in page.drifted]) if page.drifted else []
        fates: Counter[Fate] = Counter()
        bars, last_bar, settled = page.bars, page.last_bar, len(drifted)
        positions = {bar.bar_id: bar.position for bar in page.drifted}
        for number, (bar_id, _) in enumerate(drifted, start=1):
            if bar_id in stale and chosen is Policy.REPAIR:
                fates[Fate.LEFT_ALONE] += 1
            elif fates[Fate.POSTPONED]:
                fates[Fate.POSTPONED] += 1
            else:
                fates[await self._settle(token, bar_id, chosen, end)] += 1
            if clock.monotonic() >= end and number < len(drifted) and not fates[Fate.POSTPONED]:
                bars, last_bar, settled = positions[bar_id], bar_id, number
                break
        drifted = drifted[:settled]
        is_last = bars == page.bars and page.bars < self._asked
        next_in_s = self._rest_s(lease, bars, took_s)
        cycle = await self._written_down(token, last_bar, bars, drifted, fates, chosen, next_in_s, is_last)
        if is_last:
            next_in_s = 0.0 if cycle is None else max(0.0, rhythm.cycle_s - cycle.duration_s)
        return Slice(bars, tuple(drifted), fates, next_in_s, cycle)

    async def _looked_at(self, lease: Lease) -> tuple[Page, float]:
        """Return the next bars, and how long that took; the number of those to come follows it."""
        clock, asked = self._db.clock, self._page
        began = clock.monotonic()
        async with self._db.reading(session.SLICE) as connection:
            page = await bar_pages.page(connection, lease.last_bar, asked)
        took_s = clock.monotonic() - began
        self._asked = asked
        if self.rhythm.page is None:
            if took_s > _SLOW_S:
                self._page = max(_SMALLEST_PAGE, asked // 2)
            elif took_s < _QUICK_S and page.bars == asked:
                self._page = min(_LARGEST_PAGE, asked * 2)
        return page, took_s

    async def _still_drifted(self, bar_ids: Sequence[UUID]) -> list[Pair]:
        found: list[Pair] = []
        for start in range(0, len(bar_ids), _CHUNK):
            async with self._db.reading() as connection:
                found += await detection.still_drifted(connection, list(bar_ids[start : start + _CHUNK]))
        return found

    async def _second_look(self, bar_ids: Sequence[UUID]) -> list[Pair]:
        """Wait, and return which of these bars are drifted still: what was under way has been committed since."""
        await self._db.clock.sleep(self.rhythm.second_look_s)
        return await self._still_drifted(bar_ids)

    async def _settle(self, token: UUID | None, bar_id: UUID, chosen: Policy, end: float | None) -> Fate:
        if chosen is not Policy.REPAIR:
            return Fate.REPORTED
        within_s = None if end is None else max(_LEAST_S, end - self._db.clock.monotonic())
        return await repair(self._db, bar_id, token=token, budget=self.rhythm.budget, within_s=within_s)

    def _rest_s(self, lease: Lease, bars: int, took_s: float) -> float:
        """Return how long to rest before the next slice: so long that it is no burden, while the cycle ends in time."""
        left_s = self.rhythm.cycle_s * _SHARE - lease.age_s
        slices = max(1, math.ceil((self._expected - lease.seen - bars) / self._page))
        return max(0.0, min(took_s * _REST, left_s / slices - took_s, _LONGEST_REST_S))

    async def _written_down(
        self,
        token: UUID,
        last_bar: UUID | None,
        bars: int,
        drifted: Sequence[Pair],
        fates: Counter[Fate],
        chosen: Policy,
        next_in_s: float,
        is_last: bool,
    ) -> Cycle | None:
        """Store how far the sweep is, under the lease; at its end what it came to, and tell people what they must know.

        Raises:
            LeaseLost: another process has taken over; nothing was stored.
        """
        hidden = sum(authority for _, authority in drifted)
        counts = {fate.value: number for fate, number in fates.items()}
        counts |= {"bars": bars, "hidden": hidden, "exposed": len(drifted) - hidden}

        async def work(connection: Any) -> Cycle | None:
            if not await rows.advance(connection, token, last_bar, counts, next_in_s=next_in_s):
                raise LeaseLost("Another process has taken over this slice of the sweep.")
            failpoints.hit(Failpoint.SLICE_COUNTED)
            if not is_last:
                return None
            cycle = await rows.finish(connection, chosen.value, cycle_s=self.rhythm.cycle_s)
            await reconciler_alerts.answered(connection, cycle)
            return cycle

        cycle = await self._write(work, Failpoint.SLICE_COMMITTED)
        if drifted:
            _count(drifted, fates)
            _log.warning(Event.RECONCILER_SLICE, policy=chosen.value, bars=bars, **_said(drifted, fates))
        if fates[Fate.POSTPONED]:
            await reconciler_alerts.budget_spent(self._db, self.rhythm.budget)
        if cycle is not None:
            self._expected = cycle.bars
            facts = {name: getattr(cycle, name) for name in Cycle.__slots__}
            _log.info(Event.RECONCILER_CYCLE, policy=chosen.value, **facts)
            await reconciler_alerts.drift_left(self._db, cycle)
        return cycle

    async def _write(self, work: Callable[[Any], Awaitable[T]], point: Failpoint = Failpoint.COMMITTED) -> T:
        return await patiently(self._db, lambda: transaction.once(self._db, session.WRITE, work, committed=point))


def _count(drifted: Sequence[Pair], fates: Counter[Fate]) -> None:
    for _, authority in drifted:
        metrics.reconciler_drift.labels(Direction.HIDDEN if authority else Direction.EXPOSED).inc()
    for fate, number in fates.items():
        metrics.reconciler_repairs.labels(fate).inc(number)


def _said(drifted: Sequence[Pair], fates: Counter[Fate]) -> dict[str, Any]:
    return {
        "hidden": sum(authority for _, authority in drifted),
        "exposed": sum(not authority for _, authority in drifted),
        "became": {fate.value: number for fate, number in fates.items()},
        "some": [str(bar_id) for bar_id, _ in drifted[:_NAMED]],
    }
