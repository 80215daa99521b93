"""One transaction: of our own (`once`, or `attempt` for the retries of `db.unit`), or inside a caller's (`join`).

The only commit of the project is here. An operation's id is inserted first, in the transaction that does the work
(faults.md 1): whoever meets it again replays the stored result instead of working twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import asyncpg
import msgspec

from mpesa_sync.db import courtesy, failpoints, operations, session
from mpesa_sync.db.errormap import cause_of, translate
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database, is_gone, rolled_back
from mpesa_sync.db.session import Begin
from mpesa_sync.errors import (
    IntegrityFault,
    MpesaSyncError,
    OperationConflict,
    TransientFault,
    UnsupportedTransaction,
)

T = TypeVar("T")
_READ_COMMITTED: Final = "read committed"


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


async def once(
    database: Database,
    begin: Begin,
    work: Callable[[Any], Awaitable[T]],
    *,
    budget_s: float | None = None,
    committed: Failpoint = Failpoint.COMMITTED,
) -> T:
    """Do `work` in one transaction, once, without an operation id: for what may safely be done again.

    Runs in a task of its own, as `db.unit.run`.

    Arguments:
        begin: one of those of `db.session`.
        budget_s: seconds from the call to the answer of COMMIT, with the wait for a connection, where that is less
            than `begin` allows.
        committed: the failpoint that is passed after COMMIT.
    Raises:
        OutcomeUnknown: COMMIT was sent and its answer was lost.
        DatabaseFault, SchemaError: translated; nothing was written.
    """
    return await database.owned(attempt(database, begin, work, budget_s=budget_s, committed=committed))


async def attempt(
    database: Database,
    begin: Begin,
    work: Callable[[Any], Awaitable[T]],
    *,
    budget_s: float | None = None,
    committed: Failpoint = Failpoint.COMMITTED,
) -> T:
    """Do what `once` does in the task of the caller, who must not be cancelled: for `db.unit` only."""
    budget_s = begin.budget_s if budget_s is None else budget_s
    end = asyncio.get_running_loop().time() + budget_s
    connection = await database.acquire(within_s=budget_s)
    commit_sent = usable = False
    try:
        async with asyncio.timeout_at(end):
            await connection.execute(begin.sql)
            result = await work(connection)
            commit_sent = True
            await _commit(connection)
        usable = True
        failpoints.hit(committed)
    except Exception as exc:  # noqa: BLE001 - raised again, translated
        error = translate(exc, commit_sent=commit_sent)
        answered = isinstance(exc, asyncpg.PostgresError | MpesaSyncError)
        usable = usable or (answered and await rolled_back(connection))
        raise error from cause_of(error, exc)
    else:
        return result
    finally:
        await database.release(connection, broken=not usable)


async def join(connection: Any, operation: Operation, work: Work[T], answer: type[T]) -> Committed[T]:
    """Do `work` inside the caller's transaction, in a savepoint. Neither commits nor retries (R1.4).

    Raises:
        UnsupportedTransaction: the connection is not in a READ COMMITTED transaction.
        MpesaSyncError: as `db.unit.run`; the savepoint is rolled back, the caller's transaction goes on.
    """
    try:
        before = await _require_joinable(connection)
        as_ours = before["row_security"] == "off" and before["lock_timeout"] != "0"  # as in a transaction of ours
        await connection.execute("savepoint mpesa_sync_join")
        if not as_ours:
            await connection.execute(session.JOIN)
    except Exception as exc:  # noqa: BLE001 - raised again, translated
        error = translate(exc)
        raise error from cause_of(error, exc)
    try:
        result, replayed = await perform(connection, operation, work, answer)
        if not as_ours:
            await connection.execute(session.RESTORE, before["row_security"], before["lock_timeout"])
        await connection.execute("release savepoint mpesa_sync_join")
    except BaseException as exc:  # noqa: BLE001 - raised again, translated
        await _leave_savepoint(connection)
        error = translate(exc)
        raise error from cause_of(error, exc)
    return Committed(result, attempts=1, replayed=replayed)


async def _require_joinable(connection: Any) -> Any:
    """Return the settings of the caller's transaction that are changed inside the savepoint only."""
    try:
        before = await connection.fetchrow(session.SETTINGS)
    except asyncpg.InFailedSQLTransactionError as exc:
        raise UnsupportedTransaction(
            "The transaction of the connection given has failed already. Roll it back first."
        ) from translate(exc)
    if not connection.is_in_transaction():  # only now: a lost connection says the same
        raise UnsupportedTransaction("The connection given is not in a transaction. Begin one first.")
    isolation = before["isolation"]
    if isolation != _READ_COMMITTED:
        raise UnsupportedTransaction(
            f"The transaction of the connection given is {isolation}; it must be {_READ_COMMITTED}."
        )
    return before


async def _leave_savepoint(connection: Any) -> None:
    """Take back what the joined work did; a connection on which that fails is closed, never committed."""
    if is_gone(connection):
        return
    try:
        await connection.execute("rollback to savepoint mpesa_sync_join; release savepoint mpesa_sync_join")
    except BaseException:
        connection.terminate()
        raise


async def perform(
    connection: Any,
    operation: Operation,
    work: Work[T],
    answer: type[T],
    claimed: Callable[[], None] = lambda: None,
) -> tuple[T, bool]:
    """Claim the id and work, or replay. `claimed` is told as soon as no earlier attempt can commit."""
    if not await operations.claim(connection, operation):
        return await replay(connection, operation, answer), True
    claimed()
    failpoints.hit(Failpoint.OPERATION_CLAIMED)
    done = await work(connection)
    copies = await operations.finish(connection, operation, before=done.before, after=done.after, result=done.result)
    courtesy.report(operation, copies)
    failpoints.hit(Failpoint.RESULT_STORED)
    return done.result, False


async def replay(connection: Any, operation: Operation, answer: type[T]) -> T:
    """Return the stored answer of an operation whose id was taken.

    Raises:
        OperationConflict: the id was used for something else, or was given up.
        TransientFault: nothing is stored (any more), which proves nothing.
    """
    found = await operations.stored(connection, operation.id)
    if found is None:
        raise TransientFault("The first attempt of this operation ended while it was being asked for.")
    if not found.is_for(operation):
        raise OperationConflict("This operation id was used for another change. Take a new one.")
    if found.outcome != "applied":
        raise OperationConflict("This operation was given up before. Take a new operation id.")
    return msgspec.json.decode(found.result, type=answer)


async def _commit(connection: Any) -> None:
    """Commit. Nothing else in this project does.

    Raises:
        IntegrityFault: the server rolled back instead, as it does in a transaction that had failed.
    """
    if await connection.execute("commit") != "COMMIT":
        raise IntegrityFault("The database rolled back instead of committing.")
