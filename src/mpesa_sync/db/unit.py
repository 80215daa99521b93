"""One unit of work, from its operation id to a known outcome: its attempts, and what to do when an answer is lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Generic, TypeVar

from mpesa_sync.db import failpoints, operations, session, transaction
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Committed, Work
from mpesa_sync.errors import (
    DatabaseFault,
    MpesaSyncError,
    OutcomeUnknown,
    PoolExhausted,
    SyncRefused,
    TransientFault,
)
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event

T = TypeVar("T")
_log: Final = logs.get("transaction")
_SETTLING_S: Final = 1.0


async def run(
    database: Database,
    operation: Operation,
    work: Work[T],
    answer: type[T],
    *,
    within_s: float | None = None,
) -> Committed[T]:
    """Do `work` in a transaction of its own and return when its outcome is known (R5.1, R5.3).

    Transient faults, and commits whose answer was lost, are met by the whole unit again under the same
    operation id, as often as `database.retry` says. It runs in a task of its own: a caller who is cancelled
    stops waiting, the unit goes on.

    Arguments:
        operation: what is done; its id decides whether it is done already.
        work: the statements; its result must be a value that msgspec can encode.
        answer: the type of the result, to read a stored one back.
        within_s: seconds that the caller has, where that is less than `database.retry` allows; to settle an answer
            that was lost, up to 1 s more.
    Raises:
        TransientFault: retries are exhausted; nothing was written.
        OutcomeUnknown: COMMIT was sent, its answer was lost, and the database could not be asked again.
        OperationConflict: the id was used for something else, or was given up.
        DatabaseFault, SchemaError, SyncRefused: not retried; nothing was written.
    """
    return await database.owned(_Unit(database, operation, work, answer, within_s).run())


class _Unit(Generic[T]):
    """The attempts of one operation, and whether an earlier one may still turn out to be committed."""

    def __init__(
        self, database: Database, operation: Operation, work: Work[T], answer: type[T], within_s: float | None
    ) -> None:
        self._database = database
        retry = database.retry
        self._retry = retry if within_s is None else replace(retry, total_s=min(retry.total_s, within_s))
        self._end = None if within_s is None else database.clock.monotonic() + within_s
        self._operation = operation
        self._work = work
        self._answer = answer
        self._attempts = 0
        self._unsettled = False

    async def run(self) -> Committed[T]:
        """Try until the outcome is known or `database.retry` says that it is enough."""
        clock, retry = self._database.clock, self._retry
        started = clock.monotonic()
        while True:
            self._attempts += 1
            began = clock.monotonic()
            try:
                result, replayed = await self._attempt(retry.total_s - (clock.monotonic() - started))
            except DatabaseFault as fault:
                self._unsettled = self._unsettled or isinstance(fault, OutcomeUnknown)
                wait_s = self._wait_s(fault, clock.monotonic() - started)
                self._report_failed(fault, wait_s, clock.monotonic() - began)
                if wait_s is None:
                    return await self._give_up(fault)
                await clock.sleep(wait_s)
            except MpesaSyncError as error:
                error.attempts = self._attempts
                metrics.attempts.labels(self._operation.kind, error.code).inc()
                write = _log.info if isinstance(error, SyncRefused) else _log.warning
                self._log(write, error.code, clock.monotonic() - began, sqlstate=error.sqlstate)
                raise
            else:
                metrics.attempts.labels(self._operation.kind, "ok").inc()
                self._log(_log.info, "ok", clock.monotonic() - began)
                return Committed(result, self._attempts, replayed)

    async def _attempt(self, budget_s: float) -> tuple[T, bool]:
        async def work(connection: Any) -> tuple[T, bool]:
            failpoints.hit(Failpoint.BEGUN)
            return await transaction.perform(connection, self._operation, self._work, self._answer, self._settled)

        return await transaction.attempt(
            self._database, session.WRITE, work, budget_s=min(budget_s, session.WRITE.budget_s)
        )

    def _settled(self) -> None:
        self._unsettled = False

    def _wait_s(self, fault: DatabaseFault, elapsed_s: float) -> float | None:
        if isinstance(fault, TransientFault | OutcomeUnknown) and not isinstance(fault, PoolExhausted):
            return self._retry.delay_s(self._attempts, elapsed_s)
        return None

    def _report_failed(self, fault: DatabaseFault, wait_s: float | None, duration_s: float) -> None:
        fault.attempts = self._attempts
        metrics.attempts.labels(self._operation.kind, fault.code).inc()
        self._log(_log.warning, fault.code, duration_s, sqlstate=fault.sqlstate, retry_in_s=wait_s)

    def _log(
        self, write: Callable[..., None], outcome: str, duration_s: float, *, sqlstate: str | None = None, **more: Any
    ) -> None:
        """Write the one event of an attempt (R5.1)."""
        write(
            Event.SYNC_ATTEMPT,
            operation_id=str(self._operation.id),
            bar_id=str(self._operation.bar_id),
            actor=self._operation.actor,
            kind=self._operation.kind,
            attempt=self._attempts,
            outcome=outcome,
            duration_ms=round(duration_s * 1000, 1),
            sqlstate=sqlstate,
            **more,
        )

    async def _give_up(self, fault: DatabaseFault) -> Committed[T]:
        """Settle what an earlier attempt left open, by tombstone; then raise, or return what it did."""
        if not self._unsettled:
            raise fault
        try:
            done = await transaction.attempt(self._database, session.WRITE, self._bury, budget_s=self._settling_s())
        except DatabaseFault as exc:
            unknown = OutcomeUnknown(
                "The change was sent and no answer came back. Ask for this operation again before repeating it.",
                sqlstate=fault.sqlstate,
            )
            unknown.attempts = self._attempts
            raise unknown from exc
        if done is not None:
            return Committed(done, self._attempts, replayed=True)
        failed = TransientFault(
            "The connection was lost during the commit, and nothing was written.", sqlstate=fault.sqlstate
        )
        failed.attempts = self._attempts
        raise failed from fault

    def _settling_s(self) -> float:
        """Return the seconds for settling: of what the caller has left, and at least `_SETTLING_S` all the same."""
        if self._end is None:
            return session.END_TIMEOUT_S
        left_s = self._end - self._database.clock.monotonic()
        return min(session.END_TIMEOUT_S, max(_SETTLING_S, left_s))

    async def _bury(self, connection: Any) -> T | None:
        """Return what an earlier attempt committed, or None once none of them can commit any more."""
        if await operations.claim(connection, self._operation, statement=operations.TOMBSTONE):
            return None
        return await transaction.replay(connection, self._operation, self._answer)
