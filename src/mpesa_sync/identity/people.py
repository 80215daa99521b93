"""People as values: who asks, how they were recognised, and what a role allows. Nothing is read here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Via(StrEnum):
    """How a person was recognised."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105 - a word, no secret


class Role(StrEnum):
    """What a member is in one bar, the strongest first."""

    OWNER = "owner"
    MANAGER = "manager"
    STAFF = "staff"

    @property
    def may_write(self) -> bool:
        """Return whether this role may save and switch; every role may read."""
        return self in (Role.OWNER, Role.MANAGER)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in. `name` is that of the local account, "" for a token's subject without one."""

    id: UUID
    name: str
    is_operator: bool
    via: Via

    @property
    def actor(self) -> str:
        """Return how the history names this person: `staff:asha`, `operator:asha`, or `user:<id>`."""
        if not self.name:
            return f"user:{self.id}"
        return f"{'operator' if self.is_operator else 'staff'}:{self.name}"


@dataclass(frozen=True, slots=True)
class Membership:
    """One bar that a person belongs to, with the strongest role they have there."""

    bar_id: UUID
    role: Role
