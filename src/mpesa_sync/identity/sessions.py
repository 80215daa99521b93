"""Sessions on PostgreSQL, and the CSRF token that belongs to each. The token itself is stored nowhere."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from mpesa_sync.db import session, transaction
from mpesa_sync.db import sessions as rows
from mpesa_sync.db.accounts import Account
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import DatabaseFault
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.monitoring import logs
from mpesa_sync.secret import Secret

LIFE: Final = timedelta(hours=12)
"""From signing in to the end of a session, however much it is used."""
IDLE: Final = timedelta(hours=2)
"""A session that is not used for so long is over."""
_TOUCH_AFTER: Final = timedelta(minutes=1)
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_log: Final = logs.get("identity")


@dataclass(frozen=True, slots=True)
class Session:
    """A person who is signed in. `csrf` goes into every form; `expires_at` is the latest end."""

    token: Secret
    person: Person
    csrf: str = field(repr=False)
    expires_at: datetime


async def create(database: Database, account: Account) -> Session:
    """Begin a session for an account whose password was just checked; its token is always a new one."""

    async def work(connection: Any) -> Session:
        return await insert(connection, account)

    return await transaction.once(database, session.WRITE, work)


async def insert(connection: Any, account: Account) -> Session:
    """Do what `create` does, inside the transaction of `connection`, and delete sessions that are over."""
    token = Secret(secrets.token_urlsafe(32))
    expires_at = await rows.add(connection, _digest(token), account.id, LIFE)
    await rows.purge(connection, idle=IDLE)
    return Session(token, Person(account.id, account.name, account.is_operator, Via.SESSION), _csrf(token), expires_at)


async def find(database: Database, token: Secret) -> Session | None:
    """Return the session of a token; None for one that never was, is over, or was ended.

    Its use is written down at most once a minute, in a transaction of its own.
    """
    if not _TOKEN.fullmatch(token.reveal()):
        return None
    digest = _digest(token)
    async with database.reading() as connection:
        found = await rows.find(connection, digest, idle=IDLE, touch_after=_TOUCH_AFTER)
    if found is None:
        return None
    if found.touch_is_due:
        await _touch(database, digest)
    person = Person(found.account_id, found.name, found.is_operator, Via.SESSION)
    return Session(token, person, _csrf(token), found.expires_at)


async def end(database: Database, token: Secret) -> None:
    """End a session; nothing happens where there is none of this token."""
    if not _TOKEN.fullmatch(token.reveal()):
        return

    async def work(connection: Any) -> None:
        await rows.end(connection, _digest(token))

    await transaction.once(database, session.WRITE, work)


def csrf_matches(session_: Session, posted: str) -> bool:
    """Return whether what a form posted is the CSRF token of this very session. Takes the same time for any text."""
    return hmac.compare_digest(session_.csrf.encode(), posted.encode("utf-8", "surrogatepass"))


async def _touch(database: Database, digest: bytes) -> None:
    async def work(connection: Any) -> None:
        await rows.touch(connection, digest, _TOUCH_AFTER)

    try:
        await transaction.once(database, session.WRITE, work)
    except DatabaseFault as fault:  # the session is good all the same; the next request writes it down
        _log.debug("last use of a session not written down", error=type(fault).__name__)


def _digest(token: Secret) -> bytes:
    return hashlib.sha256(token.reveal().encode()).digest()


def _csrf(token: Secret) -> str:
    proof = hmac.new(token.reveal().encode(), b"csrf", hashlib.sha256).digest()
    return urlsafe_b64encode(proof).rstrip(b"=").decode()
