"""The machine over real processes: one rule after the other from a deck that a seed has shuffled, each held against the
possible worlds of every bar.

A rule is one thing that somebody does. Each is dealt so often that it is done 200 times, or the run is red. What a
rule finds nothing to do for is skipped, and counted.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final
from uuid import UUID

from tests.support.e2e_model import Seen
from tests.support.e2e_place import TROUBLED, Place
from tests.support.e2e_worlds import Bar, Red
from tests.support.states import STATES
from tests.support.whole_model import FAULTS, SITES

Rule = Callable[[], Awaitable[bool]]
"""Does it, and returns whether there was anything to do."""
EACH: Final = 200
DEALT: Final = 108
"""How often each rule is dealt to one of two machines: some find nothing to do."""
MOST_SKIPPED: Final = 0.2
_REST_EVERY: Final = 1_000


class Machine:
    """Everybody's bars, what was done to them, and what must hold. `fired` counts rules, `faults` faults.
    `met`: what exactly was met, such as the errors of a database that fails.

    Attributes:
        guarded: whether guards stand.
        clean: bars that were seen to agree since guards stand: these may not drift any more.
    """

    def __init__(self, place: Place, seed: str) -> None:
        self.place = place
        self.draw = random.Random(seed)
        self.bars = [Bar(bar_id) for bar_id in place.bars]
        self.fired: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.cells: set[tuple[object, object, object]] = set()
        self.guarded = False
        self.clean: set[Bar] = set()
        self.others_wrote = False
        self.met: Counter[str] = Counter()
        self.took_s: dict[str, float] = defaultdict(float)
        self._before: dict[Bar, Seen] = {}
        self._stored: dict[tuple[UUID, str], str] = {}

    @property
    def open_bars(self) -> list[Bar]:
        """Return the bars that anybody writes."""
        return self.bars[TROUBLED:]

    @property
    def own_bars(self) -> list[Bar]:
        """Return the bars that only their staff write."""
        return self.bars[:TROUBLED]

    def any_bar(self) -> Bar:
        """Draw a bar."""
        return self.draw.choice(self.bars)

    def sweeps(self, is_on: bool) -> None:
        """Say whether a reconciler is at work."""
        for bar in self.bars:
            bar.worlds = bar.possible()
            bar.is_swept = is_on

    async def run(
        self,
        rules: Mapping[str, Rule],
        faults: Mapping[str, tuple[int, Rule]],
        rest: Callable[[], Awaitable[None]],
        *,
        share: float = 1.0,
    ) -> None:
        """Deal the whole deck, and hold what is committed against the worlds after each card.

        Arguments:
            faults: with how often each is dealt.
            rest: waits until all is quiet, now and then and at the end.
            share: how much of the deck is dealt.
        """
        deck = [name for name in rules for _ in range(round(DEALT * share))]
        deck += [name for name, (times, _) in faults.items() for _ in range(round(times * share))]
        self.draw.shuffle(deck)
        done: list[str] = []
        try:
            for number, name in enumerate(deck, start=1):
                done.append(name)
                doing = rules[name] if name in rules else faults[name][1]
                counted = self.fired if name in rules else self.faults
                began = time.monotonic()
                if await doing():
                    counted[name] += 1
                else:
                    self.skipped[name] += 1
                self.took_s[name] += time.monotonic() - began
                began = time.monotonic()
                await self.look()
                self.took_s["look"] += time.monotonic() - began
                if number % _REST_EVERY == 0:
                    await rest()
        except Red as red:
            red.add_note(f"after {len(done)} cards, the last of them: {done[-12:]}")
            raise
        await rest()

    async def look(self) -> None:
        """Hold what is committed of every bar against its worlds, and against what always holds.

        Raises:
            Red: it does not.
        """
        found, writers = await self.place.eyes.all(), self.others_wrote
        self.others_wrote = False
        for bar in self.bars:
            seen, before = found[bar.id], self._before.get(bar)
            bar.looks(seen)
            self.cells.add(seen.cell)
            self._keeps_bytes(bar, may_change=writers or before is None or before.settings != seen.settings)
            self._before[bar] = seen
            if not self.guarded:
                self.clean.discard(bar)
            elif seen.direction is None:
                self.clean.add(bar)
            elif bar in self.clean:
                raise Red(f"{bar.id}: drifted behind the guards: {seen}")

    def _keeps_bytes(self, bar: Bar, *, may_change: bool) -> None:
        """See that stored credentials are byte for byte as they were, unless a save or another program wrote them."""
        for name in ("sandbox", "production"):
            key = (bar.id, name)
            now, before = self.place.eyes.stored.get(key), self._stored.get(key)
            if now != before and not may_change:
                raise Red(f"{bar.id}: credentials for {name} have other bytes, and nobody saved any")
            if now is None:
                self._stored.pop(key, None)
            else:
                self._stored[key] = now


def covered(
    machines: Sequence[Machine], rules: Mapping[str, Rule], faults: Mapping[str, tuple[int, Rule]]
) -> list[str]:
    """Return what was not met often enough, of all machines together, for the run to mean anything."""
    fired, faulty, skipped, met = (
        sum((getattr(machine, name) for machine in machines), Counter[str]())
        for name in ("fired", "faults", "skipped", "met")
    )
    few = [f"{name}: {fired[name]}" for name in rules if fired[name] < EACH]
    few += [
        f"{name}: {faulty[name]}" for name, (dealt, _) in faults.items() if 2 * faulty[name] < dealt * len(machines)
    ]
    few += [f"database: {what}" for what in FAULTS if not met[f"database: {what}"]]
    few += [f"database: at {site}" for site in SITES if not met[f"database: at {site}"]]
    cells = {(state.mpesa_enabled, state.sandbox, state.production) for state in STATES}
    few += [f"never in {cell}" for cell in cells - {cell for machine in machines for cell in machine.cells}]
    total = fired.total() + faulty.total() + skipped.total()
    if skipped.total() >= MOST_SKIPPED * total:
        few.append(f"skipped {skipped.total()} of {total}: {dict(skipped)}")
    return few
