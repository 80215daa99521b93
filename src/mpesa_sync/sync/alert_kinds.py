"""The kinds of alerts, and what answers them."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class AlertKind(StrEnum):
    """Kinds of alerts; of each, one may be open for a bar. Those of `ABOUT_NO_BAR` are about none."""

    SYNC_FAILED = "sync_failed"
    DATABASE_REFUSED = "database_refused"
    OUTCOME_UNKNOWN = "outcome_unknown"
    SECRETS_UNREADABLE = "secrets_unreadable"
    CHANNEL_FAILING = "channel_failing"
    DRIFT_FOUND = "drift_found"
    RECONCILER_BUDGET = "reconciler_budget"
    RECONCILER_STALE = "reconciler_stale"
    GUARD_BROKEN = "guard_broken"


ABOUT_NO_BAR: Final = frozenset(
    {
        AlertKind.CHANNEL_FAILING,
        AlertKind.DRIFT_FOUND,
        AlertKind.RECONCILER_BUDGET,
        AlertKind.RECONCILER_STALE,
        AlertKind.GUARD_BROKEN,
    }
)
"""About the service, or the fleet: operators hear of them, owners of venues do not."""


RESOLVED_BY_SUCCESS: Final = [
    AlertKind.SYNC_FAILED.value,
    AlertKind.DATABASE_REFUSED.value,
    AlertKind.OUTCOME_UNKNOWN.value,
]
"""A verified write of the bar's status answers these."""
RESOLVED_BY_SWITCH_ON: Final = [*RESOLVED_BY_SUCCESS, AlertKind.SECRETS_UNREADABLE.value]
"""A verified switch-on has opened the secrets, too."""
