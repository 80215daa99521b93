"""A bar and its credentials as values: facts only, nothing is decided here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from mpesa_sync.domain.credentials import Environment


class SecretsState(StrEnum):
    """What is known about the three secrets of one credentials row."""

    USABLE = "usable"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    MALFORMED = "malformed"


class CheckOutcome(StrEnum):
    """What M-Pesa said when the credentials were last tried (V); only `rejected` decides anything."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNREACHABLE = "unreachable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CredentialsRow:
    """One row of `mpesa_credentials`.

    `is_active` as stored: None is not active. `secrets` and `check` matter only for what is offered.
    """

    environment: Environment
    is_active: bool | None
    secrets: SecretsState = SecretsState.USABLE
    check: CheckOutcome = CheckOutcome.UNKNOWN


@dataclass(frozen=True, slots=True)
class BarFacts:
    """All the stored facts of one bar that any decision here looks at.

    `mpesa_enabled`, `active`, `card_enabled`, `cash_enabled` as stored, None for NULL or an absent column.
    `legacy_mpesa_enabled`: the older `bars.payment_mpesa_enabled`, None for NULL or absent.
    `named_environment`: `bars.mpesa_environment`, which never decides.
    `bar_holds_secrets`: the later generation of the platform keeps M-Pesa secrets in `bars` (R2, stale authority).
    `secrets_differ`: they are known to be others than those of every credentials row; only a key can tell.
    """

    bar_id: UUID
    mpesa_enabled: bool | None
    rows: tuple[CredentialsRow, ...] = ()
    active: bool | None = True
    card_enabled: bool | None = None
    cash_enabled: bool | None = None
    legacy_mpesa_enabled: bool | None = None
    named_environment: str | None = None
    bar_holds_secrets: bool = False
    secrets_differ: bool = False
