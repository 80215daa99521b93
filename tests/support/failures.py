"""What must come of a failure, said from faults.md alone: the examples of property 8 and their oracle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from mpesa_sync.demo.proxy import Fault
from mpesa_sync.errors import (
    AccessDenied,
    BarNotFound,
    ConstraintRefused,
    CredentialsMissing,
    CredentialsUnusable,
    IntegrityFault,
    InvalidInput,
    InvalidSettings,
    MpesaSyncError,
    OutcomeUnknown,
    PermanentFault,
    ResourcesExhausted,
    SchemaError,
    TransientFault,
    TriggerRefused,
)

Deed = Literal["on", "off", "repair", "save"]
DEEDS: Final[tuple[Deed, ...]] = ("on", "off", "repair", "save")
ATTEMPTS: Final = 4
SITES: Final = (
    ("before insert", "mpesa_sync.operations"),
    ("after insert", "mpesa_sync.operations"),
    ("before update", "public.bars"),
    ("after update", "public.bars"),
    ("before update", "mpesa_sync.operations"),
    ("commit", ""),
)
TRANSIENT: Final = ("40001", "40P01", "55P03", "57014", "25P03", "53300")
LOST: Final = ("57P01", "57P03", "08006", "terminate")
"""Before COMMIT transient, in answer to it unknown."""
REFUSED: Final[dict[str, type[MpesaSyncError]]] = {
    "22003": PermanentFault,
    "23514": ConstraintRefused,
    "42501": AccessDenied,
    "42P01": SchemaError,
    "P0001": TriggerRefused,
}
EXHAUSTED: Final = ("53100", "53200")
CUTS: Final = (Fault.CUT_BEFORE_COMMIT.value, Fault.CUT_AFTER_COMMIT.value)
UNDONE: Final = "undone"
"""A trigger of the platform quietly keeps the old value."""
WRONG_KEY: Final = "wrong key"
MISTAKE: Final = "mistake"
"""The caller's own."""
TURNS: Final = (*TRANSIENT, *LOST, *LOST, *REFUSED, *EXHAUSTED, *CUTS, *CUTS, *CUTS, UNDONE, WRONG_KEY, *[MISTAKE] * 4)


@dataclass(frozen=True)
class Draw:
    """One example: what is done, what goes wrong with it, where and how many times in a row."""

    deed: Deed
    fault: str
    site: tuple[str, str]
    times: int

    @property
    def at_commit(self) -> bool:
        return self.site[0] == "commit"


@dataclass(frozen=True)
class Expected:
    """What must come of it. `error` None: success. `outcome`: of the operation's row, None for no row."""

    attempts: int
    error: type[MpesaSyncError] | None = None
    alert: str | None = None
    outcome: str | None = "applied"


def oracle(draw: Draw) -> Expected:
    """Say from faults.md alone what must come of an example."""
    again = min(draw.times, ATTEMPTS - 1) + 1
    if draw.fault == MISTAKE:
        seen_at_once = draw.times == 1 and draw.deed != "save"  # whose bar it is, only the database knows
        return Expected(0 if seen_at_once else 1, mistake_of(draw), None, None)
    if draw.fault == WRONG_KEY:
        return Expected(1, CredentialsUnusable, "secrets_unreadable", None)
    if draw.fault == UNDONE:
        return Expected(1, IntegrityFault, "database_refused", None)
    if draw.fault in REFUSED:
        return Expected(1, REFUSED[draw.fault], "database_refused", None)
    if draw.fault in EXHAUSTED:
        return Expected(1, ResourcesExhausted, "sync_failed", None)
    if draw.fault == CUTS[1]:  # committed each time, and answered by whoever asks next
        return Expected(ATTEMPTS, OutcomeUnknown, "outcome_unknown") if draw.times > ATTEMPTS else Expected(again)
    if draw.times < ATTEMPTS:
        return Expected(again)
    if draw.fault == CUTS[0] and draw.times > ATTEMPTS:  # not even the tombstone's COMMIT was answered
        return Expected(ATTEMPTS, OutcomeUnknown, "outcome_unknown", None)
    buried = draw.fault == CUTS[0] or (draw.at_commit and draw.fault in LOST)
    return Expected(ATTEMPTS, TransientFault, "sync_failed", "failed" if buried else None)


def mistake_of(draw: Draw) -> type[MpesaSyncError]:
    """Which refusal a caller's mistake is: one that is seen at once (`times` 1), or one that the database tells."""
    if draw.deed == "save":
        return BarNotFound if draw.times == 1 else InvalidSettings
    if draw.times == 1:
        return InvalidInput
    return CredentialsMissing if draw.deed == "on" else BarNotFound
