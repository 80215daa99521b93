"""Local accounts: made, listed, changed and removed. Every change that takes something away ends the sessions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import accounts as rows
from mpesa_sync.db import session, sessions, transaction
from mpesa_sync.db.accounts import Account, Granted
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import InvalidInput, SyncRefused
from mpesa_sync.identity import passwords
from mpesa_sync.identity.people import Role
from mpesa_sync.secret import Secret

_NAME: Final = re.compile(r"[A-Za-z0-9._@+-]{2,64}")


@dataclass(frozen=True, slots=True)
class Listed:
    """An account and its memberships in our own table."""

    account: Account
    memberships: list[Granted]


def is_name(text: str) -> bool:
    """Return whether a text can name an account: ASCII, so that no two names look the same to a person."""
    return _NAME.fullmatch(text) is not None


def checked_name(text: str) -> str:
    """Return a name for an account, as it was written.

    Raises:
        InvalidInput: it has another form.
    """
    if not is_name(text):
        raise InvalidInput("NAME", "must have 2 to 64 letters, digits and . _ - @ + without spaces")
    return text


async def find(database: Database, name: str) -> Account | None:
    """Return the account of a name, in whatever case; None where there is none.

    Raises:
        InvalidInput: no account can have this name.
    """
    checked_name(name)
    async with database.reading() as connection:
        return await rows.by_name(connection, name)


async def add(
    database: Database,
    name: str,
    password: Secret,
    *,
    is_operator: bool = False,
    memberships: Mapping[UUID, Role] | None = None,
) -> Account:
    """Make an account, with all of its memberships or not at all.

    Arguments:
        name: 2 to 64 letters, digits and . _ - @ +; unique in whatever case.
        password: 10 to 200 characters.
        is_operator: operators see the fleet and belong to no venue.
        memberships: the bars it belongs to; their ids are taken as they are.
    Raises:
        InvalidInput: the name or the password has the wrong form.
        SyncRefused: the name is taken, or an operator was to belong to a bar.
    """
    checked_name(name)
    if is_operator and memberships:
        raise SyncRefused("An operator belongs to no bar.")
    password_hash = await passwords.hashed(password)

    async def work(connection: Any) -> Account:
        account = await rows.add(connection, name, password_hash, is_operator=is_operator)
        if account is None:
            raise SyncRefused(f"There is an account '{name}' already.")
        for bar_id, role in (memberships or {}).items():
            await rows.grant(connection, account.id, bar_id, role, replace=True)
        return account

    return await transaction.once(database, session.WRITE, work)


async def grant(
    database: Database, account: Account, memberships: Mapping[UUID, Role], *, replace: bool = True
) -> Mapping[UUID, Role]:
    """Make an account a member of bars, all of them or none; return the role it has in each of them now.

    Arguments:
        replace: whether a membership that is there already gets the role given, or keeps its own.
    Raises:
        SyncRefused: the account is an operator's, or is gone.
    """
    if account.is_operator:
        raise SyncRefused("An operator belongs to no bar.")

    async def work(connection: Any) -> Mapping[UUID, Role]:
        if await rows.lock(connection, account.id) is None:
            raise SyncRefused(f"There is no account '{account.name}' any more.")
        return {
            bar_id: Role(await rows.grant(connection, account.id, bar_id, role, replace=replace))
            for bar_id, role in memberships.items()
        }

    return await transaction.once(database, session.WRITE, work)


async def revoke(database: Database, account: Account, bar_id: UUID) -> bool:
    """Take one membership away and end the sessions of the account; return whether it was there."""

    async def work(connection: Any) -> bool:
        there = await rows.revoke(connection, account.id, bar_id)
        if there:
            await sessions.end_all(connection, account.id)
        return there

    return await transaction.once(database, session.WRITE, work)


async def remove(database: Database, account: Account) -> bool:
    """Remove an account with its memberships and sessions; return whether it was there."""

    async def work(connection: Any) -> bool:
        return await rows.remove(connection, account.id)

    return await transaction.once(database, session.WRITE, work)


async def set_password(database: Database, account: Account, password: Secret) -> None:
    """Give an account another password and end all its sessions.

    Raises:
        InvalidInput: the password has the wrong form.
        SyncRefused: the account is gone.
    """
    password_hash = await passwords.hashed(password)

    async def work(connection: Any) -> None:
        if not await rows.set_password(connection, account.id, password_hash):
            raise SyncRefused(f"There is no account '{account.name}' any more.")
        # A statement of its own, after the account is locked: it sees a session that a sign-in has just committed.
        await sessions.end_all(connection, account.id)

    await transaction.once(database, session.WRITE, work)


async def listed(database: Database) -> list[Listed]:
    """Return every account with its memberships, by name. Reads only."""
    async with database.reading() as connection:
        every, granted = await rows.every(connection), await rows.granted(connection)
    found = {account.id: Listed(account, []) for account in every}
    for one in granted:
        if one.account_id in found:  # else its account was made between the two statements
            found[one.account_id].memberships.append(one)
    return list(found.values())
