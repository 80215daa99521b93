"""The web application on a real socket in the test's own event loop, and people who ask it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from mpesa_sync.bootstrap import Opened, Place, Serving
from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db.pool import Database
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.live.hub import Hub
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.web import composition, server
from mpesa_sync.web.app import create_app
from mpesa_sync.web.context import Context

JWT_SECRET: Final = generate_key()
OTHER_SITES: Final[tuple[dict[str, str], ...]] = (
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:1"},
    {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
)
"""How a browser says that a page of another site asks."""
NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that never see a certificate: loading those of all authorities costs as much as a small test."""
_ADD_ACCOUNT: Final = """
insert into mpesa_sync.accounts (name, password_hash, is_operator) values ($1, '!', $2) returning id
"""
_ADD_MEMBERSHIP: Final = "insert into mpesa_sync.memberships (account_id, bar_id, role) values ($1, $2, $3)"


@dataclass
class Asker:
    """Somebody with a bearer token."""

    id: UUID
    name: str
    headers: dict[str, str]


@dataclass
class Site:
    """A serving process: its address, a client without any identity, and what it works with."""

    url: str
    client: httpx.AsyncClient
    context: Context
    hub: Hub
    tokens: Tokens

    async def person(self, sql: Any, *bars: UUID, role: str = "owner", operator: bool = False) -> Asker:
        """Return a new account with a role in each of the bars, and its bearer token."""
        name = f"p{uuid4().hex[:12]}"
        account = await sql.fetchval(_ADD_ACCOUNT, name, operator)
        for bar in bars:
            await sql.execute(_ADD_MEMBERSHIP, account, bar, role)
        return Asker(account, name, self.bearer(account))

    def bearer(self, person: UUID) -> dict[str, str]:
        """Return the headers of a bearer token."""
        return {"authorization": f"Bearer {self.tokens.mint(person, 600).reveal()}"}


@asynccontextmanager
async def running(database: Database, url: str, **settings: Any) -> AsyncIterator[Site]:
    """Serve a database on a free port of this machine, until the block ends."""
    place = Place(Secret(url), "a test", ())
    chosen = Settings(**settings)
    serving = Serving(Opened(database, place), JWT_SECRET)
    listening = server.bound("127.0.0.1", 0)
    async with (
        composition.started(serving, chosen) as context,
        server.serving(create_app(context), context.hub, listening) as serves,
        httpx.AsyncClient(base_url=serves.url, verify=NO_TLS) as client,
    ):
        assert context.tokens is not None
        yield Site(serves.url, client, context, context.hub, context.tokens)
