"""One unit of work, from its operation id to a known outcome: its attempts, and what to do when an answer is lost."""

from __future__ import annotations

from typing import Any, Final, Generic, TypeVar

from mpesa_sync.db import failpoints, operations, session, transaction
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Committed, Work
from mpesa_sync.errors import DatabaseFault, OutcomeUnknown, PoolExhausted, TransientFault
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event

T = TypeVar("T")
_log: Final = logs.get("transaction")


async def run(database: Database, operation: Operation, work: Work[T], answer: type[T]) -> Committed[T]:
    """Do `work` in a transaction of its own and return when its outcome is known (R5.1, R5.3).

    Transient faults, and commits whose answer was lost, are met by the whole unit again under the same
    operation id, as often as `database.retry` says. It runs in a task of its own: a caller who is cancelled
    stops waiting, the unit goes on.

    Arguments:
        operation: what is done; its id decides whether it is done already.
        work: the statements; its result must be a value that msgspec can encode.
        answer: the type of the result, to read a stored one back.
    Raises:
        TransientFault: retries are exhausted; nothing was written.
        OutcomeUnknown: COMMIT was sent, its answer was lost, and the database could not be asked again.
        OperationConflict: the id was used for something else, or was given up.
        DatabaseFault, SchemaError, SyncRefused: not retried; nothing was written.
    """
    return await database.owned(_Unit(database, operation, work, answer).run())


class _Unit(Generic[T]):
    """The attempts of one operation, and whether an earlier one may still turn out to be committed."""

    def __init__(self, database: Database, operation: Operation, work: Work[T], answer: type[T]) -> None:
        self._database = database
        self._operation = operation
        self._work = work
        self._answer = answer
        self._attempts = 0
        self._unsettled = False

    async def run(self) -> Committed[T]:
        """Try until the outcome is known or `database.retry` says that it is enough."""
        clock, retry = self._database.clock, self._database.retry
        started = clock.monotonic()
        while True:
            self._attempts += 1
            try:
                result, replayed = await self._attempt(retry.total_s - (clock.monotonic() - started))
            except DatabaseFault as fault:
                self._unsettled = self._unsettled or isinstance(fault, OutcomeUnknown)
                wait_s = self._wait_s(fault, clock.monotonic() - started)
                self._report(fault, wait_s)
                if wait_s is None:
                    return await self._give_up(fault)
                await clock.sleep(wait_s)
            else:
                metrics.attempts.labels(self._operation.kind, "ok").inc()
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
            return self._database.retry.delay_s(self._attempts, elapsed_s)
        return None

    def _report(self, fault: DatabaseFault, wait_s: float | None) -> None:
        fault.attempts = self._attempts
        metrics.attempts.labels(self._operation.kind, fault.code).inc()
        _log.warning(
            Event.SYNC_ATTEMPT_FAILED,
            operation_id=str(self._operation.id),
            bar_id=str(self._operation.bar_id),
            actor=self._operation.actor,
            kind=self._operation.kind,
            attempt=self._attempts,
            cause=fault.code,
            sqlstate=fault.sqlstate,
            retry_in_s=wait_s,
        )

    async def _give_up(self, fault: DatabaseFault) -> Committed[T]:
        """Settle what an earlier attempt left open, by tombstone; then raise, or return what it did."""
        if not self._unsettled:
            raise fault
        try:
            done = await transaction.attempt(self._database, session.WRITE, self._bury, budget_s=session.END_TIMEOUT_S)
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

    async def _bury(self, connection: Any) -> T | None:
        """Return what an earlier attempt committed, or None once none of them can commit any more."""
        if await operations.claim(connection, self._operation, statement=operations.TOMBSTONE):
            return None
        return await transaction.replay(connection, self._operation, self._answer)
