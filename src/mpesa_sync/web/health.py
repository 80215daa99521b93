"""/livez and /readyz: whether this process runs, and whether it can do its work, each check by name and bounded."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from litestar import Request, Response, get

from mpesa_sync.db import migrations
from mpesa_sync.errors import MpesaSyncError, SchemaError
from mpesa_sync.web import context

_CHECK_TIMEOUT_S: Final = 2.0


class Health(msgspec.Struct, frozen=True):
    """Whether it is ready, and each check by name: `ok`, or what is wrong."""

    ready: bool
    checks: dict[str, str]


@get("/livez", include_in_schema=False)
async def livez() -> dict[str, bool]:
    """Answer: this process runs."""
    return {"alive": True}


@get("/readyz", include_in_schema=False)
async def readyz(request: Request[Any, Any, Any]) -> Response[Health]:
    """Answer 200 where every check is well, else 503 with what is wrong."""
    checks = {"database": await _database(request), "feed": _feed(request)}
    ready = all(said.startswith("ok") for said in checks.values())
    return Response(Health(ready, checks), status_code=200 if ready else 503, headers={"cache-control": "no-store"})


async def _database(request: Request[Any, Any, Any]) -> str:
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S), context.of(request).spare.reading() as connection:
            state = await migrations.state(connection)
    except TimeoutError:
        return "does not answer in time"
    except SchemaError:
        return "the tables are not as they should be"
    except MpesaSyncError as error:
        return error.code
    return "ok" if state.is_current else "the schema mpesa_sync is not of this version"


def _feed(request: Request[Any, Any, Any]) -> str:
    """Return `ok` with the mode of the live feed (facts/live.md, L2 and L6)."""
    state = context.of(request).hub.state
    if state.is_draining:
        return "draining"
    return f"ok ({state.mode})" if state.is_live else "the live feed is not proven"
