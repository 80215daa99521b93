"""A database role that may sign in and nothing else, gone again after the test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Role:
    """Its name, and the URL under which it signs in to the database of the test."""

    name: str
    url: str


@asynccontextmanager
async def login_role(connection: Any, database_url: str) -> AsyncIterator[Role]:
    """Create a role without any rights; take it and whatever was granted to it away at the end."""
    name, password = f"r_{secrets.token_hex(6)}", secrets.token_hex(12)
    parts = urlsplit(database_url)
    await connection.execute(f"create role {name} login password '{password}' nosuperuser nobypassrls")
    try:
        yield Role(name, parts._replace(netloc=f"{name}:{password}@{parts.hostname}:{parts.port}").geturl())
    finally:
        await connection.execute(f"drop owned by {name}; drop role {name}")
