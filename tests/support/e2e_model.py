"""What one bar may be, as a value: the oracle of the machine over real processes, in plain Python.

Written from the specification, apart from the code; it knows no SQL and no process. An operation is a function from a
world to what its answer must be there, and to the world that it leaves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

from tests.support.observer import AMBIGUOUS, MISSING, becomes_active
from tests.support.venues import Flag, Row
from tests.support.whole_model import Verdict

Name = Literal["sandbox", "production"]
ENVIRONMENTS: Final[tuple[Name, Name]] = ("sandbox", "production")
APPLIED: Final = "applied"
REFUSED: Final = "refused"
FAILED: Final = "failed"
OPEN: Final = "open"
"""A lost request that may be applied still."""


class Seen(NamedTuple):
    """What is committed of a bar, as far as anybody can see it.

    `passkeys`: of the sandbox and of production, "" for those that were made with the row or where there is none.
    `alerts`: kinds and counts of those that are open; `episodes`: how many there have ever been. The other numbers are
    entries of the audit by kind, of the reconciler's own, of operations given up, and of the migration journal.
    """

    enabled: Flag = False
    sandbox: Row = "absent"
    production: Row = "absent"
    passkeys: tuple[str, str] = ("", "")
    alerts: tuple[tuple[str, int], ...] = ()
    episodes: int = 0
    settings: int = 0
    switches: int = 0
    repairs: int = 0
    swept: int = 0
    buried: int = 0
    journal: int = 0

    @property
    def flags(self) -> dict[str, bool | None]:
        """Return the rows that are there, with their flags."""
        rows = {"sandbox": self.sandbox, "production": self.production}
        return {name: flag for name, flag in rows.items() if flag != "absent"}

    @property
    def cell(self) -> tuple[Flag, Row, Row]:
        """Return which of the 48 states it is in."""
        return self.enabled, self.sandbox, self.production

    @property
    def authority(self) -> bool:
        """Return whether any row is active."""
        return any(flag is True for flag in self.flags.values())

    @property
    def direction(self) -> str | None:
        """Return how the two fields disagree, None where they agree."""
        if (self.enabled is True) == self.authority:
            return None
        return "hidden" if self.authority else "exposed"

    @property
    def offer(self) -> tuple[str, ...]:
        """Return what a customer may pay with: these bars are active, and their secrets good."""
        return ("mpesa", "cash") if self.enabled is True and self.authority else ("cash",)


class World(NamedTuple):
    """One bar as it may be: what can be seen, what was last switched on, and what became of requests that were lost."""

    seen: Seen = Seen()
    last: str | None = None
    lost: tuple[tuple[int, str], ...] = ()

    def but(self, **changes: Any) -> World:
        """Return the world with other visible facts."""
        return self._replace(seen=self.seen._replace(**changes))

    def fate(self, lost: int) -> str | None:
        """Return what became of a lost request, None where nobody waits for it any more."""
        return dict(self.lost).get(lost)

    def with_fate(self, lost: int, fate: str | None) -> World:
        """Return the world in which this has become of a lost request; None: nobody waits for it any more."""
        others = tuple(pair for pair in self.lost if pair[0] != lost)
        return self._replace(lost=others if fate is None else tuple(sorted((*others, (lost, fate)))))


Op = Callable[[World], tuple[object, World]]
"""What must be answered in a world, and the world after it."""


def _rows(flags: dict[str, bool | None]) -> dict[str, Row]:
    return {name: flags.get(name, "absent") for name in ENVIRONMENTS}


def _set_to(world: World, environment: str | None, flags: dict[str, bool | None]) -> World:
    """Make one environment the active one, or none: the pair, together, which answers the bar's alerts."""
    rows = _rows({name: name == environment for name in flags})
    found = world.but(enabled=environment is not None, alerts=(), switches=world.seen.switches + 1, **rows)
    return found._replace(last=environment or world.last)


def switched(on: bool, named: Name | None) -> Op:
    """Staff switch, and give no credentials."""

    def op(world: World) -> tuple[object, World]:
        flags = world.seen.flags
        environment = becomes_active(flags, named=named, last=world.last) if on else None
        if environment in (MISSING, AMBIGUOUS):
            return REFUSED, world
        after = _set_to(world, environment, flags)
        return APPLIED, after.but(settings=world.seen.settings + 1)

    return op


def saved(environment: Name, enabled: bool | None, passkey: str) -> Op:
    """Staff save all credentials of an environment, and a status where they say one; none keeps it, and mends drift."""

    def op(world: World) -> tuple[object, World]:
        before = world.seen
        flags = {**before.flags}
        flags.setdefault(environment, False)
        number = ENVIRONMENTS.index(environment)
        passkeys = (passkey, before.passkeys[1]) if number == 0 else (before.passkeys[0], passkey)
        after = world.but(settings=before.settings + 1, passkeys=passkeys, alerts=(), **_rows(flags))
        if enabled is not None:
            return APPLIED, _set_to(after, environment if enabled else None, flags)
        if before.direction is not None:
            active = [name for name in ("production", "sandbox") if before.flags.get(name) is True]
            return APPLIED, _set_to(after, active[0] if active else None, flags)
        return APPLIED, after

    return op


def troubled(op: Op, verdict: Verdict) -> Op:
    """Make of an operation what it becomes where the database fails under it (faults.md)."""

    def troubled_op(world: World) -> tuple[object, World]:
        if verdict.applied:
            return op(world)
        seen, open_ = world.seen, dict(world.seen.alerts)
        kind = verdict.alert or ""
        return FAILED, world.but(
            alerts=tuple(sorted({**open_, kind: open_.get(kind, 0) + 1}.items())),
            episodes=seen.episodes + (kind not in open_),
            buried=seen.buried + verdict.buried,
        )

    return troubled_op


def untouched(world: World) -> tuple[object, World]:
    """The database was lost before a request had written anything: it failed, says so, and leaves nothing."""
    return FAILED, world


def corrected(world: World) -> World:
    """Return the world in which the flag follows the credentials, which answers the bar's alerts."""
    return world.but(enabled=world.seen.authority, alerts=())


def repaired(world: World) -> tuple[object, World]:
    """An operator repairs one bar."""
    drifted = world.seen.direction is not None
    after = corrected(world) if drifted else world.but(alerts=())
    return drifted, after.but(repairs=world.seen.repairs + 1)


def swept(world: World) -> World | None:
    """Return the world after the reconciler, None where there is nothing for it to do."""
    return None if world.seen.direction is None else corrected(world).but(swept=world.seen.swept + 1)


def migrated(world: World) -> tuple[object, World]:
    """A migration passes over the bar."""
    if world.seen.direction is None:
        return None, world
    return None, corrected(world).but(journal=world.seen.journal + 1)


def taken_back(left: Flag, before: Flag) -> Op:
    """A run is undone: the flag is what it was before it, where it is still what the run has left."""

    def op(world: World) -> tuple[object, World]:
        if world.seen.enabled is not left or left is before:
            return None, world
        return None, world.but(enabled=before, journal=world.seen.journal + 1)

    return op


def checked(world: World) -> tuple[object, World]:
    """Somebody reads the bar's two fields."""
    return (world.seen.direction, world.seen.authority, world.seen.enabled is True), world


def drifted(world: World) -> tuple[object, World]:
    """Somebody reads whether, and how, the two fields disagree."""
    return world.seen.direction, world


def offered(world: World) -> tuple[object, World]:
    """A customer looks."""
    return world.seen.offer, world


def written(*, guarded: bool, **fields: Flag | Row) -> Op:
    """Another program writes fields in one transaction; behind guards the flag follows the credentials at its end."""

    def op(world: World) -> tuple[object, World]:
        passkeys = list(world.seen.passkeys)
        for number, name in enumerate(ENVIRONMENTS):
            if fields.get(name, world.seen[1 + number]) == "absent":
                passkeys[number] = ""
        after = world.but(passkeys=(passkeys[0], passkeys[1]), **fields)
        if guarded and after.seen.direction is not None:
            after = after.but(enabled=after.seen.authority)
        return None, after

    return op


def unheeded(**fields: Flag | Row) -> Op:
    """The same behind guards that came when the bar was drifted already: a write that changes nothing may not wake
    them (G5 holds from the first clean check on)."""
    unguarded = written(guarded=False, **fields)

    def op(world: World) -> tuple[object, World]:
        return (None if world.seen.direction is not None else "the bar was in sync"), unguarded(world)[1]

    return op
