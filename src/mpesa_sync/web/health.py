"""/livez and /readyz: whether this process runs, and whether it can do its work, each check by name and bounded."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from litestar import Request, Response, get

from mpesa_sync.db import migrations, reconciler
from mpesa_sync.errors import MpesaSyncError, SchemaError
from mpesa_sync.sync.reconciler_policy import Policy, Rhythm, policy_on
from mpesa_sync.web import context

_CHECK_TIMEOUT_S: Final = 2.0
_DEGRADED: Final = "degraded"
"""What such a check says does not hinder this process to serve: taking it out would help nobody."""


class Health(msgspec.Struct, frozen=True):
    """Whether it is ready, and each check by name: `ok`, or what is wrong; `degraded` where it can serve."""

    ready: bool
    checks: dict[str, str]


@get("/livez", include_in_schema=False)
async def livez() -> dict[str, bool]:
    """Answer: this process runs."""
    return {"alive": True}


@get("/readyz", include_in_schema=False)
async def readyz(request: Request[Any, Any, Any]) -> Response[Health]:
    """Answer 200 where no check stands against serving, else 503 with what is wrong."""
    database, reconciler = await asyncio.gather(_database(request), _reconciler(request))
    checks = {"database": database, "feed": _feed(request), "reconciler": reconciler}
    ready = all(said.startswith(("ok", _DEGRADED)) for said in checks.values())
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


async def _reconciler(request: Request[Any, Any, Any]) -> str:
    """Return `ok` with the policy, or since when no sweep came to its end: pages are served without."""
    database = context.of(request).spare
    try:
        async with asyncio.timeout(_CHECK_TIMEOUT_S), database.reading() as connection:
            policy = await policy_on(connection, database)
            state = None if policy is Policy.OFF else await reconciler.state(connection)
    except (TimeoutError, MpesaSyncError):
        return f"{_DEGRADED}: not known"
    if policy is not Policy.OFF and (state is None or state.success_age_s > Rhythm().stale_after_s):
        since = "yet"
        if state is not None and state.last_success is not None:
            since = f"for {state.success_age_s / 60:.0f} minutes"
        return f"{_DEGRADED} ({policy}): no sweep has ended {since}"
    return f"ok ({policy})"


def _feed(request: Request[Any, Any, Any]) -> str:
    """Return `ok` with the mode of the live feed (facts/live.md, L2 and L6)."""
    state = context.of(request).hub.state
    if state.is_draining:
        return "draining"
    return f"ok ({state.mode})" if state.is_live else "the live feed is not proven"
