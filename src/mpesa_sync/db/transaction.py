"""One unit of work, from its operation id to a known outcome. The only commit of the project is here.

The operation id is inserted first, in the transaction that does the work (faults.md 1). So every attempt of one
unit uses the same id, and an attempt that meets it replays the stored result instead of working twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from mpesa_sync.db import failpoints, operations, session
from mpesa_sync.db.errormap import translate
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import (
    DatabaseFault,
    IntegrityFault,
    OperationConflict,
    OutcomeUnknown,
    TransientFault,
    UnsupportedTransaction,
)
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event

T = TypeVar("T")
_log: Final = logs.get("transaction")
_READ_COMMITTED: Final = "read committed"
_SETTLE_TIMEOUT_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What the work of a unit returns: its answer, and the facts before and after for the audit."""

    result: T
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Committed(Generic[T]):
    """A unit that is known to be applied. `replayed`: an earlier attempt or call had done it."""

    result: T
    attempts: int
    replayed: bool


Work = Callable[[Any], Awaitable[Done[T]]]
"""Does the statements of a unit on the connection given to it. It may run several times."""


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


async def once(
    database: Database,
    begin: str,
    work: Callable[[Any], Awaitable[T]],
    *,
    budget_s: float,
    committed: Failpoint = Failpoint.COMMITTED,
) -> T:
    """Do `work` in one transaction, once, without an operation id: for what may safely be done again.

    Runs in a task of its own, as `run`.

    Arguments:
        begin: one of the `BEGIN_…` texts of `db.session`.
        budget_s: seconds from the first statement to the answer of COMMIT.
        committed: the failpoint that is passed after COMMIT.
    Raises:
        OutcomeUnknown: COMMIT was sent and its answer was lost.
        DatabaseFault, SchemaError: translated; nothing was written.
    """
    return await database.owned(_once(database, begin, work, budget_s, committed))


async def _once(
    database: Database,
    begin: str,
    work: Callable[[Any], Awaitable[T]],
    budget_s: float,
    committed: Failpoint,
) -> T:
    connection = await database.acquire()
    commit_sent = usable = False
    try:
        async with asyncio.timeout(budget_s):
            await connection.execute(begin)
            result = await work(connection)
            commit_sent = True
            await _commit(connection)
        usable = True
        failpoints.hit(committed)
    except Exception as exc:
        error = translate(exc, commit_sent=commit_sent)
        usable = usable or await _rolled_back(connection)
        raise error from exc
    else:
        return result
    finally:
        await database.release(connection, broken=not usable)


async def join(connection: Any, operation: Operation, work: Work[T], answer: type[T]) -> Committed[T]:
    """Do `work` inside the caller's transaction, in a savepoint. Neither commits nor retries (R1.4).

    Raises:
        UnsupportedTransaction: the connection is not in a READ COMMITTED transaction.
        MpesaSyncError: as `run`; the savepoint is rolled back, the caller's transaction goes on.
    """
    if not connection.is_in_transaction():
        raise UnsupportedTransaction("The connection given is not in a transaction. Begin one first.")
    isolation = await connection.fetchval("select current_setting('transaction_isolation')")
    if isolation != _READ_COMMITTED:
        raise UnsupportedTransaction(
            f"The transaction of the connection given is {isolation}; it must be {_READ_COMMITTED}."
        )
    await connection.execute("savepoint mpesa_sync_join")
    try:
        result, replayed = await _perform(connection, operation, work, answer)
    except BaseException as exc:
        await _leave_savepoint(connection)
        raise translate(exc) from exc
    await connection.execute("release savepoint mpesa_sync_join")
    return Committed(result, attempts=1, replayed=replayed)


async def _leave_savepoint(connection: Any) -> None:
    """Take back what the joined work did; a connection on which that fails is closed, never committed."""
    if connection.is_closed():
        return
    try:
        await connection.execute("rollback to savepoint mpesa_sync_join; release savepoint mpesa_sync_join")
    except BaseException:
        connection.terminate()
        raise


async def _perform(
    connection: Any,
    operation: Operation,
    work: Work[T],
    answer: type[T],
    claimed: Callable[[], None] = lambda: None,
) -> tuple[T, bool]:
    """Claim the id and work, or replay. `claimed` is told as soon as no earlier attempt can commit."""
    if not await operations.claim(connection, operation):
        return await _replay(connection, operation, answer), True
    claimed()
    failpoints.hit(Failpoint.OPERATION_CLAIMED)
    done = await work(connection)
    await operations.finish(connection, operation.id, before=done.before, after=done.after, result=done.result)
    failpoints.hit(Failpoint.RESULT_STORED)
    return done.result, False


async def _replay(connection: Any, operation: Operation, answer: type[T]) -> T:
    found = await operations.stored(connection, operation.id)
    if found is None:
        raise TransientFault("The first attempt of this operation ended while it was being asked for.")
    if not found.is_for(operation):
        raise OperationConflict("This operation id was used for another change. Take a new one.")
    if found.outcome != "applied":
        raise OperationConflict("This operation was given up before. Take a new operation id.")
    return msgspec.json.decode(found.result, type=answer)


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
        clock = self._database.clock
        started = clock.monotonic()
        while True:
            self._attempts += 1
            budget_s = self._database.retry.total_s - (clock.monotonic() - started)
            try:
                result, replayed = await self._attempt(budget_s)
            except DatabaseFault as fault:
                fault.attempts = self._attempts
                elapsed_s = clock.monotonic() - started
                wait_s = self._wait_s(fault, elapsed_s)
                self._report(fault, wait_s)
                if wait_s is None:
                    return await self._give_up(fault)
                await clock.sleep(wait_s)
            else:
                metrics.attempts.labels(self._operation.kind, "ok").inc()
                return Committed(result, self._attempts, replayed)

    def _wait_s(self, fault: DatabaseFault, elapsed_s: float) -> float | None:
        if isinstance(fault, TransientFault | OutcomeUnknown):
            return self._database.retry.delay_s(self._attempts, elapsed_s)
        return None

    def _report(self, fault: DatabaseFault, wait_s: float | None) -> None:
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

    async def _attempt(self, budget_s: float) -> tuple[T, bool]:
        connection = await self._database.acquire()
        commit_sent = usable = False
        try:
            async with asyncio.timeout(budget_s):
                await connection.execute(session.BEGIN_WRITE)
                failpoints.hit(Failpoint.BEGUN)
                outcome = await _perform(connection, self._operation, self._work, self._answer, self._settled)
                commit_sent = True
                await _commit(connection)
            usable = True
            failpoints.hit(Failpoint.COMMITTED)
        except Exception as exc:
            error = translate(exc, commit_sent=commit_sent)
            self._unsettled = self._unsettled or isinstance(error, OutcomeUnknown)
            usable = usable or await _rolled_back(connection)
            raise error from exc
        else:
            return outcome
        finally:
            await self._database.release(connection, broken=not usable)

    def _settled(self) -> None:
        self._unsettled = False

    async def _give_up(self, fault: DatabaseFault) -> Committed[T]:
        """Settle what an earlier attempt left open, by tombstone; then raise, or return what it did."""
        if not self._unsettled:
            raise fault
        try:
            async with asyncio.timeout(_SETTLE_TIMEOUT_S):
                done = await self._settle()
        except (DatabaseFault, TimeoutError) as exc:
            raise _after(
                fault,
                OutcomeUnknown(
                    "The change was sent and no answer came back. Ask for this operation again before repeating it.",
                    sqlstate=fault.sqlstate,
                ),
            ) from exc
        if done is not None:
            return done
        raise _after(
            fault,
            TransientFault(
                "The connection was lost during the commit, and nothing was written.",
                sqlstate=fault.sqlstate,
            ),
        ) from fault

    async def _settle(self) -> Committed[T] | None:
        """Return what an earlier attempt committed, or None once none of them can commit any more."""
        connection = await self._database.acquire()
        usable = False
        try:
            await connection.execute(session.BEGIN_WRITE)
            buried = await operations.claim(connection, self._operation, statement=operations.TOMBSTONE)
            replayed = None if buried else await _replay(connection, self._operation, self._answer)
            await _commit(connection)
            usable = True
        except Exception as exc:
            raise translate(exc, commit_sent=True) from exc
        finally:
            await self._database.release(connection, broken=not usable)
        return None if replayed is None else Committed(replayed, self._attempts, replayed=True)


def _after(fault: DatabaseFault, error: DatabaseFault) -> DatabaseFault:
    error.attempts = fault.attempts
    return error


async def _commit(connection: Any) -> None:
    """Commit. Nothing else in this project does.

    Raises:
        IntegrityFault: the server rolled back instead, as it does in a transaction that had failed.
    """
    if await connection.execute("commit") != "COMMIT":
        raise IntegrityFault("The database rolled back instead of committing.")


async def _rolled_back(connection: Any) -> bool:
    """Roll back and return whether the connection can be used again."""
    if connection.is_closed():
        return False
    try:
        await connection.execute("rollback")
    except Exception as exc:  # noqa: BLE001 - whatever it is, the connection is closed for it
        _log.debug("rollback failed", error=type(translate(exc)).__name__)
        return False
    return True
