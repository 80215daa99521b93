"""The possible worlds of one bar: what was lost, or is done by background work, is kept open until somebody sees it."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from tests.support.e2e_model import APPLIED, OPEN, REFUSED, Op, Seen, World, swept


class Red(AssertionError):
    """What is committed, or was answered, is so in no possible world."""


class Bar:
    """One bar: every world that it may be in. `is_swept`: a reconciler is at work that repairs what is drifted."""

    def __init__(self, bar_id: UUID, world: World | None = None) -> None:
        self.id = bar_id
        self.is_swept = False
        self.worlds = {world or World()}
        self._lost: dict[int, Op] = {}

    @property
    def lost(self) -> list[int]:
        """Return the requests that may be applied still, or have been and nobody was told."""
        return sorted(self._lost)

    @property
    def seen(self) -> Seen:
        """Return what can be seen, once it was looked at."""
        (found,) = {world.seen for world in self.worlds}
        return found

    def possible(self) -> set[World]:
        """Return the worlds that it may be in by now."""
        found, new = set[World](), set(self.worlds)
        while new:
            found |= new
            new = {later for world in new for later in self._later(world)} - found
        return found

    def _later(self, world: World) -> Iterable[World]:
        if self.is_swept and (after := swept(world)) is not None:
            yield after
        for number, fate in world.lost:
            if fate == OPEN:
                answer, after = self._lost[number](world)
                yield after.with_fate(number, APPLIED if answer == APPLIED else REFUSED)

    def does(self, *ops: Op, answer: object = None) -> None:
        """Somebody has done this, or one of these, and was answered so.

        Raises:
            Red: it would have been answered so in no world.
        """
        before = self.possible()
        after = {after for world in before for op in ops for said, after in [op(world)] if said == answer}
        if not after:
            raise Red(f"{self.id}: {answer!r} was answered, not {[op(world)[0] for world in before for op in ops]}")
        self.worlds = after

    def loses(self, number: int, op: Op) -> None:
        """Somebody has asked for this, and heard nothing."""
        self._lost[number] = op
        self.worlds = {world.with_fate(number, OPEN) for world in self.possible()}

    def hears(self, number: int, answer: object) -> None:
        """What became of a lost request was told after all: as it was done, or is done now.

        Raises:
            Red: it became something else in every world.
        """
        after = {world for world in self.possible() if world.fate(number) == answer}
        if not after:
            raise Red(f"{self.id}: a lost request was told {answer!r}: {[w.lost for w in self.possible()]}")
        self.worlds = {world.with_fate(number, None) for world in after}
        del self._lost[number]

    def is_over(self, number: int) -> None:
        """Whoever worked on a lost request is dead: what was not done by then is never done."""
        self.worlds = {world.with_fate(number, None) for world in self.worlds}
        del self._lost[number]

    def looks(self, seen: Seen) -> None:
        """Hold what is committed against the worlds, and forget those that were not.

        Raises:
            Red: it is so in none.
        """
        possible = self.possible()
        self.worlds = {world for world in possible if world.seen == seen}
        if not self.worlds:
            raise Red(f"{self.id}: committed {seen}, possible {[world.seen for world in possible]}")
