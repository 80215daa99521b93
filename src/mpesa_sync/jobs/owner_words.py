"""What the owner of a venue is told: what customers see now, since when, why, and what to do. The one catalogue.

Every text for owners stands here, to be translated in one place. `{at}` is when it first went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.domain.availability import Reason
from mpesa_sync.jobs.channels import Message
from mpesa_sync.jobs.words import clock_time, venue_of
from mpesa_sync.sync.alert_kinds import AlertKind

OWNER_KINDS: Final = (
    AlertKind.SYNC_FAILED,
    AlertKind.DATABASE_REFUSED,
    AlertKind.OUTCOME_UNKNOWN,
    AlertKind.SECRETS_UNREADABLE,
)
"""The kinds that a venue's owner hears of."""

_KEYS_AGAIN: Final = "open Staff → M-Pesa, paste the three keys from Daraja again and save."
_SWITCH_AGAIN: Final = "open Staff → M-Pesa and press the switch once more. Our team has been told, too."

HAPPENED: Final[Mapping[AlertKind, str]] = {
    AlertKind.SYNC_FAILED: "Your change of {at} was not saved: our system could not take it.",
    AlertKind.DATABASE_REFUSED: "Your change of {at} was not saved: our system refused it.",
    AlertKind.OUTCOME_UNKNOWN: "We do not know whether your change of {at} was saved.",
    AlertKind.SECRETS_UNREADABLE: "M-Pesa could not be switched on at {at}: the saved keys cannot be read.",
}
"""What went wrong, by kind."""

BECAUSE: Final[Mapping[Reason, str]] = {
    Reason.PAUSED: "we have paused M-Pesa for a while",
    Reason.BAR_INACTIVE: "your venue is not active on the platform",
    Reason.NO_CREDENTIALS: "no M-Pesa keys are saved yet",
    Reason.DRIFT_EXPOSED: "M-Pesa is switched off, and two of our settings disagree about it",
    Reason.SWITCHED_OFF: "M-Pesa is switched off",
    Reason.DRIFT_HIDDEN: "two of our settings disagree, although M-Pesa is switched on",
    Reason.SANDBOX_NOT_ALLOWED: "the keys in use are for tests only",
    Reason.SECRETS_UNREADABLE: "the saved M-Pesa keys can no longer be read",
    Reason.SECRETS_MALFORMED: "the saved M-Pesa keys are incomplete or wrong",
    Reason.CREDENTIALS_REJECTED: "Safaricom did not accept the saved M-Pesa keys",
}
"""Why customers do not see M-Pesa, by reason: after "because"."""

_BY_KIND: Final[Mapping[AlertKind, str]] = {
    AlertKind.SYNC_FAILED: "open Staff → M-Pesa in some minutes, see whether it is as you want it, and switch again "
    "if not. Our team has been told, too.",
    AlertKind.DATABASE_REFUSED: "nothing now. Our team has been told and will put it right; until then the change "
    "will not work.",
    AlertKind.OUTCOME_UNKNOWN: "open Staff → M-Pesa, see whether it is as you want it, and switch again if not.",
    AlertKind.SECRETS_UNREADABLE: "open Staff → M-Pesa, paste the three keys from Daraja again, save, and switch "
    "M-Pesa on.",
}
_BY_REASON: Final[Mapping[Reason, str]] = {
    Reason.PAUSED: "nothing now. M-Pesa comes back at the end of the pause.",
    Reason.BAR_INACTIVE: "ask the platform to make your venue active.",
    Reason.NO_CREDENTIALS: "open Staff → M-Pesa, enter your keys from Daraja and switch M-Pesa on.",
    Reason.DRIFT_EXPOSED: _SWITCH_AGAIN,
    Reason.DRIFT_HIDDEN: _SWITCH_AGAIN,
    Reason.SANDBOX_NOT_ALLOWED: "open Staff → M-Pesa and save your production keys.",
    Reason.SECRETS_UNREADABLE: _KEYS_AGAIN,
    Reason.SECRETS_MALFORMED: _KEYS_AGAIN,
    Reason.CREDENTIALS_REJECTED: "compare your keys with those in Daraja, save them again, or call Safaricom.",
}

SHOWN: Final = "Customers can see and choose M-Pesa."
HIDDEN: Final = "customers cannot see M-Pesa since {since} because {because}."
OVER: Final = "{venue}: the trouble with M-Pesa of {at} is over."
STILL_HIDDEN: Final = "Customers do not see M-Pesa now because {because}."


def what_to_do(kind: AlertKind, reason: Reason | None) -> str:
    """Return what the owner can do, after "Do this": what brings M-Pesa back, where something but the switch hides it.

    Arguments:
        reason: why customers do not see M-Pesa, None where they do.
    """
    if reason is None or reason is Reason.SWITCHED_OFF or kind is AlertKind.DATABASE_REFUSED:
        return _BY_KIND[kind]
    return _BY_REASON[reason]


def raised(
    alert: StoredAlert, reason: Reason | None, *, since: datetime, now: datetime, public_url: str | None
) -> Message:
    """Return what the owner is told when something went wrong.

    Arguments:
        reason: why customers do not see M-Pesa now, None where they do.
        since: from when on that is so, as far as it is known.
        public_url: the address of `serve` as people reach it; None: no link.
    """
    kind, venue = AlertKind(alert.kind), venue_of(alert) or "Your venue"
    happened = HAPPENED[kind].format(at=clock_time(alert.first_seen, now))
    if reason is None:
        title = f"{venue}: a change for M-Pesa did not work"
        first = f"{venue}: {happened} {SHOWN}"
    else:
        title = f"{venue}: customers cannot see M-Pesa"
        seen = HIDDEN.format(since=clock_time(since, now), because=BECAUSE[reason])
        first = f"{venue}: {seen} {happened}"
        if kind is AlertKind.SECRETS_UNREADABLE and reason is Reason.SECRETS_UNREADABLE:
            first = f"{venue}: {seen}"  # the other sentence says the same
    return Message(title, _lines(first, f"Do this: {what_to_do(kind, reason)}", alert, public_url))


def resolved(alert: StoredAlert, reason: Reason | None, *, now: datetime, public_url: str | None) -> Message:
    """Return what the owner is told at the end of what they had been told of."""
    venue = venue_of(alert) or "Your venue"
    over = OVER.format(venue=venue, at=clock_time(alert.first_seen, now))
    sees = SHOWN if reason is None else STILL_HIDDEN.format(because=BECAUSE[reason])
    return Message(f"{venue}: solved", _lines(over, sees, alert, public_url), is_over=True)


def _lines(first: str, second: str, alert: StoredAlert, public_url: str | None) -> str:
    lines = [first, second]
    if public_url:
        lines.append(f"{public_url.rstrip('/')}/staff/bars/{alert.bar_id}/mpesa")
    return "\n".join(lines)
