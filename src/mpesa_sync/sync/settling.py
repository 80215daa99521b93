"""An operation from the first attempt to its known outcome: logged, counted, and an alert where one is called for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from mpesa_sync.db import shape, transaction, unit
from mpesa_sync.db.errormap import cause_of
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Committed, Done
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.sync import spool
from mpesa_sync.sync.alerts import outcome_is_known, raise_alert
from mpesa_sync.sync.operation_log import report

T = TypeVar("T")
_STORING_S: Final = 0.2
"""The least that a caller waits for an alert to be stored, however late it is."""


async def settled(
    database: Database,
    operation: Operation,
    work: Callable[[Any], Awaitable[Done[T]]],
    answer: type[T],
    connection: Any = None,
    *,
    within_s: float | None = None,
) -> Committed[T]:
    """Run the unit, log and count what became of it, and raise the alert that a failure calls for (R5.1, R5.2).

    All of it is done for a caller who is cancelled, too.

    Arguments:
        work: the statements; it may run several times.
        answer: the type of the result, to read a stored one back.
        connection: of a caller's transaction, which the work then joins: not logged, retried or alerted here.
        within_s: seconds that the caller has, where that is less than the retries may take. An alert that takes longer
            to store is stored while the caller goes on.
    Raises:
        MpesaSyncError: as `db.unit.run`, or `db.transaction.join` where a connection is given.
    """
    if connection is not None:
        return await transaction.join(connection, operation, work, answer)
    return await database.owned(_settled(database, operation, work, answer, within_s))


async def _settled(
    database: Database,
    operation: Operation,
    work: Callable[[Any], Awaitable[Done[T]]],
    answer: type[T],
    within_s: float | None,
) -> Committed[T]:
    clock = database.clock
    started = clock.monotonic()
    try:
        committed = await unit.run(database, operation, work, answer, within_s=within_s)
    except MpesaSyncError as caught:
        error = await shape.named(database, caught)
        took_s = clock.monotonic() - started
        report(operation, error.code, took_s, error=error)
        wait_s = None if within_s is None else max(_STORING_S, within_s - took_s)
        await raise_alert(database, error, bar_id=operation.bar_id, operation_id=operation.id, wait_s=wait_s)
        raise error from cause_of(error, caught)
    if database.alerts_may_wait or committed.replayed:
        database.background(_tidied(database, operation, committed))
    outcome = "replayed" if committed.replayed else "applied"
    report(operation, outcome, clock.monotonic() - started, attempts=committed.attempts)
    return committed


async def _tidied(database: Database, operation: Operation, committed: Committed[T]) -> None:
    """Take in what was spooled, for the database can again, and end the alert that a replay has answered."""
    if database.alerts_may_wait:
        await spool.take_in_when_it_can(database)
    if committed.replayed:
        await outcome_is_known(database, bar_id=operation.bar_id, operation_id=operation.id)
