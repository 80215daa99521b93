"""The reconciler's repair of one bar: the same path as `repair`, and in its transaction the lease and the budget.

One bar a transaction: repairs are few, by the budget, and each is an operation of its own with its audit, its retries
and, where it fails, its alert; the others go on.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync.db import reconciler as rows
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Done
from mpesa_sync.errors import BarNotFound, DatabaseFault, SchemaError, StaleAuthority, SyncRefused
from mpesa_sync.sync.manager import repair_locked
from mpesa_sync.sync.results import RepairResult
from mpesa_sync.sync.settling import settled

ACTOR: Final = "reconciler"
_REASON: Final = "drift found by the reconciler"


class Fate(StrEnum):
    """What became of a bar that stayed drifted at the second look."""

    REPAIRED = "repaired"
    HEALED = "healed"
    """Somebody else was faster; nothing was written."""
    VANISHED = "vanished"
    FAILED = "failed"
    """The database refused it; an alert of the bar says so."""
    LEFT_ALONE = "left_alone"
    """Secrets stand in `bars` and no credentials row holds them, so `is_active` may not be the truth (R2)."""
    POSTPONED = "postponed"
    """The budget of the hour is spent."""
    REPORTED = "reported"
    """The policy is to observe."""


class LeaseLost(SyncRefused):
    """Another process has taken over the slice: nothing of it may be committed any more."""

    code = "lease_lost"


class _Healed(SyncRefused):
    """There is nothing to repair, so there shall be no operation either."""

    code = "healed"


class _BudgetSpent(SyncRefused):
    """There have been as many repairs in this hour as there may be."""

    code = "budget_spent"


async def repair(
    database: Database, bar_id: UUID, *, token: UUID | None, budget: int, within_s: float | None = None
) -> Fate:
    """Correct the flag of one bar, if it is drifted still once it is locked, and take that from the budget.

    Arguments:
        token: of the lease of a slice, which is asked for again in the transaction; None: of no slice.
        budget: repairs in an hour, of all processes.
        within_s: seconds that it may take; None: as long as retries may.
    Raises:
        LeaseLost: another process has the lease; nothing was written.
    """

    async def allowed(connection: Any) -> None:
        is_ours = await rows.holds(connection, token)
        if token is not None and not is_ours:
            raise LeaseLost("Another process has taken over this slice of the sweep.")
        if not await rows.spend(connection, token, budget):
            raise _BudgetSpent("The budget of the hour is spent.")

    async def work(connection: Any) -> Done[RepairResult]:
        done = await repair_locked(connection, operation, keys=database.keys, allowed=allowed)
        if not done.result.repaired:
            raise _Healed("The two fields agree.")
        return done

    operation = Operation(id=uuid4(), kind="repair", bar_id=bar_id, actor=ACTOR, reason=_REASON)
    try:
        await settled(database, operation, work, RepairResult, within_s=within_s)
    except _Healed:
        return Fate.HEALED
    except _BudgetSpent:
        return Fate.POSTPONED
    except StaleAuthority:
        return Fate.LEFT_ALONE
    except BarNotFound:
        return Fate.VANISHED
    except (DatabaseFault, SchemaError):
        return Fate.FAILED
    return Fate.REPAIRED
