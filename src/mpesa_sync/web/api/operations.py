"""GET /api/operations/{id}: what became of a change whose answer was lost (R4, faults.md 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec
from litestar import Request, get
from litestar.params import FromPath

from mpesa_sync.db import settings
from mpesa_sync.errors import SyncRefused
from mpesa_sync.identity import membership
from mpesa_sync.identity.people import Person
from mpesa_sync.web import context
from mpesa_sync.web.api import openapi
from mpesa_sync.web.auth import signed_in


class OperationNotFound(SyncRefused):
    """Nothing is stored of this operation, or who asks is no operator and does not belong to its bar."""

    code = "operation_not_found"
    http_status = 404


class OperationFound(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an operation: `applied` with the result that was answered, or `failed` for good."""

    operation_id: UUID
    outcome: str
    bar_id: UUID
    result: Mapping[str, Any] | None


@get(
    "/api/operations/{operation_id:str}",
    summary="What became of a change",
    operation_id="getOperation",
    security=openapi.SIGNED_IN,
    responses=openapi.failures(400, 401, 404, 500, 503),
)
async def read(request: Request[Any, Any, Any], operation_id: FromPath[str]) -> OperationFound:
    """Return what became of a change, to members of its bar and to operators.

    An id that nothing is stored of proves nothing: the change may be under way.
    """
    who = await signed_in(request)
    try:
        wanted = UUID(operation_id)
    except ValueError:
        raise _absent() from None
    async with context.of(request).database.reading() as connection:
        found = await settings.operation(connection, wanted)
        if found is None or not await _may_read(connection, who.person, found.bar_id):
            raise _absent()
    return OperationFound(operation_id=wanted, outcome=found.outcome, bar_id=found.bar_id, result=found.result)


async def _may_read(connection: Any, person: Person, bar_id: UUID) -> bool:
    return person.is_operator or await membership.role_of(connection, person, bar_id) is not None


def _absent() -> OperationNotFound:
    return OperationNotFound("There is no such operation. If it was asked for just now it may still be under way.")
