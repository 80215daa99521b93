"""SQL of `mpesa_sync.operations`: the operation id, its stored result, its tombstone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec

CLAIM: Final = """
insert into mpesa_sync.operations (id, kind, bar_id, actor, reason, request)
values ($1, $2, $3, $4, $5, $6::jsonb)
on conflict (id) do nothing
returning true
"""
TOMBSTONE: Final = """
insert into mpesa_sync.operations (id, kind, bar_id, actor, reason, request, outcome, result)
values ($1, $2, $3, $4, $5, $6::jsonb, 'failed', '{}')
on conflict (id) do nothing
returning true
"""
STORED: Final = """
select kind, bar_id, request::text as request, outcome, result::text as result
  from mpesa_sync.operations where id = $1
"""
FINISH: Final = """
update mpesa_sync.operations set before = $2::jsonb, after = $3::jsonb, result = $4::jsonb where id = $1
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """What is to be done, once, whatever happens on the way.

    Arguments:
        id: chosen by the caller, the same for every attempt.
        kind: what kind of change, for example `switch` or `repair`.
        bar_id: the bar that it is about.
        actor: who asks for it.
        request: what was asked, as JSON values; the same id with another request is a conflict.
        reason: why, free text.
    """

    id: UUID
    kind: str
    bar_id: UUID
    actor: str
    request: dict[str, Any] = field(default_factory=dict)
    reason: str = ""

    def encoded_request(self) -> str:
        """Return the request as JSON text with its keys in order."""
        return msgspec.json.encode(self.request, order="deterministic").decode()


@dataclass(frozen=True, slots=True)
class Stored:
    """An operation as the database remembers it. `result` is its JSON text."""

    kind: str
    bar_id: UUID
    request: dict[str, Any]
    outcome: str
    result: str

    def is_for(self, operation: Operation) -> bool:
        """Return whether this is the same operation, and not another one under its id."""
        return (self.kind, self.bar_id, self.request) == (
            operation.kind,
            operation.bar_id,
            operation.request,
        )


async def claim(connection: Any, operation: Operation, *, statement: str = CLAIM) -> bool:
    """Insert the operation's id, or wait for whoever is inserting it; False where it is taken.

    `statement` is `CLAIM`, or `TOMBSTONE` to make sure that no earlier attempt can commit any more.
    """
    return bool(
        await connection.fetchval(
            statement,
            operation.id,
            operation.kind,
            operation.bar_id,
            operation.actor,
            operation.reason,
            operation.encoded_request(),
        )
    )


async def stored(connection: Any, operation_id: UUID) -> Stored | None:
    """Return what is stored under an operation id, None where nothing is (which proves nothing)."""
    row = await connection.fetchrow(STORED, operation_id)
    if row is None:
        return None
    return Stored(
        kind=row["kind"],
        bar_id=row["bar_id"],
        request=msgspec.json.decode(row["request"]),
        outcome=row["outcome"],
        result=row["result"] or "{}",
    )


async def finish(connection: Any, operation_id: UUID, *, before: Any, after: Any, result: Any) -> None:
    """Store what the operation found, left and answers, in the transaction that does the work."""
    encode = msgspec.json.encode
    await connection.execute(
        FINISH,
        operation_id,
        encode(before).decode(),
        encode(after).decode(),
        encode(result).decode(),
    )
