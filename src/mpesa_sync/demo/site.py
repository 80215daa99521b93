"""The whole web application, served for the demo: with its routes, its staff member, and a token for programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg

from mpesa_sync.bootstrap import Opened, Place, Serving
from mpesa_sync.db.accounts import Account
from mpesa_sync.demo import menu_cards, routes, venues
from mpesa_sync.demo.desk import Desk
from mpesa_sync.demo.stage import STAFF, Stage
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.identity import accounts, passwords
from mpesa_sync.identity.people import Role
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.web import composition, server
from mpesa_sync.web.app import create_app

HOST: Final = "127.0.0.1"
"""The demo has a button that signs anybody in: it is served to this machine only."""
NAME: Final = STAFF.removeprefix("staff:")
"""Who owns all sample venues."""
OPERATOR: Final = "odhiambo"
"""Who looks after alerts."""
TOKEN_LIFE_S: Final = 12 * 3600
_OUTSIDERS: Final = 3


@dataclass(frozen=True, slots=True)
class Site:
    """The demo's site: its address, the staff member's name and password, and a bearer token of the same person.

    `operator` signs in with `operator_password`. `port_taken`: the port that was wanted and was not free, None where it
    was.
    """

    url: str
    account: Account
    password: Secret
    token: Secret
    operator: str
    operator_password: Secret
    port_taken: int | None = None


@asynccontextmanager
async def served(stage: Stage, *, port: int = 0) -> AsyncIterator[Site]:
    """Serve the stage's database until the block ends; then open pages are told, and the server stops.

    Arguments:
        port: the port that is wanted, 0 for any; where it is taken, any free one.
    """
    password, operator_password = passwords.generate(), passwords.generate()
    everywhere = {venue.id: Role.OWNER for venue in venues.VENUES}
    account = await accounts.add(stage.database, NAME, password, memberships=everywhere)
    await accounts.add(stage.database, OPERATOR, operator_password, is_operator=True)
    settings = Settings()
    place = Place(stage.url, "the demo", (stage.key,), is_embedded=True)
    serving = Serving(Opened(stage.database, place), stage.token_key)
    listening, taken = _bound(port)
    async with (
        asyncpg.create_pool(
            stage.url.reveal(),
            min_size=0,
            max_size=_OUTSIDERS,
            server_settings={"application_name": "another program"},
        ) as outside,
        composition.started(serving, settings) as context,
    ):
        context = replace(context, menu_cards=menu_cards.of_bar)
        app = create_app(context, more_routes=routes.ROUTES, framed=True, begins_at=routes.PATH)
        app.state[routes.DESK] = Desk(
            database=stage.database, url=stage.url, key=stage.key, outside=outside, account=account
        )
        assert context.tokens is not None
        token = context.tokens.mint(account.id, TOKEN_LIFE_S)
        async with server.serving(app, context.hub, listening) as running:
            yield Site(running.url, account, password, token, OPERATOR, operator_password, taken)


def _bound(port: int) -> tuple[Any, int | None]:
    try:
        return server.bound(HOST, port), None
    except ConfigurationError:
        if port == 0:
            raise
        return server.bound(HOST, 0), port
