"""The interleaving machine: single statements of several open transactions, chosen by a seed, and a model beside it.

Every seat is a real connection with one actor at a time. A turn runs one statement of one seat; a seat that waits for
a lock is left alone until the server says otherwise. COMMITs happen one at a time, and right after each the whole
committed state is compared with the model, which knows no SQL. Seeds replay: `Machine(url, seed)` draws everything.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.support import databases
from tests.support.actors import Actor, Change, Given, insert_credentials
from tests.support.observer import Seen, see_all
from tests.support.stepping import DEADLINE_S, State, Stepped

_PACES: Final = (1, 4, 12)
_PLANT: Final = "insert into public.bars (id, name, mpesa_enabled) values ($1, $2, $3)"
_LEGAL: Final = frozenset({"40P01", "40001", "55P03", "57014", "25P03", "23505"})
"""What PostgreSQL may answer to a transaction that met another one; counted, never hidden."""


@dataclass
class Broken:
    """An invariant that did not hold, with all that is needed to see it again."""

    seed: int
    statement: int
    actor: str
    bar: UUID
    message: str


@dataclass
class Tally:
    """What a machine did: the coverage that its tests demand."""

    statements: int = 0
    blocked: int = 0
    committed: Counter[str] = field(default_factory=Counter)
    rolled_back: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    drift_seen: int = 0
    broken: list[Broken] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another machine did."""
        self.statements += other.statements
        self.blocked += other.blocked
        self.drift_seen += other.drift_seen
        self.committed += other.committed
        self.rolled_back += other.rolled_back
        self.refused += other.refused
        self.broken += other.broken


class Seat:
    """A stepped session and the actor that sits on it. `pace`: a slow one stays in the middle while others finish."""

    def __init__(self, session: Stepped, pace: int) -> None:
        self.session = session
        self.pace = pace
        self.actor: Actor | None = None
        self.given: Given | None = None


class Machine:
    """Runs actors of these kinds against each other on a few bars.

    Arguments:
        kinds: the kinds of actors, one entry for each chance to be drawn.
        always_consistent: demand after every commit, whoever made it, that no bar is drifted.
        modelled: hold everything committed against the model; not for actors that do not say what they change, nor
            with guards, which write, too, and make a COMMIT wait.
    """

    def __init__(
        self,
        url: str,
        seed: int,
        kinds: Sequence[Actor],
        *,
        seats: int = 5,
        bars: int = 3,
        always_consistent: bool = False,
        modelled: bool = True,
    ) -> None:
        self.tally = Tally()
        self._url, self._seed, self._kinds = url, seed, kinds
        self._random = random.Random(seed)
        self._bars = [UUID(int=self._random.getrandbits(128), version=4) for _ in range(bars)]
        self._paces = [1, *(self._random.choice(_PACES) for _ in range(seats - 1))]
        self._always_consistent = always_consistent
        self._modelled = modelled
        self._model: dict[UUID, Seen] = {}
        self._seats: list[Seat] = []

    async def run(self, statements: int) -> Tally:
        """Run this many statements, or until an invariant breaks; then let what is open come to its end."""
        async with databases.plain(self._url) as observer, databases.plain(self._url) as watcher:
            await self._plant(observer)
            self._seats = [Seat(await self._connected(watcher), pace) for pace in self._paces]
            try:
                while self.tally.statements < statements and not self.tally.broken:
                    await self._turn(observer, watcher, may_start=True)
                while not self.tally.broken and any(seat.session.state is not State.IDLE for seat in self._seats):
                    await self._turn(observer, watcher, may_start=False)
            finally:
                self.tally.blocked += sum(seat.session.waited for seat in self._seats)
                for seat in self._seats:
                    await seat.session.close()
        return self.tally

    async def _plant(self, observer: Any) -> None:
        await observer.execute("delete from public.bars")
        for bar in self._bars:
            on = self._random.random() < 0.5
            await observer.execute(_PLANT, bar, bar.hex, on)
            await insert_credentials(observer, self._random, bar, "sandbox", on)
            if self._random.random() < 0.5:
                await insert_credentials(observer, self._random, bar, "production", False)
        self._model = await see_all(observer)
        assert not any(seen.drifted for seen in self._model.values())

    async def _connected(self, watcher: Any) -> Stepped:
        raw = await asyncpg.connect(self._url)
        await raw.execute("set deadlock_timeout = '10ms'")
        return Stepped(raw, watcher)

    async def _turn(self, observer: Any, watcher: Any, *, may_start: bool) -> None:
        startable = (State.READY, State.IDLE) if may_start else (State.READY,)
        ready = [seat for seat in self._seats if seat.session.state in startable]
        if not ready:
            await self._any_arrival()
            await self._ended(watcher)
            return
        seat = self._random.choices(ready, [seat.pace for seat in ready])[0]
        if seat.session.state is State.IDLE:
            seat.actor = self._random.choice(self._kinds)
            seat.given = Given(random.Random(self._random.getrandbits(64)), self._bars)
            await seat.session.begin(seat.actor.act(seat.session, seat.given))
        commits = seat.session.next_statement == "commit"
        self.tally.statements += 1
        state = await seat.session.step()
        if commits and state is State.IDLE and seat.session.failure() is None:
            await self._committed(seat, observer)
        if state is State.IDLE:
            await self._ended(watcher)

    async def _any_arrival(self) -> None:
        """All wait for each other: the server's deadlock detector, or a lock timeout, ends one of them."""
        waiting = [asyncio.create_task(seat.session.arrival()) for seat in self._seats]
        try:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _ended(self, watcher: Any) -> None:
        """A transaction is over: let every seat that it released arrive at its next statement."""
        over = True
        while over:
            over = False
            for seat in self._seats:
                await seat.session.look()
                if seat.session.state is State.IDLE and seat.actor is not None and seat.given is not None:
                    over = True
                    await self._cleared(seat, seat.actor, seat.given, watcher)

    async def _cleared(self, seat: Seat, actor: Actor, given: Given, watcher: Any) -> None:
        failure = seat.session.failure()
        if failure is not None:
            sqlstate = getattr(failure, "sqlstate", None)
            lost = seat.session.is_closed()
            if not lost and sqlstate not in _LEGAL:
                self._broke(actor, given.bars[0], f"failed with {failure!r}")
            self.tally.refused[str(sqlstate)] += 1
            if lost:
                seat.session = await self._connected(watcher)
            else:
                await seat.session.raw.execute("rollback")
        elif given.aborted:
            self.tally.rolled_back[actor.name] += 1
        else:
            self.tally.committed[actor.name] += 1
        seat.actor = seat.given = None

    async def _committed(self, seat: Seat, observer: Any) -> None:
        assert seat.given is not None
        assert seat.actor is not None
        for change in seat.given.changes if self._modelled else ():
            self._model[change.bar] = _changed(self._model[change.bar], change)
        seen = await see_all(observer)
        self.tally.drift_seen += any(bar.drifted for bar in seen.values())
        for bar, now in seen.items():
            wrong = self._wrong(seat.given, bar, now)
            if wrong:
                self._broke(seat.actor, bar, wrong)

    def _broke(self, actor: Actor, bar: UUID, message: str) -> None:
        self.tally.broken.append(Broken(self._seed, self.tally.statements, actor.name, bar, message))

    def _wrong(self, given: Given, bar: UUID, now: Seen) -> str | None:
        if bar in given.claimed and now.drifted:
            return f"claimed to be consistent, and is {now}"
        if bar in given.asked and (now.mpesa_enabled, now.active) != given.asked[bar]:
            return f"asked to be {given.asked[bar]}, and is {now}"
        if self._always_consistent and now.drifted:
            return f"drifted without a writer of a single field: {now}"
        if self._modelled and now != self._model[bar]:
            return f"is {now}, and everything committed until now makes it {self._model[bar]}"
        return None


def _changed(before: Seen, change: Change) -> Seen:
    """Return a bar after a committed change, in plain Python."""
    flags = {**before.flags, **change.flags}
    for environment in change.removed:
        del flags[environment]
    if change.switched is not None:
        flags = {environment: environment == change.switched for environment in flags}
    after = Seen(before.bar_id, before.mpesa_enabled, flags)
    if change.corrected:
        return Seen(before.bar_id, after.authority, flags)
    return after if change.enabled is ... else Seen(before.bar_id, change.enabled, flags)
