"""What is asked about alerts: those of some states, those of a bar, and what became of the change that one is about."""

from __future__ import annotations

import contextlib
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.db import identity, settings
from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.db.settings import StoredOperation
from mpesa_sync.errors import BarNotFound
from mpesa_sync.sync.alert_kinds import AlertKind


class Which(StrEnum):
    """Which alerts are listed, by their state: one truth for the page, the API and the command line."""

    OPEN = "open"
    FIRING = "firing"
    ACKNOWLEDGED = "acknowledged"
    RESOLVED = "resolved"
    ALL = "all"

    @property
    def states(self) -> tuple[str, ...]:
        """Return the states that are meant."""
        named = {"open": ("firing", "acknowledged"), "all": ("firing", "acknowledged", "resolved")}
        return named.get(self, (self.value,))


class Fate(msgspec.Struct, frozen=True):
    """What became of the change that an alert is about.

    `outcome`: `applied`; `failed`; or `unknown`: nothing is stored of it, which proves nothing. `at` is when that was
    written down, null where nothing was. `text` is the same in words.
    """

    outcome: str
    at: datetime | None
    text: str


_STORED: Final = {"applied": "It was saved.", "failed": "It was not saved, and never will be."}
_NOTHING_STORED: Final = {
    "failed": "It was not saved.",
    "unknown": "Nothing is stored of it. That proves nothing: it may be under way, or was never sent.",
}


async def bar_meant(connection: Any, text: str) -> UUID:
    """Return the bar that an id or a slug means; an id also of one that is gone, whose alerts are still there.

    Raises:
        BarNotFound: it is neither.
    """
    try:
        return await identity.bar_named(connection, text)
    except BarNotFound:
        with contextlib.suppress(ValueError):  # no id: then it is what the lookup said, raised below
            return UUID(text)
        raise


async def fate_of(connection: Any, alert: StoredAlert) -> Fate | None:
    """Return what became of the change that an alert was last raised for; None where it is about none."""
    if alert.operation_id is None:
        return None
    return fate(alert.kind, await settings.operation(connection, alert.operation_id))


def fate(kind: str, operation: StoredOperation | None) -> Fate:
    """Return what became of a change.

    Arguments:
        kind: of the alert: only of `outcome_unknown` it is not known that nothing was saved.
        operation: what is stored of it, None where nothing is.
    """
    if operation is not None:
        return Fate(operation.outcome, operation.at, _STORED[operation.outcome])
    outcome = "unknown" if kind == AlertKind.OUTCOME_UNKNOWN else "failed"
    return Fate(outcome, None, _NOTHING_STORED[outcome])
