"""Puts together what the web application works with: from an open database to a started hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from mpesa_sync.bootstrap import Serving
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.limits import Limits
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.settings import Settings
from mpesa_sync.sync import spool
from mpesa_sync.sync.settings_service import SettingsService
from mpesa_sync.web import metrics_shared
from mpesa_sync.web.context import Context

_log: Final = logs.get("alerts")
_SPOOL_EVERY_S: Final = 5.0
SPARE: Final = 4
"""Connections that no request can use up: open pages and health go on while saves exhaust the pool (faults.md)."""


@asynccontextmanager
async def started(serving: Serving, settings: Settings) -> AsyncIterator[Context]:
    """Give the context of a serving process, its live feed started; it is closed at the end."""
    database = serving.database
    listen_url = settings.listen_url or serving.opened.place.url
    sparing = connect(
        serving.opened.place.url, allow_sandbox=database.allow_sandbox, pool_size=SPARE, clock=database.clock
    )
    async with sparing as spare:
        spare.keys = database.keys
        async with (
            Hub(spare, listen_url=listen_url, limits=limits_of(settings)) as hub,
            taking_in(database),
            metrics_shared.noting(database, hub),
        ):
            yield Context(
                database=database,
                spare=spare,
                hub=hub,
                settings_service=SettingsService(database, callback_url=settings.callback_url),
                tokens=tokens_of(serving, settings),
                alert_urls=settings.alert_urls,
                allowed_origins=frozenset(settings.allowed_origins),
                trusted_proxies=settings.trusted_proxies,
            )


@asynccontextmanager
async def taking_in(database: Database, *, every_s: float = _SPOOL_EVERY_S) -> AsyncIterator[None]:
    """Take in alerts that wait in files, for as long as the block lasts: background jobs may run elsewhere, or nowhere.

    Arguments:
        every_s: seconds from one try to the next; nothing is done where nothing can wait.
    """
    task = asyncio.create_task(_take_in_for_ever(database, every_s), name="spool")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _take_in_for_ever(database: Database, every_s: float) -> None:
    while True:
        try:
            if database.alerts_may_wait:
                await spool.take_in_when_it_can(database)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the next alert must not wait for a restart
            database.alerts_may_wait = True
            _log.error(Event.ALERT_NOT_STORED, error=type(exc).__name__, exc_info=exc)
        await asyncio.sleep(every_s)


def tokens_of(serving: Serving, settings: Settings) -> Tokens | None:
    """Return what checks bearer tokens, None where no secret is set."""
    if serving.jwt_secret is None:
        return None
    return Tokens(serving.jwt_secret, issuer=settings.jwt_issuer, audience=settings.jwt_audience)


def limits_of(settings: Settings) -> Limits:
    """Return the limits of the live path, with the caps of the settings."""
    return Limits(
        streams=settings.max_streams,
        streams_per_address=settings.max_streams_per_address,
        streams_per_bar=settings.max_streams_per_bar,
    )
