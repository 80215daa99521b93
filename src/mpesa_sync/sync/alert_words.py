"""What an alert says in words, for operators: its kind, its cause, who did what, and its page in the runbook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mpesa_sync.sync.alert_kinds import AlertKind


@dataclass(frozen=True, slots=True)
class KindWords:
    """A kind of alert: its name on a page, and what it means, as one sentence."""

    title: str
    meaning: str


KINDS: Final[Mapping[str, KindWords]] = {
    AlertKind.SYNC_FAILED: KindWords(
        "A change could not be saved",
        "The database could not take a venue's change, as often as it was tried. Nothing was saved.",
    ),
    AlertKind.DATABASE_REFUSED: KindWords(
        "The database refuses a change",
        "A rule, a right or a missing table stands against a venue's change. Trying again cannot help.",
    ),
    AlertKind.OUTCOME_UNKNOWN: KindWords(
        "It is not known whether a change was saved",
        "The connection was lost while the change was being committed, and the database could not be asked since.",
    ),
    AlertKind.SECRETS_UNREADABLE: KindWords(
        "Stored M-Pesa secrets cannot be opened",
        "The secrets of a venue open under none of the keys that this program was given.",
    ),
    AlertKind.CHANNEL_FAILING: KindWords(
        "A channel for alerts does not work",
        "Messages sent over it were refused or not answered several times in a row.",
    ),
    AlertKind.DRIFT_FOUND: KindWords(
        "Venues whose two settings disagree",
        "A sweep over all venues found some where the staff app and the customer app disagree, and left them so.",
    ),
    AlertKind.RECONCILER_BUDGET: KindWords(
        "More venues drift than may be repaired",
        "The reconciler has made as many repairs in this hour as it may. What it finds now it leaves.",
    ),
    AlertKind.RECONCILER_STALE: KindWords(
        "The sweep over all venues does not come to its end",
        "Venues that drift unnoticed are found by a sweep, and none has ended for longer than two should take.",
    ),
    AlertKind.GUARD_BROKEN: KindWords(
        "A guard on the platform's tables does not stand",
        "Guards were installed on bars and mpesa_credentials, and one is disabled, gone, or not as it was made.",
    ),
}
"""Of every kind."""

SEVERAL: Final = "several"
"""The cause of the alert about channels where they have different faults."""
_CAUSES: Final[Mapping[str, str]] = {
    "database": "The database could not take the change.",
    "database_busy": "The database was away or busy, also after several tries.",
    "pool_exhausted": "Every connection of this program to the database was in use.",
    "database_full": "The database server has no disk space or memory left.",
    "database_refused": "The database refuses the change.",
    "constraint_refused": "A constraint of the database does not allow the new values.",
    "trigger_refused": "A trigger or function of the platform refuses the change.",
    "access_denied": "The database role lacks a right, or a policy hides rows from it.",
    "integrity": "What was read back was not what had been written; it was rolled back.",
    "schema": "A table, column or function is missing, or of another version.",
    "outcome_unknown": "The answer to COMMIT never came.",
    "credentials_unusable": "The stored secrets open under none of the keys given.",
    "left_drifted": "Drift was found, and the policy says to report it, or the truth of it is in doubt.",
    "budget_spent": "The reconciler's budget of the hour is spent.",
    "no_success": "No sweep has come to its end for too long.",
    "refused": "The channel answered no, or nobody listens at its address.",
    "timed_out": "The channel did not answer in time.",
    "channel_gone": "The channel is not set any more.",
    "unreadable": "The address of the channel cannot be read.",
    "venue_gone": "The venue is gone.",
    SEVERAL: "Several channels fail, and not all for the same reason.",
    "guard_missing": "A trigger of the guards is gone.",
    "guard_disabled": "A trigger of the guards is switched off, or not on for every kind of session.",
    "guard_powerless": "The guards work as a role that may not see or write all rows: policies, or a right taken away.",
    "guard_outdated": "A trigger or function of the guards is not as this program makes it.",
}
"""Of every error that calls for an alert, by its code, of every fault of a channel, and of every state of guards."""


def title_of(kind: str) -> str:
    """Return the name of a kind; the kind itself where a later version stored it."""
    words = KINDS.get(kind)
    return kind if words is None else words.title


def cause_of(cause: str) -> str:
    """Return a stored cause as a sentence; the cause itself where there is none."""
    return _CAUSES.get(cause, cause)


_ACTORS: Final[Mapping[str, str]] = {
    "staff": "{name}",
    "operator": "{name} (operator)",
    "cli": "{name} (command line)",
    "user": "a user of the platform",
    "operation": "a change that was saved and read back",
    "channel": "a channel that works again",
    "reconciler": "the reconciler's {name}",
}
"""Of who acknowledges and resolves, by what stands before the first colon of an actor."""
NONE_FAILING: Final = "channel:none is failing"
"""What resolves the alert about channels where no success did; else `channel:` and the name of that one."""

GUARDS_WELL: Final = "guards:well"
"""What resolves the alert about guards."""


def who(actor: str | None) -> str:
    """Return who or what acknowledged or resolved an alert, in words that follow "by".

    Arguments:
        actor: as the table of alerts keeps it; None where nobody is known.
    """
    if actor == GUARDS_WELL:
        return "itself, since the guards stand as they must, or were removed on purpose"
    if actor == NONE_FAILING:
        return "itself, since no channel that is still used fails"
    kind, _, name = (actor or "").partition(":")
    if kind in _ACTORS and name:
        return _ACTORS[kind].format(name=name)
    return actor or "somebody"


def runbook_path(kind: str) -> str:
    """Return the path, on the site that `serve` serves, of the page that says how to mend this kind of alert."""
    return f"/runbook/{kind}"
