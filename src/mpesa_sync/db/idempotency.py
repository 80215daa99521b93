"""SQL of `mpesa_sync.idempotency_keys`: a key of a person, the operation it stands for, and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import msgspec

RESERVE: Final = """
insert into mpesa_sync.idempotency_keys (person_id, key_digest, body_digest, operation_id, held_until)
values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
on conflict (person_id, key_digest) do nothing
returning true
"""
FOUND: Final = """
select body_digest, operation_id, status, answer::text as answer, held_until > clock_timestamp() as is_held
  from mpesa_sync.idempotency_keys
 where person_id = $1 and key_digest = $2
   for update
"""
TAKE_OVER: Final = """
update mpesa_sync.idempotency_keys set held_until = clock_timestamp() + make_interval(secs => $3)
 where person_id = $1 and key_digest = $2
"""
ANSWER: Final = """
update mpesa_sync.idempotency_keys set status = $4, answer = $5::jsonb
 where person_id = $1 and key_digest = $2 and operation_id = $3 and status is null
"""
LET_GO: Final = """
update mpesa_sync.idempotency_keys set held_until = clock_timestamp(), operation_id = $4
 where person_id = $1 and key_digest = $2 and operation_id = $3 and status is null
"""
PRUNE: Final = """
delete from mpesa_sync.idempotency_keys where (person_id, key_digest) in (
  select person_id, key_digest from mpesa_sync.idempotency_keys
   where created_at < now() - make_interval(hours => $1) limit 10000)
"""
KEEP_HOURS: Final = 48
"""How long an answer is kept: twice what is promised."""


@dataclass(frozen=True, slots=True)
class Keyed:
    """One key of one person, with the digest of the body that it came with. Neither key nor body is in it."""

    person_id: UUID
    key_digest: str
    body_digest: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What is stored of a key: `answer` is JSON text, None while there is none; `is_held`: somebody works on it."""

    body_digest: str
    operation_id: UUID
    status: int | None
    answer: str | None
    is_held: bool


async def reserve(connection: Any, keyed: Keyed, operation_id: UUID, *, hold_s: float) -> bool:
    """Insert the key, or wait for whoever is inserting it; False where it is taken.

    Arguments:
        operation_id: what the key is to stand for.
        hold_s: seconds for which nobody else may work on it.
    """
    return bool(
        await connection.fetchval(
            RESERVE, keyed.person_id, keyed.key_digest, keyed.body_digest, operation_id, float(hold_s)
        )
    )


async def found(connection: Any, keyed: Keyed) -> Kept | None:
    """Lock what is stored of a key and return it; None where nothing is (any more)."""
    record = await connection.fetchrow(FOUND, keyed.person_id, keyed.key_digest)
    return None if record is None else Kept(**record)


async def take_over(connection: Any, keyed: Keyed, *, hold_s: float) -> None:
    """Hold a key whose holder has gone for `hold_s` seconds; it must be locked by `found` in this transaction."""
    await connection.execute(TAKE_OVER, keyed.person_id, keyed.key_digest, float(hold_s))


async def keep_answer(connection: Any, keyed: Keyed, operation_id: UUID, status: int, answer: Any) -> None:
    """Store the answer of the operation that the key stands for; the first answer stays.

    Arguments:
        status: of HTTP.
        answer: its body, a value that msgspec can encode.
    """
    text = msgspec.json.encode(answer).decode()
    await connection.execute(ANSWER, keyed.person_id, keyed.key_digest, operation_id, status, text)


async def let_go(connection: Any, keyed: Keyed, operation_id: UUID, next_id: UUID) -> None:
    """End the hold, so that a repeat goes on at once, under `next_id`."""
    await connection.execute(LET_GO, keyed.person_id, keyed.key_digest, operation_id, next_id)


async def prune(connection: Any) -> int:
    """Forget keys that are older than `KEEP_HOURS`, at most 10,000; return how many. The worker does it."""
    done = await connection.execute(PRUNE, KEEP_HOURS)
    return int(done.rpartition(" ")[2])
