"""SQL of local accounts and of who belongs to which bar: ours is written, the platform's `user_bars` only read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from mpesa_sync.secret import Secret

ADD: Final = """
insert into mpesa_sync.accounts (name, password_hash, is_operator) values ($1, $2, $3)
on conflict do nothing
returning id, name, is_operator, created_at
"""
BY_ID: Final = "select id, name, is_operator, created_at from mpesa_sync.accounts where id = $1"
BY_NAME: Final = "select id, name, is_operator, created_at from mpesa_sync.accounts where lower(name) = $1"
CANDIDATE: Final = """
select id, name, is_operator, created_at, password_hash from mpesa_sync.accounts where lower(name) = $1
"""
LOCK: Final = "select password_hash from mpesa_sync.accounts where id = $1 for no key update"
ALL: Final = "select id, name, is_operator, created_at from mpesa_sync.accounts order by lower(name)"
REMOVE: Final = "delete from mpesa_sync.accounts where id = $1"
CHANGE_HASH: Final = "update mpesa_sync.accounts set password_hash = $2, password_changed_at = now() where id = $1"
RENEW_HASH: Final = "update mpesa_sync.accounts set password_hash = $2 where id = $1"

GRANTED: Final = """
select m.account_id, m.bar_id, m.role, b.id is not null as bar_exists, to_jsonb(b) ->> 'slug' as slug
  from mpesa_sync.memberships m
  left join public.bars b on b.id = m.bar_id
 order by m.account_id, slug nulls last, m.bar_id
"""
GRANT: Final = """
insert into mpesa_sync.memberships as m (account_id, bar_id, role) values ($1, $2, $3)
on conflict (account_id, bar_id)
do update set role = case when $4 then excluded.role else m.role end
returning role
"""
REVOKE: Final = "delete from mpesa_sync.memberships where account_id = $1 and bar_id = $2"
ROLE_OF: Final = "select mpesa_sync.role_of_v1($1, $2)"
BARS_OF: Final = "select bar_id, role from mpesa_sync.bars_of_v1($1) order by bar_id"


@dataclass(frozen=True, slots=True)
class Account:
    """A local account. Its password hash is never part of it."""

    id: UUID
    name: str
    is_operator: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Granted:
    """One membership that stands in our own table. `slug` is None where the bar has none or is gone."""

    account_id: UUID
    bar_id: UUID
    role: str
    bar_exists: bool
    slug: str | None


async def add(connection: Any, name: str, password_hash: Secret, *, is_operator: bool) -> Account | None:
    """Insert an account and return it; None where the name is taken, in whatever case."""
    return _account(await connection.fetchrow(ADD, name, password_hash.reveal(), is_operator))


async def by_id(connection: Any, account_id: UUID) -> Account | None:
    """Return an account, None where there is none (any more)."""
    return _account(await connection.fetchrow(BY_ID, account_id))


async def by_name(connection: Any, name: str) -> Account | None:
    """Return the account of a name, in whatever case it is written."""
    return _account(await connection.fetchrow(BY_NAME, name.lower()))


async def with_password(connection: Any, name: str) -> tuple[Account, Secret] | None:
    """Return the account of a name and its password hash."""
    record = await connection.fetchrow(CANDIDATE, name.lower())
    account = _account(record)
    return None if account is None else (account, Secret(record["password_hash"]))


async def lock(connection: Any, account_id: UUID) -> Secret | None:
    """Lock an account against other changes of it and return its password hash, None where it is gone."""
    stored = await connection.fetchval(LOCK, account_id)
    return None if stored is None else Secret(stored)


async def every(connection: Any) -> list[Account]:
    """Return all accounts, by name."""
    return [account for account in map(_account, await connection.fetch(ALL)) if account]


async def remove(connection: Any, account_id: UUID) -> bool:
    """Delete an account with its memberships and sessions; return whether it was there."""
    return bool(await connection.execute(REMOVE, account_id) == "DELETE 1")


async def set_password(connection: Any, account_id: UUID, password_hash: Secret) -> bool:
    """Store the hash of a new password; return whether the account was there."""
    return bool(await connection.execute(CHANGE_HASH, account_id, password_hash.reveal()) == "UPDATE 1")


async def set_hash(connection: Any, account_id: UUID, password_hash: Secret) -> None:
    """Store the same password hashed anew."""
    await connection.execute(RENEW_HASH, account_id, password_hash.reveal())


async def granted(connection: Any) -> list[Granted]:
    """Return every membership of our own table, also those of bars that are gone."""
    return [Granted(**record) for record in await connection.fetch(GRANTED)]


async def grant(connection: Any, account_id: UUID, bar_id: UUID, role: str, *, replace: bool) -> str:
    """Make an account a member of a bar and return the role that it has there now.

    Arguments:
        replace: whether a membership that is there already gets this role, or keeps its own.
    """
    return str(await connection.fetchval(GRANT, account_id, bar_id, role, replace))


async def revoke(connection: Any, account_id: UUID, bar_id: UUID) -> bool:
    """Delete one membership; return whether it was there."""
    return bool(await connection.execute(REVOKE, account_id, bar_id) == "DELETE 1")


async def role_of(connection: Any, person_id: UUID, bar_id: UUID) -> str | None:
    """Return the strongest role of a person in a bar, by our memberships and the platform's; None: no member."""
    role: str | None = await connection.fetchval(ROLE_OF, person_id, bar_id)
    return role


async def bars_of(connection: Any, person_id: UUID) -> list[tuple[UUID, str]]:
    """Return the bars that a person belongs to, each with the strongest role, by the bar's id."""
    return [(record["bar_id"], record["role"]) for record in await connection.fetch(BARS_OF, person_id)]


def _account(record: Any) -> Account | None:
    if record is None:
        return None
    return Account(record["id"], record["name"], record["is_operator"], record["created_at"])
