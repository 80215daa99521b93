"""SQL of sessions. A session is known by the SHA-256 of its token; all times are compared by the database's clock."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

ADD: Final = """
insert into mpesa_sync.sessions (token_digest, account_id, expires_at) values ($1, $2, now() + $3::interval)
returning expires_at
"""
FIND: Final = """
select a.id as account_id, a.name, a.is_operator, s.expires_at,
       s.last_seen_at < now() - $3::interval as touch_is_due
  from mpesa_sync.sessions s
  join mpesa_sync.accounts a on a.id = s.account_id
 where s.token_digest = $1 and s.expires_at > now() and s.last_seen_at > now() - $2::interval
"""
TOUCH: Final = """
update mpesa_sync.sessions set last_seen_at = now() where token_digest = $1 and last_seen_at < now() - $2::interval
"""
END: Final = "delete from mpesa_sync.sessions where token_digest = $1"
END_ALL: Final = "delete from mpesa_sync.sessions where account_id = $1"
PURGE: Final = """
delete from mpesa_sync.sessions s
 using (select o.token_digest from mpesa_sync.sessions o
         where o.expires_at <= now() or o.last_seen_at <= now() - $1::interval
         order by o.token_digest limit 1000 for update skip locked) old
 where s.token_digest = old.token_digest
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A session that is good, and whose it is. `touch_is_due`: its last use was written down a while ago."""

    account_id: UUID
    name: str
    is_operator: bool
    expires_at: datetime
    touch_is_due: bool


async def add(connection: Any, digest: bytes, account_id: UUID, life: timedelta) -> datetime:
    """Insert a session and return when it ends at the latest."""
    expires_at: datetime = await connection.fetchval(ADD, digest, account_id, life)
    return expires_at


async def find(connection: Any, digest: bytes, *, idle: timedelta, touch_after: timedelta) -> Found | None:
    """Return the session of a token's digest, None where it is absent, expired, or was not used for `idle`."""
    record = await connection.fetchrow(FIND, digest, idle, touch_after)
    return None if record is None else Found(**record)


async def touch(connection: Any, digest: bytes, touch_after: timedelta) -> None:
    """Write down that a session is used, unless another request has just done so."""
    await connection.execute(TOUCH, digest, touch_after)


async def end(connection: Any, digest: bytes) -> None:
    """Delete one session."""
    await connection.execute(END, digest)


async def end_all(connection: Any, account_id: UUID) -> None:
    """Delete every session of an account."""
    await connection.execute(END_ALL, account_id)


async def purge(connection: Any, *, idle: timedelta) -> None:
    """Delete sessions that are over, without waiting for anybody who does the same."""
    await connection.execute(PURGE, idle)
