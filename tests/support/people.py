"""Accounts for tests, and password hashing that is counted and quick."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from mpesa_sync.db.accounts import Account
from mpesa_sync.db.pool import Database
from mpesa_sync.identity import accounts, passwords
from mpesa_sync.identity.people import Person, Role, Via
from mpesa_sync.secret import Secret

PASSWORD: Final = passwords.generate()
WRONG: Final = passwords.generate()


class CountedHasher(PasswordHasher):
    """Argon2id with the smallest parameters; `verified` counts how often a hash was verified, with which cost."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified: list[str] = []

    def verify(self, hash: str | bytes, password: str | bytes) -> Any:
        """Verify, and note the parameters and whether it matched."""
        encoded = hash if isinstance(hash, str) else hash.decode()
        cost = "$".join(encoded.split("$")[:4])
        try:
            super().verify(hash, password)
        except VerificationError:
            self.verified.append(f"{cost} no")
            raise
        self.verified.append(f"{cost} yes")
        return True


def quick_hashing(monkeypatch: pytest.MonkeyPatch) -> CountedHasher:
    """Make hashing in this process quick and counted until the test ends."""
    hasher = CountedHasher()
    monkeypatch.setattr(passwords, "_HASHER", hasher)
    return hasher


async def add_account(database: Database, name: str = "Asha", *, is_operator: bool = False, **bars: UUID) -> Account:
    """Add an account with `PASSWORD`; `bars` are memberships by role: `owner=bar_id`."""
    memberships = {bar_id: Role(role) for role, bar_id in bars.items()}
    return await accounts.add(database, name, PASSWORD, is_operator=is_operator, memberships=memberships)


def person(account: Account) -> Person:
    """The person of an account, as a session knows it."""
    return Person(account.id, account.name, account.is_operator, Via.SESSION)


def secret_of(text: str) -> Secret:
    """A `Secret`, for parametrised texts."""
    return Secret(text)
