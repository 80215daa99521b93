"""An operation from the first attempt to its known outcome: logged, counted, and an alert where one is called for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from mpesa_sync.db import shape, transaction, unit
from mpesa_sync.db.errormap import cause_of
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Committed, Done
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.sync.alerts import raise_alert
from mpesa_sync.sync.operation_log import report

T = TypeVar("T")


async def settled(
    database: Database,
    operation: Operation,
    work: Callable[[Any], Awaitable[Done[T]]],
    answer: type[T],
    connection: Any = None,
) -> Committed[T]:
    """Run the unit, log and count what became of it, and raise the alert that a failure calls for (R5.1, R5.2).

    Arguments:
        work: the statements; it may run several times.
        answer: the type of the result, to read a stored one back.
        connection: of a caller's transaction, which the work then joins: not logged, retried or alerted here.
    Raises:
        MpesaSyncError: as `db.unit.run`, or `db.transaction.join` where a connection is given.
    """
    if connection is not None:
        return await transaction.join(connection, operation, work, answer)
    clock = database.clock
    started = clock.monotonic()
    try:
        committed = await unit.run(database, operation, work, answer)
    except MpesaSyncError as caught:
        error = await shape.named(database, caught)
        report(operation, error.code, clock.monotonic() - started, error=error)
        await raise_alert(database, error, bar_id=operation.bar_id, operation_id=operation.id)
        raise error from cause_of(error, caught)
    outcome = "replayed" if committed.replayed else "applied"
    report(operation, outcome, clock.monotonic() - started, attempts=committed.attempts)
    return committed
