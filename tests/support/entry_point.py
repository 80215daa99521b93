"""Calling the SQL entry point as another program does, and what its refusals are called in Python."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg
import pytest

from mpesa_sync.errors import (
    AmbiguousEnvironment,
    CredentialsMissing,
    CredentialsUnusable,
    EnvironmentNotAllowed,
    MpesaSyncError,
)

SWITCH: Final = "select operation_id, changed, environment from mpesa_sync.set_mpesa_status_v1($1, $2, $3)"
REFUSALS: Final[dict[type[MpesaSyncError], str]] = {
    CredentialsMissing: "MS004",
    CredentialsUnusable: "MS005",
    AmbiguousEnvironment: "MS006",
    EnvironmentNotAllowed: "MS007",
}


async def switch(connection: Any, bar: UUID | None, on: bool | None = True, actor: str | None = "till") -> Any:
    """Call the entry point and return its row."""
    return await connection.fetchrow(SWITCH, bar, on, actor)


async def refused(connection: Any, *arguments: Any) -> str:
    """Return the SQLSTATE of a refusal, which says what to do, quotes no row and changed nothing."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        async with connection.transaction():
            await switch(connection, *arguments)
    error = caught.value
    assert error.message
    assert error.detail is None
    assert not str(error.sqlstate).startswith("MS") or error.hint
    return str(error.sqlstate)


@asynccontextmanager
async def undone(connection: Any) -> AsyncIterator[None]:
    """Whatever the block writes is rolled back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()
