"""What the reconciler does about drift in this database, and how often it looks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpesa_sync.db import installation
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import Database


class Policy(StrEnum):
    """What the reconciler does about drift. `OFF`: it does not look."""

    OBSERVE = "observe"
    REPAIR = "repair"
    OFF = "off"


async def policy(database: Database) -> Policy:
    """Return what the reconciler does in this database (`MPESA_SYNC_RECONCILE`).

    Unset: repair in a database that mpesa-sync made, observe in one that it was attached to, or does not know.

    Raises:
        DatabaseFault: the database cannot be asked.
    """
    if database.reconcile is not None:
        return Policy(database.reconcile)
    async with database.reading() as connection:
        return await policy_on(connection, database)


async def policy_on(connection: Any, database: Database) -> Policy:
    """Return what `policy` does, asked over a connection that is there."""
    if database.reconcile is not None:
        return Policy(database.reconcile)
    return Policy.REPAIR if await installation.mode(connection) is Mode.GREENFIELD else Policy.OBSERVE


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How the reconciler works; times in seconds.

    Arguments:
        cycle_s: how often all bars are looked at.
        slice_s: how long one slice takes at most.
        second_look_s: how long drift must last: what a writer has under way is none (races.md).
        lease_s: after what time the slice of a process that died is done by another.
        budget: how many repairs there may be in an hour, of all processes.
        page: how many bars a slice looks at; None: as many as go well.
    """

    cycle_s: float = 900.0
    slice_s: float = 2.0
    second_look_s: float = 0.5
    lease_s: float = 10.0
    budget: int = 100
    page: int | None = None

    @property
    def stale_after_s(self) -> float:
        """Return how old the last success may be: two cycles."""
        return 2 * self.cycle_s
