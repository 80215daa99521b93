"""Reads what the page of one venue for operators shows: what `mpesa-sync explain` says, and the last changes."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from mpesa_sync.db import history
from mpesa_sync.identity.sessions import Session
from mpesa_sync.sync import explaining
from mpesa_sync.sync.explanation import HistoryState
from mpesa_sync.web import bar_view
from mpesa_sync.web.bar_view import BarView
from mpesa_sync.web.context import Context
from mpesa_sync.web.staff import session as staff

CHANGES: Final = 12
"""How many of the last changes the page shows."""


async def read(context: Context, session: Session, bar_id: UUID) -> BarView:
    """Return the page of one venue.

    Raises:
        BarNotFound: there is none of this id.
        DatabaseFault, SchemaError: it cannot be read.
    """
    async with context.database.reading() as connection:
        found = await explaining.explain(connection, context.database, bar_id)
        is_known = found.history.state is HistoryState.KNOWN
        changes = await history.recent(connection, bar_id, limit=CHANGES) if is_known else []
    return bar_view.view(staff.signed_in(session), found, changes)
