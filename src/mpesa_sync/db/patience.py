"""Asking again what may safely be asked again, when the fault is one that passes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from mpesa_sync.backoff import Backoff
from mpesa_sync.db import session, transaction
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import DatabaseFault, OutcomeUnknown, PoolExhausted, TransientFault

T = TypeVar("T")
GAPS: Final = Backoff(max_retries=40, base_s=0.25, cap_s=2.0, total_s=30.0)
"""For `between_writers`: each try holds up the platform's writers for at most 0.25 s, and between two they go on."""
_HELD: Final = ("55P03", "40P01")


async def patiently(
    database: Database, call: Callable[[], Awaitable[T]], *, seen: Callable[[DatabaseFault], None] = lambda _: None
) -> T:
    """Return what `call` returns, called again after transient faults and lost answers.

    As often and as long as `database.retry` says (R5.1).

    For reads, and for writes that come to the same when they are done twice. One operation of a bar is not such a
    write: `db.unit` is for those.

    Arguments:
        seen: told of every such fault, also of the last one.
    Raises:
        TransientFault, OutcomeUnknown: the last of them; `attempts` says how many there were.
        MpesaSyncError: anything else, at once.
    """
    clock = database.clock
    started, attempt = clock.monotonic(), 0
    while True:
        attempt += 1
        try:
            return await call()
        except (TransientFault, OutcomeUnknown) as fault:
            fault.attempts = attempt
            seen(fault)
            wait_s = database.retry.delay_s(attempt, clock.monotonic() - started)
            if wait_s is None:
                raise
            await clock.sleep(wait_s)


async def once_more(call: Callable[[], Awaitable[T]]) -> T:
    """Return what `call` returns, called again at once where its connection was lost: a page need not fail for that.

    For reads, and for writes that come to the same when they are done twice. A database that is away is said at once.

    Raises:
        MpesaSyncError: of the second call; of the first where another cannot help.
    """
    try:
        return await call()
    except PoolExhausted:
        raise
    except (TransientFault, OutcomeUnknown):
        return await call()


async def between_writers(database: Database, work: Callable[[Any], Awaitable[T]], *, tries: Backoff = GAPS) -> T:
    """Do `work`, which locks whole tables of the platform, in a short transaction; again where a lock cannot be had.

    A try that waits for a table makes the writers behind it wait, too: so it waits for 0.25 s at most
    (`session.GUARDS`), and then lets them pass (G4).

    Raises:
        TransientFault: other programs held a table during every try, or the database was lost. Nothing was changed.
        MpesaSyncError: anything else, at once.
    """
    clock = database.clock
    started, attempt = clock.monotonic(), 0
    while True:
        attempt += 1
        try:
            return await transaction.once(database, session.GUARDS, work)
        except TransientFault as fault:
            if fault.sqlstate not in _HELD:
                raise
            wait_s = tries.delay_s(attempt, clock.monotonic() - started)
            if wait_s is None:
                raise TransientFault(
                    f"Other programs held bars or mpesa_credentials during all of {attempt} tries. Nothing was "
                    "changed, and nobody was held up for long. Try again while no long transaction runs.",
                    sqlstate=fault.sqlstate,
                ) from fault
            await clock.sleep(wait_s)
