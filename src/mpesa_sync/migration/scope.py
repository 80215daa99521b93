"""Which bars a run is about: all, those of a saved plan, those in the quarantine, or what another run changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.db import candidates as candidates_of
from mpesa_sync.db import detection, quarantine
from mpesa_sync.db.detection import DriftedBar
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.availability import BarWarning
from mpesa_sync.migration import fleet
from mpesa_sync.migration.batches import stale_authority
from mpesa_sync.migration.candidates import Candidates
from mpesa_sync.migration.report import Quarantined

_CHUNK: Final = 5_000


class Look(msgspec.Struct, kw_only=True):
    """What the first look of a run has found. `at_rest`: bars in the quarantine that need no correction any more."""

    scanned: int
    consistent: int
    candidates: Candidates
    set_aside: Sequence[Quarantined] = ()
    at_rest: Sequence[UUID] = ()
    hidden: int = 0
    exposed: int = 0
    legacy_only: int = 0
    legacy_left: int = 0
    warnings: dict[str, int] = msgspec.field(default_factory=dict)

    @property
    def drifted(self) -> int:
        """Return how many bars it has found that are not as they should be."""
        return self.scanned - self.consistent


class Scope(ABC):
    """The bars of a run.

    `is_verified`: it ends with a pass over all bars. `is_bound`: it corrects nothing else that such a pass finds.
    `of_run`: it is about bars that this other run has met, or changed.

    Arguments:
        mirrors: bars belong to it also where `payment_mpesa_enabled` alone is not as the authority.
    """

    is_verified = True
    is_bound = False
    of_run: UUID | None = None

    def __init__(self, database: Database, *, mirrors: bool = False) -> None:
        self._db = database
        self._mirrors = mirrors

    @abstractmethod
    async def look(self, *, accept_stale_authority: bool) -> Look:
        """Return what is to be corrected; READ ONLY."""

    async def verify(self, known: Collection[UUID]) -> tuple[Candidates, int]:
        """Pass over all bars; return what has to be corrected still, and how many drifted bars are none of this run's.

        A mismatch counts only where it survives a second look (races.md).

        Arguments:
            known: bars that are quarantined: they stay drifted.
        """
        found = await fleet.full_pass(self._db, with_legacy=self._mirrors)
        drifted = [bar_id for bar_id in found if bar_id not in known]
        still = await fleet.second_look(self._db, drifted, with_legacy=self._mirrors) if drifted else []
        ours = await self._ours([bar_id for bar_id, _ in still])
        return Candidates(pair for pair in still if pair[0] in ours), len(still) - len(ours)

    async def _ours(self, bar_ids: Sequence[UUID]) -> Collection[UUID]:
        """Return which of these bars the run may correct."""
        return set(bar_ids)

    async def _drifted_of(self, bar_ids: Sequence[UUID]) -> dict[UUID, bool]:
        """Return which of these bars are drifted now, with their authority."""

        async def ask(chunk: Sequence[UUID]) -> list[tuple[UUID, bool]]:
            async with self._db.reading() as connection:
                return await detection.still_drifted(connection, chunk, with_legacy=self._mirrors)

        found: dict[UUID, bool] = {}
        for start in range(0, len(bar_ids), _CHUNK):
            found.update(await patiently(self._db, partial(ask, bar_ids[start : start + _CHUNK])))
        return found

    def _directed(self, look: Look, authorities: Sequence[bool]) -> Look:
        """Return a look with its drift by direction, where that is known: no bar is in it for the older flag alone."""
        if not self._mirrors:
            look.hidden = sum(authorities)
            look.exposed = len(authorities) - look.hidden
        return look


class AllBars(Scope):
    """Every bar.

    Arguments:
        kept: filled with the drifted bars that are to be corrected, as they were seen; None where nobody asks.
    """

    def __init__(self, database: Database, kept: list[DriftedBar] | None = None, *, mirrors: bool = False) -> None:
        super().__init__(database, mirrors=mirrors)
        self._kept = kept

    async def look(self, *, accept_stale_authority: bool) -> Look:
        """Return every drifted bar."""
        candidates, aside = Candidates(), list[Quarantined]()
        legacy = Counter[str]()

        def collect(bar: DriftedBar) -> None:
            legacy["only"] += not bar.is_drifted
            if BarWarning.STALE_AUTHORITY in bar.warnings and not accept_stale_authority:
                aside.append(stale_authority(bar.bar_id, secrets_differ=bar.holds_both))
                return
            legacy["left"] += bar.is_drifted and bar.legacy_differs
            candidates.add(bar.bar_id, bar.authority, bar.authority)
            if self._kept is not None:
                self._kept.append(bar)

        def collector() -> Callable[[DriftedBar], object]:
            candidates.clear()
            aside.clear()
            legacy.clear()
            if self._kept is not None:
                self._kept.clear()
            return collect

        has_flag = self._mirrors or await fleet.has_legacy_flag(self._db)
        summary = await fleet.look(self._db, collector, with_versions=self._kept is not None, with_legacy=self._mirrors)
        return Look(
            scanned=summary.bars,
            consistent=summary.consistent - legacy["only"],
            legacy_only=legacy["only"],
            legacy_left=legacy["left"] if has_flag and not self._mirrors else 0,
            hidden=summary.hidden,
            exposed=summary.exposed,
            warnings={warning.value: number for warning, number in summary.warnings.items() if number},
            candidates=candidates,
            set_aside=aside,
        )


class PlannedBars(Scope):
    """The bars of a saved plan, and nothing outside of it.

    Arguments:
        pairs: bars with the authority that the plan has seen.
        dry_run: nothing will decide about them, so they are looked at here.
    """

    is_bound = True

    def __init__(
        self,
        database: Database,
        pairs: Iterable[tuple[UUID, bool]],
        *,
        dry_run: bool = False,
        mirrors: bool = False,
    ) -> None:
        super().__init__(database, mirrors=mirrors)
        self._planned = Candidates(pairs)
        self._dry_run = dry_run

    async def look(self, *, accept_stale_authority: bool) -> Look:
        """Return the plan: each of its bars is decided anew under its locks, or, in a dry run, as it is now."""
        left = self._planned
        if self._dry_run:
            drifted = await self._drifted_of([bar_id for bar_id, _, _ in left])
            left = Candidates((bar_id, seen) for bar_id, seen, _ in left if bar_id in drifted)
        return self._directed(
            Look(scanned=len(self._planned), consistent=len(self._planned) - len(left), candidates=left),
            [authority for _, authority, _ in left],
        )

    async def _ours(self, bar_ids: Sequence[UUID]) -> Collection[UUID]:
        wanted = set(bar_ids)
        return {bar_id for bar_id, _, _ in self._planned if bar_id in wanted}


class ChosenBars(Scope):
    """Bars by id: those in the quarantine, or one.

    Arguments:
        bar_ids: the bars.
        of_run: the run that met them last, where only such are meant.
    """

    is_bound = True

    def __init__(
        self, database: Database, bar_ids: Sequence[UUID], *, of_run: UUID | None = None, mirrors: bool = False
    ) -> None:
        super().__init__(database, mirrors=mirrors)
        self._bar_ids = bar_ids
        self.of_run = of_run

    async def look(self, *, accept_stale_authority: bool) -> Look:
        """Return which of them are drifted; the others are at rest."""
        found = await self._drifted_of(self._bar_ids)
        look = Look(
            scanned=len(self._bar_ids),
            consistent=len(self._bar_ids) - len(found),
            candidates=Candidates(found.items()),
            at_rest=[bar_id for bar_id in self._bar_ids if bar_id not in found],
        )
        return self._directed(look, list(found.values()))

    async def _ours(self, bar_ids: Sequence[UUID]) -> Collection[UUID]:
        return set(self._bar_ids).intersection(bar_ids)


class StoredBars(Scope):
    """The first candidates of a run that goes on.

    Arguments:
        run_id: the run.
    """

    is_bound = True

    def __init__(self, database: Database, run_id: UUID, *, mirrors: bool = False) -> None:
        super().__init__(database, mirrors=mirrors)
        self._run_id = run_id

    async def look(self, *, accept_stale_authority: bool) -> Look:
        """Never asked: what is to be corrected is written down already."""
        raise AssertionError("a run that goes on looks at what is written down")

    async def _ours(self, bar_ids: Sequence[UUID]) -> Collection[UUID]:
        async def ask() -> set[UUID]:
            async with self._db.reading() as connection:
                return await candidates_of.of_these(connection, self._run_id, bar_ids)

        return await patiently(self._db, ask)


class ChangedBars(Scope):
    """What another run has changed, to be taken back.

    Arguments:
        of_run: the run that is undone.
    """

    is_verified = False

    def __init__(self, database: Database, of_run: UUID) -> None:
        super().__init__(database)
        self._undone = self.of_run = of_run

    async def look(self, *, accept_stale_authority: bool) -> Look:
        """Return the run's bars with what it left, and what was there before it."""

        async def ask() -> Candidates:
            candidates = Candidates()
            async with self._db.reading() as connection:
                for bar_id, left, before in await candidates_of.undoable(connection, self._undone):
                    candidates.add(bar_id, left, before)
            return candidates

        candidates = await patiently(self._db, ask)
        return Look(scanned=len(candidates), consistent=0, candidates=candidates)


async def quarantined_bars(database: Database, run_id: UUID | None = None) -> list[UUID]:
    """Return the bars that stand in the quarantine; only those that `run_id` met last, where it is given."""

    async def ask() -> list[UUID]:
        found: list[Any] = []
        async with database.reading() as connection:
            while page := await quarantine.page(
                connection, run_id=run_id, after=found[-1].id if found else 0, limit=_CHUNK
            ):
                found += page
        return [one.bar_id for one in found]

    return await patiently(database, ask)
