"""What the web application works with: put together by `web.composition`, handed to routes by the app's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.datastructures import State

from mpesa_sync.db.operations import Origin
from mpesa_sync.db.pool import Database
from mpesa_sync.identity.people import Person
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.live.hub import Hub
from mpesa_sync.secret import Secret
from mpesa_sync.settings import LOOPBACK
from mpesa_sync.sync.settings_service import SettingsService
from mpesa_sync.web.menu_view import MenuCards, no_cards

_KEY: Final = "context"
_LONGEST_CLIENT: Final = 200


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one serving process.

    `spare` has connections of its own, which requests cannot use up. `tokens` is None where no secret for bearer
    tokens is set. `alert_urls` are the operators' channels of the settings. `menu_cards` gives what was ordered at a
    bar, which the platform's tables do not hold. `allowed_origins`: whose pages may ask what customers may ask;
    `trusted_proxies`: whose word counts for where a request comes from.
    """

    database: Database
    spare: Database
    hub: Hub
    settings_service: SettingsService
    tokens: Tokens | None
    alert_urls: tuple[Secret, ...] = ()
    menu_cards: MenuCards = no_cards
    allowed_origins: frozenset[str] = frozenset()
    trusted_proxies: tuple[str, ...] = LOOPBACK

    def state(self) -> State:
        """Return it as the state of an application, which hands it out as it is."""
        return State({_KEY: self}, deep_copy=False)


def of(connection: ASGIConnection[Any, Any, Any, Any]) -> Context:
    """Return the context of the application that serves a request."""
    found: Context = connection.app.state[_KEY]
    return found


def client_address(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """Return the address that a request comes from, as the server (behind a trusted proxy: the proxy) says."""
    return connection.client.host if connection.client else ""


def origin_of(connection: ASGIConnection[Any, Any, Any, Any], person: Person) -> Origin:
    """Return from where a person asks, for the audit: the address, and what the client calls itself, as far as it is
    printable."""
    client = "".join(c for c in connection.headers.get("user-agent", "") if c.isascii() and c.isprintable())
    return Origin(person.id, client_address(connection), client[:_LONGEST_CLIENT].strip())
