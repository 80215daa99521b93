"""Where the next page of a list of alerts begins, as an opaque text: nothing is skipped or shown twice by new ones."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.errors import InvalidInput

_LONGEST: Final = 200
_YEARS: Final = range(2000, 2200)


def after(alerts: Sequence[StoredAlert], *, limit: int) -> str | None:
    """Return what the next page is asked for with, None where `alerts` is the last page.

    Arguments:
        alerts: one more than the page shows where there are more.
        limit: how many the page shows.
    """
    if len(alerts) <= limit:
        return None
    last = alerts[limit - 1]
    return base64.urlsafe_b64encode(f"{last.last_seen.isoformat()}|{last.id}".encode()).decode().rstrip("=")


def position(text: str) -> tuple[datetime, UUID] | None:
    """Return the place that a text of `after` means; None for "", the first page.

    Raises:
        InvalidInput: it is no such text.
    """
    if not text:
        return None
    try:
        padded = text + "=" * (-len(text) % 4)
        at, _, alert_id = base64.b64decode(padded[:_LONGEST], altchars=b"-_", validate=True).decode().partition("|")
        found = datetime.fromisoformat(at), UUID(alert_id)
    except (ValueError, binascii.Error):
        raise _wrong() from None
    if found[0].tzinfo is None or found[0].year not in _YEARS:
        raise _wrong()
    return found


def _wrong() -> InvalidInput:
    return InvalidInput("after", "must be the next of the page before")
