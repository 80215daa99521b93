"""SQL of `mpesa_sync.operations`: the operation id, its stored result, its tombstone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.domain import audit

CLAIM: Final = """
insert into mpesa_sync.operations (id, kind, bar_id, actor, reason, request, person_id, source_address, client)
values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9)
on conflict (id) do nothing
returning true
"""
TOMBSTONE: Final = """
insert into mpesa_sync.operations (id, kind, bar_id, actor, reason, request, person_id, source_address, client,
                                   outcome, result)
values ($1, $2, $3, $4, $5, $6::jsonb, $7, $8, $9, 'failed', '{}')
on conflict (id) do nothing
returning true
"""
STORED: Final = """
select kind, bar_id, request::text as request, outcome, result::text as result
  from mpesa_sync.operations where id = $1
"""
FINISH: Final = "select mpesa_sync.finish_operation_v1($1, $2::jsonb, $3::jsonb, $4::jsonb, $5)"
"""Its result, and its copies in the platform's own logs, in one round trip."""


@dataclass(frozen=True, slots=True)
class Origin:
    """From where an operation is asked for, for the audit.

    Arguments:
        person_id: the person, where one is known by id.
        address: the network address of who asks, "" where there is none.
        client: the program that asks, as it calls itself: up to 200 characters.
    """

    person_id: UUID | None = None
    address: str = ""
    client: str = ""


NOWHERE: Final = Origin()


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
        origin: from where.
    """

    id: UUID
    kind: str
    bar_id: UUID
    actor: str
    request: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    origin: Origin = NOWHERE

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
            operation.origin.person_id,
            operation.origin.address,
            operation.origin.client,
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


async def finish(connection: Any, operation: Operation, *, before: Any, after: Any, result: Any) -> str:
    """Store what the operation found, left and answers, in the transaction that does the work.

    Returns:
        What became of its courtesy copies, as JSON for `db.courtesy.report`.
    """
    encode = msgspec.json.encode
    act = audit.act_of(operation.kind, after or {}, operation.request)
    return str(
        await connection.fetchval(
            FINISH,
            operation.id,
            encode(before).decode(),
            encode(after).decode(),
            encode(result).decode(),
            act and act.value,
        )
    )
