"""Whether the process that holds a run of the migration is at it still, and making way where it is not (R2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar
from uuid import UUID

from mpesa_sync.db import holder, runs
from mpesa_sync.db.runs import StoredRun
from mpesa_sync.errors import ConstraintRefused
from mpesa_sync.refusals import RunUnderWay

T = TypeVar("T")
_ONE_ACTIVE: Final = "one_active_run"
"""The index that refuses the second of two."""
let_go: Final[set[UUID | None]] = set()
"""Tokens of runs that ended in this process without its being written down: the database was away."""


async def make_way(connection: Any, token: UUID) -> None:
    """Mark a run that its process has left behind, so that another can begin.

    Raises:
        RunUnderWay: its process lives.
    """
    active = await runs.active(connection)
    if active is None or active.token == token:
        return
    if not is_left(active):
        raise RunUnderWay("Another run is under way.", run_id=active.id)
    await runs.left_behind(connection, active.id)


def is_left(run: StoredRun) -> bool:
    """Return whether the process that held a run has ended, or gives no sign of life any more.

    A sign of life from the future is none: the server's clock was set back, and who lives has given another since.
    """
    is_alive = -runs.LEASE_S <= run.silent_s <= runs.LEASE_S
    return not is_alive or run.token in let_go or holder.has_ended(run.holder)


async def alone(begin: Callable[[], Awaitable[T]]) -> T:
    """Return what begins or takes over a run, tried once more where another did so in the same moment.

    Raises:
        RunUnderWay: that one is under way.
    """
    try:
        return await begin()
    except ConstraintRefused as refused:
        if refused.constraint != _ONE_ACTIVE:
            raise
    return await begin()  # now its row is seen
