"""What the web application works with: put together by `web.composition`, handed to routes by the app's state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.datastructures import State

from mpesa_sync.db.pool import Database
from mpesa_sync.identity.tokens import Tokens
from mpesa_sync.live.hub import Hub
from mpesa_sync.sync.settings_service import SettingsService

_KEY: Final = "context"


@dataclass(frozen=True, slots=True)
class Context:
    """The parts of one serving process. `tokens` is None where no secret for bearer tokens is set."""

    database: Database
    hub: Hub
    settings_service: SettingsService
    tokens: Tokens | None

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
