"""Who changed settings that a caller had read before (`If-Match`, R4): one of us, or another program."""

from __future__ import annotations

from typing import Any

from mpesa_sync.db import history
from mpesa_sync.db.history import Change
from mpesa_sync.domain.bars import BarFacts
from mpesa_sync.refusals import StaleForm


async def stale(connection: Any, facts: BarFacts) -> StaleForm:
    """Return the refusal of a save whose caller had read something else, naming who changed it and when.

    It was our last change, unless the rows were written after it or hold other flags than it left.

    Arguments:
        connection: of the transaction that holds the bar's lock.
        facts: what is stored, read under that lock.
    """
    changes = await history.recent(connection, facts.bar_id, limit=1)
    written = await history.newest_write(connection, facts.bar_id)
    ours = changes[0] if changes else None
    if ours is None or (written is not None and written > ours.at):
        return StaleForm(changed_by=None, changed_at=written)
    if not _left_so(ours, facts):
        return StaleForm(changed_by=None, changed_at=None)
    return StaleForm(changed_by=ours.actor, changed_at=ours.at)


def _left_so(change: Change, facts: BarFacts) -> bool:
    """Return whether the flags are as a change left them; credentials that were saved say nothing of them."""
    flags = change.after.get("credentials")
    now = {row.environment.value: row.is_active is True for row in facts.rows}
    same_flags = flags is None or {name: flag is True for name, flag in flags.items()} == now
    shown = change.mpesa_enabled_after
    return same_flags and (shown is None or shown is (facts.mpesa_enabled is True))
