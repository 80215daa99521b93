"""Which bars a person belongs to: our own memberships and the platform's `user_bars`, read anew for every question."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from mpesa_sync.db import accounts
from mpesa_sync.errors import BarNotFound, NotAllowed
from mpesa_sync.identity.people import Membership, Person, Role


async def role_of(connection: Any, person: Person, bar_id: UUID) -> Role | None:
    """Return the strongest role of a person in a bar; None for no member, and for operators, who belong to no bar."""
    if person.is_operator:
        return None
    role = await accounts.role_of(connection, person.id, bar_id)
    return None if role is None else Role(role)


async def bars_of(connection: Any, person: Person) -> list[Membership]:
    """Return the bars that a person belongs to, by the bar's id; none for operators."""
    if person.is_operator:
        return []
    return [Membership(bar_id, Role(role)) for bar_id, role in await accounts.bars_of(connection, person.id)]


async def require(connection: Any, person: Person, bar_id: UUID, *, to_write: bool) -> Role:
    """Return the role of a person in a bar, and refuse who has none there.

    Whoever writes calls it on the connection of the transaction that writes: a membership that was taken away
    before does not count there (issue 3).

    Arguments:
        to_write: whether the person wants to save or switch, and not only to see.
    Raises:
        BarNotFound: no member; the same answer as for a bar that is absent.
        NotAllowed: a member whose role may only read.
    """
    role = await role_of(connection, person, bar_id)
    if role is None:
        raise BarNotFound("Bar not found")
    if to_write and not role.may_write:
        raise NotAllowed("Your role at this bar may look and not change. Ask its owner or a manager.")
    return role
