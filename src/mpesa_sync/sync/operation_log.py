"""One log event and the counters for each operation: who, which bar, what became of it, how long it took."""

from __future__ import annotations

from typing import Final

from mpesa_sync.db.operations import Operation
from mpesa_sync.errors import MpesaSyncError, SyncRefused
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event

_log: Final = logs.get("sync")


def report(
    operation: Operation,
    outcome: str,
    duration_s: float,
    *,
    attempts: int | None = None,
    error: MpesaSyncError | None = None,
) -> None:
    """Log and count one operation, whatever became of it.

    Arguments:
        outcome: `applied`, `replayed`, or the code of `error`.
        duration_s: seconds from the call to its known outcome.
        attempts: transactions that were begun; of `error` where there is one.
    """
    metrics.operations.labels(operation.kind, outcome).inc()
    metrics.operation_seconds.labels(operation.kind).observe(duration_s)
    refused = isinstance(error, SyncRefused)
    write = _log.info if error is None or refused else _log.error
    write(
        Event.SYNC_REFUSED if refused else Event.SYNC_OPERATION,
        operation_id=str(operation.id),
        bar_id=str(operation.bar_id),
        actor=operation.actor,
        kind=operation.kind,
        outcome=outcome,
        attempts=error.attempts if error else attempts,
        duration_ms=round(duration_s * 1000, 1),
        sqlstate=error.sqlstate if error else None,
    )
