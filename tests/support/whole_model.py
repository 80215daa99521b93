"""What one bar must look like after each whole operation: the oracle of the transition machine, in plain Python.

Written from the specification, apart from the code; it knows no SQL.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from tests.support.observer import AMBIGUOUS, MISSING, becomes_active

ENVIRONMENTS: Final = ("sandbox", "production")
ATTEMPTS: Final = 4
TRANSIENT: Final = ("40001", "40P01", "55P03", "57014")
LOST: Final = ("terminate", "08006")
EXHAUSTED: Final = ("53100",)
REFUSED: Final = ("23514", "42501", "P0001")
FAULTS: Final = (*TRANSIENT, *LOST, *EXHAUSTED, *REFUSED)
SITES: Final = ("claim", "credentials", "bars", "finish", "commit")
"""The statements of a unit at which a fault can be met, and its commit."""


@dataclass
class Model:
    """One bar as everything that was told until now makes it.

    `flags`: its credentials rows; `last`: the environment that was last switched on; `open`: its open alerts by kind,
    with their counts; `applied` and `buried`: how many operations are recorded as such; `passkeys`: the newest
    passkey of each row, "" for the one it was made with.
    """

    bar: UUID
    exists: bool = True
    enabled: bool | None = False
    flags: dict[str, bool | None] = field(default_factory=dict)
    passkeys: dict[str, str] = field(default_factory=dict)
    last: str | None = None
    open: Counter[str] = field(default_factory=Counter)
    applied: int = 0
    buried: int = 0

    @property
    def authority(self) -> bool:
        """Whether any row is active."""
        return any(flag is True for flag in self.flags.values())

    @property
    def drifted(self) -> bool:
        """Whether the two fields disagree."""
        return (self.enabled is True) != self.authority

    def switched(self, on: bool, named: str | None) -> str | None:
        """Return the environment that a switch makes active, None for off, or why it is refused."""
        return becomes_active(self.flags, named=named, last=self.last) if on else None

    def set_to(self, environment: str | None) -> None:
        """Make an environment the one that is active, or none."""
        self.flags = {name: name == environment for name in self.flags}
        self.enabled = environment is not None
        self.last = environment or self.last
        self.resolve()

    def saved(self, environment: str, enabled: bool | None, passkey: str | None) -> None:
        """Store credentials and the status that was asked for; none asked for keeps it, and mends drift."""
        was = dict(self.flags)
        if passkey is not None or environment not in self.flags:
            self.flags.setdefault(environment, False)
            self.passkeys[environment] = passkey or ""
        if enabled is not None:
            self.set_to(environment if enabled else None)
        elif (self.enabled is True) != any(flag is True for flag in was.values()):
            active = [name for name in ("production", "sandbox") if was.get(name) is True]
            self.set_to(active[0] if active else None)
        self.resolve()

    def repaired(self) -> bool:
        """Make the flag follow the credentials; return whether it changed."""
        drifted = self.drifted
        if drifted:
            self.enabled = self.authority
        self.resolve()
        return drifted

    def resolve(self) -> None:
        """A verified success answers every alert of these kinds."""
        self.open.clear()


@dataclass(frozen=True)
class Trouble:
    """A fault that is armed for one operation: where, what, how many times in a row."""

    site: str
    fault: str
    times: int


@dataclass(frozen=True)
class Verdict:
    """What must become of an operation that met a fault `hits` times. `alert` None: none is raised."""

    applied: bool
    attempts: int
    alert: str | None = None
    buried: bool = False


def verdict(trouble: Trouble | None, hits: int) -> Verdict:
    """Say from faults.md what becomes of an operation that would be applied otherwise."""
    if trouble is None or hits == 0:
        return Verdict(applied=True, attempts=1)
    if trouble.fault in REFUSED:
        return Verdict(applied=False, attempts=1, alert="database_refused")
    if trouble.fault in EXHAUSTED:
        return Verdict(applied=False, attempts=1, alert="sync_failed")
    if trouble.times < ATTEMPTS:
        return Verdict(applied=True, attempts=trouble.times + 1)
    buried = trouble.site == "commit" and trouble.fault in LOST
    return Verdict(applied=False, attempts=ATTEMPTS, alert="sync_failed", buried=buried)


__all__ = ["AMBIGUOUS", "MISSING", "Model", "Trouble", "Verdict", "verdict"]
