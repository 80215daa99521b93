"""Signing in with name and password, and the budgets that keep anybody from guessing (issue 3).

An attempt is counted before the password is looked at and given back where it was right, so that parallel guesses
cannot pass a budget.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import accounts, session, sign_ins, transaction
from mpesa_sync.db.accounts import Account
from mpesa_sync.db.pool import Database
from mpesa_sync.db.sign_ins import Counted
from mpesa_sync.errors import SignInRefused, TooManyAttempts
from mpesa_sync.identity import passwords, sessions
from mpesa_sync.identity.accounts import is_name
from mpesa_sync.identity.sessions import Session
from mpesa_sync.secret import Secret

WINDOW: Final = timedelta(minutes=15)
PER_ACCOUNT_AND_ADDRESS: Final = 10
PER_ADDRESS: Final = 50
PER_ACCOUNT: Final = 100
"""Attempts in one window. The last does not bind an address from which the account signed in lately: a stranger who
guesses does not lock the person out."""
KNOWN_FOR: Final = timedelta(days=30)

_REFUSED: Final = "Name and password do not belong together."
_PURGED: Final = 100
"""How many buckets an attempt deletes at most; it makes three at most."""
_V6_HOST_BITS: Final = 64
_NOBODY: Final = UUID(int=0)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """An attempt that is within the budgets: what was counted for it, and the account where there is one."""

    counted: tuple[Counted, ...]
    account: Account | None
    password_hash: Secret | None


async def sign_in(database: Database, name: str, password: Secret, address: str) -> Session:
    """Begin a session for whoever knows the password of an account. Its token is always a new one.

    Arguments:
        name: of the account, in whatever case.
        address: where the request comes from, an IP address; of IPv6 the first 64 bits count.
    Raises:
        SignInRefused: they do not belong together; the same for a name that does not exist, after the same time.
        TooManyAttempts: a budget is used up, also for the right password; no password was looked at.
        DatabaseFault: translated.
    """
    name = name.lower() if is_name(name) else ""
    address = _network_of(address)
    attempt = await _counted_in(database, name, address)
    renewed: Secret | None = None
    try:
        is_right = await passwords.matches(attempt.password_hash, password)
        if is_right and attempt.password_hash is not None and passwords.is_outdated(attempt.password_hash):
            renewed = await passwords.hashed(password)
    except TooManyAttempts:
        await _give_back(database, attempt)
        raise
    if attempt.account is None or attempt.password_hash is None or not is_right:
        raise SignInRefused(_REFUSED)
    return await _begin(database, attempt, attempt.account, address, renewed)


async def _counted_in(database: Database, name: str, address: str) -> _Attempt:
    """Count an attempt in every budget; where one is used up, count it nowhere and refuse."""

    async def work(connection: Any) -> _Attempt:
        found = await accounts.with_password(connection, name)
        account, password_hash = found or (None, None)
        account_id = _NOBODY if account is None else account.id  # asked for both: no answer may be quicker
        is_known = await sign_ins.is_known(connection, account_id, _known(account_id, address), KNOWN_FOR)
        budgets = _budgets(name, address, is_known=is_known)
        counted = await sign_ins.count(connection, list(budgets), WINDOW)
        if waits_s := [one.remaining_s for one in counted if one.count > budgets[one.bucket]]:
            raise _too_many(max(waits_s))
        # Here too, not at a success alone: whoever only guesses must not fill the table. Last, when this transaction
        # waits for no bucket any more.
        await sign_ins.purge(connection, WINDOW, at_most=_PURGED)
        return _Attempt(tuple(counted), account, password_hash)

    return await transaction.once(database, session.WRITE, work)


async def _give_back(database: Database, attempt: _Attempt) -> None:
    async def work(connection: Any) -> None:
        await sign_ins.give_back(connection, attempt.counted)

    await transaction.once(database, session.WRITE, work)


async def _begin(
    database: Database, attempt: _Attempt, account: Account, address: str, renewed: Secret | None
) -> Session:
    """Begin the session, unless the account or its password has changed since the password was looked at."""

    async def work(connection: Any) -> Session:
        if await accounts.lock(connection, account.id) != attempt.password_hash:
            raise SignInRefused(_REFUSED)
        if renewed is not None:
            await accounts.set_hash(connection, account.id, renewed)
        await sign_ins.give_back(connection, attempt.counted)
        await sign_ins.remember(connection, account.id, _known(account.id, address), KNOWN_FOR)
        return await sessions.insert(connection, account)

    return await transaction.once(database, session.WRITE, work)


def _budgets(name: str, address: str, *, is_known: bool) -> Mapping[str, int]:
    """Return the buckets that an attempt counts in, each with its budget."""
    budgets = {
        _key("account and address", name, address): PER_ACCOUNT_AND_ADDRESS,
        _key("address", address): PER_ADDRESS,
    }
    if not is_known:
        budgets[_key("account", name)] = PER_ACCOUNT
    return budgets


def _known(account_id: UUID, address: str) -> str:
    return _key("known", str(account_id), address)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _network_of(address: str) -> str:
    """Return what one customer of a network provider has: an IPv4 address, the first 64 bits of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(found) >> _V6_HOST_BITS << _V6_HOST_BITS)}/{_V6_HOST_BITS}"


def _too_many(wait_s: int) -> TooManyAttempts:
    wait_s = max(1, wait_s)
    minutes = -(-wait_s // 60)
    return TooManyAttempts(
        f"Too many failed sign-ins. Try again in {minutes} minute{'' if minutes == 1 else 's'}.", retry_after_s=wait_s
    )
