"""What the reconciler tells people: drift that it leaves, a budget that is spent, a sweep that does not end. About no
bar: each is one alert for the fleet, resolved by the cycle that finds it over.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import uuid4

from mpesa_sync.db import alerts, session, transaction
from mpesa_sync.db import reconciler as rows
from mpesa_sync.db.alerts import Occurrence
from mpesa_sync.db.pool import Database
from mpesa_sync.db.reconciler import Cycle
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alerts import raise_occurrence

_AGAIN_S: Final = 600.0
"""How often it is counted that the budget is spent, however many slices find it so."""
_LEFT: Final = (
    "{bars} venues were left with settings that disagree. Run 'mpesa-sync check', which names them. "
    "'mpesa-sync migrate' repairs them, and MPESA_SYNC_RECONCILE=repair keeps them right."
)
_SPENT: Final = (
    "{budget} venues were repaired within an hour, and what drifts now is left. Something changes one setting without "
    "the other, over and over: find it with 'mpesa-sync explain BAR'. 'mpesa-sync migrate' repairs at once; the "
    "reconciler goes on in the next hour. MPESA_SYNC_RECONCILE_BUDGET says how many it may repair."
)
_STALE: Final = (
    "No sweep over all venues has come to its end for {minutes} minutes. See that 'serve' or 'worker' runs, and what "
    "their logs say of 'reconcile'; 'mpesa-sync db status' says when the next one is due."
)


async def answered(connection: Any, cycle: Cycle) -> None:
    """Resolve, in the transaction that ends a cycle, the alerts that it has answered."""
    kinds: list[str] = [AlertKind.RECONCILER_STALE]
    if not cycle.postponed:
        kinds.append(AlertKind.RECONCILER_BUDGET)
    if not _left(cycle):
        kinds.append(AlertKind.DRIFT_FOUND)
    await alerts.resolve(connection, None, kinds, by=f"reconciler:cycle {cycle.id}")


async def drift_left(database: Database, cycle: Cycle) -> None:
    """Tell people of drift that a cycle found and left, by policy or because its truth is in doubt."""
    if left := _left(cycle):
        await _told(database, AlertKind.DRIFT_FOUND, "left_drifted", _LEFT.format(bars=left))


async def budget_spent(database: Database, budget: int) -> None:
    """Tell people that the budget is spent: once in ten minutes, of all processes."""
    if await transaction.once(
        database, session.WRITE, lambda connection: rows.may_tell_of_budget(connection, _AGAIN_S)
    ):
        await _told(database, AlertKind.RECONCILER_BUDGET, "budget_spent", _SPENT.format(budget=budget))


async def tell_if_stale(database: Database, stale_after_s: float) -> None:
    """Tell people, once, where no sweep has come to its end for so long."""
    async with database.reading() as connection:
        state = await rows.state(connection)
        if state is None or state.success_age_s <= stale_after_s:
            return
        if await rows.is_open(connection, AlertKind.RECONCILER_STALE):
            return
    what = _STALE.format(minutes=round(state.success_age_s / 60))
    await _told(database, AlertKind.RECONCILER_STALE, "no_success", what)


def _left(cycle: Cycle) -> int:
    return cycle.reported + cycle.left_alone


async def _told(database: Database, kind: AlertKind, cause: str, what_to_do: str) -> None:
    now = database.clock.now()
    await raise_occurrence(
        database,
        Occurrence(
            id=uuid4(),
            bar_id=None,
            kind=kind,
            cause=cause,
            sqlstate=None,
            what_to_do=what_to_do,
            operation_id=None,
            first_seen=now,
            last_seen=now,
        ),
    )
