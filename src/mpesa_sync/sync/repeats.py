"""One answer for one `Idempotency-Key` of a person (R4): who may work on it, and what a repeat is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import msgspec

from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.db import idempotency, session, transaction
from mpesa_sync.db.idempotency import Keyed
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import (
    DatabaseFault,
    InvalidInput,
    MpesaSyncError,
    OperationConflict,
    OutcomeUnknown,
    PoolExhausted,
    TransientFault,
)
from mpesa_sync.identity import membership
from mpesa_sync.identity.people import Person
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.refusals import IdempotencyKeyInFlight, IdempotencyKeyReused
from mpesa_sync.secret import Secret

T = TypeVar("T")
_log: Final = logs.get("repeats")
_NOTING_S: Final = 3.0
"""The longest that noting a key, or its answer, is tried."""
_LAST_TRY_S: Final = 0.5
"""What the last such attempt may take beyond that."""
_LOOKING_S: Final = session.ACQUIRE_TIMEOUT_S + session.READ.budget_s + session.END_TIMEOUT_S
HOLD_S: Final = (
    9.0  # a request's deadline: its attempts, and the wait for its alert
    + session.END_TIMEOUT_S  # rolling back the last attempt
    + _LOOKING_S  # what is missing, by name; or, shorter, settling an answer that was lost
    + 1.0  # the alert of a request whose time is up
    + (_NOTING_S + _LAST_TRY_S + session.END_TIMEOUT_S)  # the answer is kept
)
"""Above the longest that a request may work once it holds the key."""
_NOTING_AGAIN_S: Final = 1.0
_NOTED_AT_ONCE_S: Final = 0.3
"""How long an answer waits for its key to be let go: after that it is let go behind it."""
_KEPT_REFUSALS: Final = frozenset({400, 409, 422})
"""About what was asked. Who asks (401, 403, 404) is judged anew for every repeat."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request with a key: whose, for which bar (the person must be able to write there), under which digests.

    `older`: the same request under older encryption keys, as it was kept while one of them was the first.
    """

    person: Person
    bar_id: UUID
    keyed: Keyed
    older: tuple[Keyed, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a request: `body` as JSON text. `replayed`: it was stored before."""

    status: int
    body: bytes
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class _Held:
    """The key is ours to work on, under the digests that it is kept under."""

    operation_id: UUID
    keyed: Keyed


def asked(keys: KeyRing, person: Person, bar_id: UUID, *, key: str, body: Mapping[str, Any]) -> Asked:
    """Return a request with a key, as keyed hashes: the body may hold secrets, and the key be guessed.

    Raises:
        KmsKeyMissing: there is no encryption key, so no digest could tell two bodies apart.
        InvalidInput: the body is nested too deeply to be written down again.
    """
    keys.require()
    try:
        # The same JSON value is the same body, however its members are ordered.
        text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise InvalidInput("body", "is nested too deeply") from None
    digests = zip(
        keys.fingerprints(Secret(f"idempotency key\n{key}")),
        keys.fingerprints(Secret(f"idempotency body\n{text}")),
        strict=True,
    )
    keyed, *older = [Keyed(person.id, key_digest, body_digest) for key_digest, body_digest in digests]
    return Asked(person, bar_id, keyed, tuple(older))


async def answered_once(
    database: Database,
    request: Asked,
    work: Callable[[UUID], Awaitable[Any]],
    refusal: Callable[[MpesaSyncError, UUID], Any],
) -> Answer:
    """Do `work` and keep its answer, or return the one that is kept. Runs to its end when the caller is cancelled.

    Arguments:
        work: does it under the operation id given, and returns the body of the answer 200.
        refusal: returns the body of the answer for an error of `work`.
    Raises:
        BarNotFound, NotAllowed: the person may not write here (any more); also where an answer is kept.
        IdempotencyKeyReused: the key came with another body before.
        IdempotencyKeyInFlight: another request works on it.
        MpesaSyncError: of `work`, where no answer is kept: the same key may be tried again.
    """
    return await database.owned(_answered(database, request, work, refusal))


async def _answered(
    database: Database,
    request: Asked,
    work: Callable[[UUID], Awaitable[Any]],
    refusal: Callable[[MpesaSyncError, UUID], Any],
) -> Answer:
    held = await _reserved(database, request)
    if isinstance(held, Answer):
        return held
    operation_id = held.operation_id
    try:
        status, body = 200, await work(operation_id)
    except MpesaSyncError as error:
        if error.http_status not in _KEPT_REFUSALS or isinstance(error, OperationConflict):
            # Unknown: the repeat settles it, so the id stays. Failed: an id that was given up can never be applied.
            next_id = operation_id if isinstance(error, OutcomeUnknown) else uuid4()
            await _let_go(database, held.keyed, operation_id, next_id)
            raise
        status, body = error.http_status, refusal(error, operation_id)
    except Exception:
        await _let_go(database, held.keyed, operation_id, operation_id)
        raise
    await _keep(database, held.keyed, operation_id, status, body)
    return Answer(status, msgspec.json.encode(body))


async def _reserved(database: Database, request: Asked) -> _Held | Answer:
    """Hold the key, or return its answer. Membership is asked first, in the same transaction."""
    ours = uuid4()

    async def reserve(connection: Any) -> _Held | Answer:
        await membership.require(connection, request.person, request.bar_id, to_write=True)
        keyed = request.keyed
        for older in request.older:
            if await idempotency.found(connection, older) is not None:
                keyed = older
        if await idempotency.reserve(connection, keyed, ours, hold_s=HOLD_S):
            return _Held(ours, keyed)
        kept = await idempotency.found(connection, keyed)
        if kept is None:
            raise TransientFault("What was kept of this Idempotency-Key has just been forgotten.")
        if kept.body_digest != keyed.body_digest:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another body. Take a new one.")
        if kept.status is not None and kept.answer is not None:
            return Answer(kept.status, kept.answer.encode(), replayed=True)
        if kept.is_held and kept.operation_id != ours:  # ours: the answer to our own COMMIT was lost
            raise IdempotencyKeyInFlight(
                "The first request with this Idempotency-Key is not done yet.", operation_id=kept.operation_id
            )
        await idempotency.take_over(connection, keyed, hold_s=HOLD_S)
        return _Held(kept.operation_id, keyed)

    try:
        return await _tried(database, reserve)
    except OutcomeUnknown as exc:
        raise TransientFault("The request could not be noted. Nothing was changed.", sqlstate=exc.sqlstate) from exc


async def _keep(database: Database, keyed: Keyed, operation_id: UUID, status: int, body: Any) -> None:
    """Keep the answer. Where that fails the repeat finds it by the operation, once the hold is over."""

    async def keep(connection: Any) -> None:
        await idempotency.keep_answer(connection, keyed, operation_id, status, body)

    await _noted(database, keep, operation_id)


async def _let_go(database: Database, keyed: Keyed, operation_id: UUID, next_id: UUID) -> None:
    """Let the repeat go on at once. A database that cannot note that now is asked again, behind the answer."""

    async def let_go(connection: Any) -> None:
        await idempotency.let_go(connection, keyed, operation_id, next_id)

    async def until_noted() -> None:
        started = database.clock.monotonic()
        while not await _noted(database, let_go, operation_id):
            if database.clock.monotonic() - started > HOLD_S:
                return
            await database.clock.sleep(_NOTING_AGAIN_S)

    await asyncio.wait({database.background(until_noted())}, timeout=_NOTED_AT_ONCE_S)


async def _noted(database: Database, work: Callable[[Any], Awaitable[None]], operation_id: UUID) -> bool:
    try:
        await _tried(database, work)
    except MpesaSyncError as exc:
        _log.warning(Event.ANSWER_NOT_KEPT, operation_id=str(operation_id), error=exc.code, sqlstate=exc.sqlstate)
        return False
    return True


async def _tried(database: Database, work: Callable[[Any], Awaitable[T]]) -> T:
    """Do `work`, which may safely be done again, until it is done: as often as `database.retry` says, for 3 s.

    Raises:
        OutcomeUnknown: the last answer to COMMIT was lost.
        MpesaSyncError: as `db.transaction.once`.
    """
    clock = database.clock
    started, attempts = clock.monotonic(), 0
    while True:
        attempts += 1
        left_s = _NOTING_S - (clock.monotonic() - started)
        try:
            return await transaction.once(database, session.WRITE, work, budget_s=max(_LAST_TRY_S, left_s))
        except DatabaseFault as fault:
            again = isinstance(fault, TransientFault | OutcomeUnknown) and not isinstance(fault, PoolExhausted)
            elapsed_s = clock.monotonic() - started
            wait_s = database.retry.delay_s(attempts, elapsed_s) if again and elapsed_s < _NOTING_S else None
            if wait_s is None:
                raise
            await clock.sleep(wait_s)
