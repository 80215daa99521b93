"""The channel over which the owner of a venue hears of trouble: set and removed by operators, its URL sealed."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

from mpesa_sync.crypto import cipher
from mpesa_sync.db import deliveries, session, transaction
from mpesa_sync.db import venue_channels as rows
from mpesa_sync.db.pool import Database
from mpesa_sync.db.venue_channels import VenueChannel
from mpesa_sync.errors import BarNotFound
from mpesa_sync.secret import Secret
from mpesa_sync.sync import channel_urls

_DIGITS: Final = 16
"""Of the name: there are many owners, and nobody looks whether two of them would share a shorter one."""


async def set_channel(database: Database, bar_id: UUID, url: Secret, *, actor: str) -> str:
    """Set where the owner of a venue hears of trouble, in the place of an earlier channel; return its short name.

    Arguments:
        url: as Apprise writes it. A secret: it is stored sealed, and never shown again.
        actor: who sets it.
    Raises:
        InvalidInput: the URL cannot be used.
        BarNotFound: there is no such bar.
        KmsKeyMissing: there is no key to seal it with.
        DatabaseFault, SchemaError: nothing was stored, or it may have been: doing it again does no harm.
    """
    database.keys.require()
    await asyncio.to_thread(channel_urls.service, url)
    sealed = cipher.seal(database.keys, url)

    async def work(connection: Any) -> str:
        if not await rows.bar_exists(connection, bar_id):
            raise BarNotFound("There is no bar with this id.")
        name = channel_urls.name_of(url, await deliveries.salt(connection), digits=_DIGITS)
        await rows.save(connection, bar_id, name, sealed, actor)
        return name

    return await transaction.once(database, session.WRITE, work)


async def remove(database: Database, bar_id: UUID) -> bool:
    """Remove it; return whether there was one.

    Raises:
        DatabaseFault, SchemaError: as `set_channel`.
    """

    async def work(connection: Any) -> bool:
        return await rows.remove(connection, bar_id)

    return await transaction.once(database, session.WRITE, work)


async def read(database: Database, bar_id: UUID) -> VenueChannel | None:
    """Return the channel of a venue's owner, None where none is set. Its URL stays sealed.

    Raises:
        DatabaseFault, SchemaError: the database cannot be asked.
    """
    async with database.reading() as connection:
        return await rows.read(connection, bar_id)
