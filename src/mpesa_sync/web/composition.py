"""Puts together what the web application works with: from an open database to a started hub."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from mpesa_sync.bootstrap import Serving
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.live.hub import Hub
from mpesa_sync.settings import Settings
from mpesa_sync.sync.settings_service import SettingsService
from mpesa_sync.web.context import Context


@asynccontextmanager
async def started(serving: Serving, settings: Settings) -> AsyncIterator[Context]:
    """Give the context of a serving process, its live feed started; it is closed at the end."""
    database = serving.database
    listen_url = settings.listen_url or serving.opened.place.url
    async with Hub(database, listen_url=listen_url) as hub:
        yield Context(
            database=database,
            hub=hub,
            settings_service=SettingsService(database, callback_url=settings.callback_url),
            tokens=tokens_of(serving, settings),
        )


def tokens_of(serving: Serving, settings: Settings) -> Tokens | None:
    """Return what checks bearer tokens, None where no secret is set."""
    if serving.jwt_secret is None:
        return None
    return Tokens(serving.jwt_secret, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
