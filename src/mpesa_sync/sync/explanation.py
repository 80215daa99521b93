"""What there is to say of one bar, from facts to last change, as values: for the command line and for operators' pages.

They are the JSON of `explain` too. What is wrong with secrets decides some of the words, so that stands here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from mpesa_sync.crypto.cipher import Verdict as SecretVerdict
from mpesa_sync.domain.availability import Reason


class HistoryState(StrEnum):
    """Whether our own history of the bar can be read."""

    KNOWN = "known"
    NOT_INSTALLED = "not_installed"
    NOT_READABLE = "not_readable"
    OTHER_VERSION = "other_version"


class BarNames(msgspec.Struct, frozen=True):
    """What the bar is called."""

    id: UUID
    slug: str | None
    name: str


class CredentialsFacts(msgspec.Struct, frozen=True):
    """One credentials row. `secrets` and `verdicts` (per secret) are None where no key was at hand."""

    environment: str
    is_active: bool | None
    secrets: str | None
    verdicts: Mapping[str, str] | None


class Facts(msgspec.Struct, frozen=True):
    """The stored facts, as stored: None is NULL, or a column that this shape lacks."""

    mpesa_enabled: bool | None
    active: bool | None
    credentials: list[CredentialsFacts]
    payment_mpesa_enabled: bool | None
    mpesa_environment: str | None
    bar_holds_secrets: bool
    allow_sandbox: bool


class Rule(msgspec.Struct, frozen=True):
    """The rule (spec 2) applied to the facts."""

    authority: bool
    shown: bool
    consistent: bool
    direction: str | None


class Verdict(msgspec.Struct, frozen=True):
    """Whether customers are offered M-Pesa; None where that hangs on secrets that were not judged."""

    mpesa_offered: bool | None
    reason: str | None
    meaning: str | None
    remedy: str | None
    other_methods: list[str]
    secrets_judged: bool


class Warned(msgspec.Struct, frozen=True):
    """A state worth knowing that is not drift."""

    code: str
    meaning: str
    remedy: str


class LastChange(msgspec.Struct, frozen=True):
    """The last change through mpesa-sync. `changed_since`: another program has changed the flag after it.

    `source_address` and `client` say from where it was asked, "" where that is not known.
    """

    at: datetime
    kind: str
    actor: str
    reason: str
    operation_id: UUID
    source_address: str
    client: str
    mpesa_enabled_before: bool | None
    mpesa_enabled_after: bool | None
    changed_since: bool


class Alert(msgspec.Struct, frozen=True):
    """An alert that nobody has resolved."""

    kind: str
    state: str
    cause: str
    what_to_do: str
    count: int
    first_seen: datetime
    last_seen: datetime


class History(msgspec.Struct, frozen=True):
    """What our own tables say of the bar, where they can be read."""

    state: HistoryState
    last_change: LastChange | None
    alerts: list[Alert]


class Explanation(msgspec.Struct, frozen=True):
    """All of it, in the order in which it is read."""

    bar: BarNames
    facts: Facts
    rule: Rule
    verdict: Verdict
    warnings: list[Warned]
    history: History


_UNSEALED: Final = {
    SecretVerdict.PLAINTEXT: "A secret is stored without encryption, so no key opens it.",
    SecretVerdict.TRUNCATED: "A stored secret is cut off, so no key opens it.",
    SecretVerdict.LEGACY_CBC: "A secret is stored in the older form, which is read no more.",
}


def opens_nothing(facts: Facts) -> bool:
    """Return whether the keys at hand open none of the bar's secrets: most likely another key."""
    verdicts = [verdict for row in facts.credentials for verdict in (row.verdicts or {}).values()]
    return bool(verdicts) and all(verdict == SecretVerdict.UNOPENABLE for verdict in verdicts)


def meaning(found: Explanation) -> str:
    """Return why M-Pesa is hidden, as one sentence; "" where it is not."""
    if opens_nothing(found.facts):
        return "MPESA_KMS_KEY opens none of this bar's secrets: it is most likely another key."
    damage = _damage(found)
    return _UNSEALED[damage] if damage else found.verdict.meaning or ""


def remedy(found: Explanation) -> str:
    """Return what a person can do about it; "" where nothing is needed, or a key has to be set first."""
    if _damage(found):
        return "Have the venue save its credentials again; another key would not help."
    return found.verdict.remedy or ""


def _damage(found: Explanation) -> SecretVerdict | None:
    """Return what is wrong with unreadable secrets where it is not the key."""
    if found.verdict.reason != Reason.SECRETS_UNREADABLE:
        return None
    verdicts = {verdict for row in found.facts.credentials for verdict in (row.verdicts or {}).values()}
    if SecretVerdict.UNOPENABLE in verdicts:
        return None
    return next((damage for damage in _UNSEALED if damage in verdicts), None)
