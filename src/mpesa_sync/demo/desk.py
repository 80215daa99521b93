"""`Desk`: what the controls of the /demo page work with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from mpesa_sync.db.accounts import Account
from mpesa_sync.db.pool import Database
from mpesa_sync.demo import observer
from mpesa_sync.demo.observer import Fields
from mpesa_sync.demo.venues import Venue
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.secret import Secret
from mpesa_sync.sync.manager import MpesaSyncManager


@dataclass(slots=True)
class Desk:
    """The database under play, connections of other programs to it, and the staff member.

    `outside` is a pool that shares nothing with the product. `turn`: one control at a time.
    """

    database: Database
    url: Secret
    key: Secret
    outside: Any
    account: Account
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def manager(self) -> MpesaSyncManager:
        """Return a manager on the database under play."""
        return MpesaSyncManager(self.database)

    @property
    def person(self) -> Person:
        """Return the staff member, as signed in."""
        return Person(self.account.id, self.account.name, self.account.is_operator, Via.SESSION)

    async def see(self, venue: Venue) -> Fields:
        """Return both fields of a venue as committed, in one statement of another program."""
        return await observer.see(self.outside, venue.id)

    async def see_all(self) -> dict[UUID, Fields]:
        """Return both fields of every venue as committed, in one statement of another program."""
        return await observer.see_all(self.outside)
