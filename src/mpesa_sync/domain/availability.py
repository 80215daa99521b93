"""THE RULE (spec 2): which field is the truth, when two fields disagree, and what a customer is offered.

Pure functions over `BarFacts`. SQL says the same about authority, shown and direction (`db.detection`); one
test walks the whole truth table and holds the two against each other.
"""

from __future__ import annotations

from enum import StrEnum

from mpesa_sync.domain.bars import BarFacts, CheckOutcome, CredentialsRow, SecretsState
from mpesa_sync.domain.credentials import Environment


class Direction(StrEnum):
    """Which way a bar has drifted."""

    HIDDEN = "hidden"
    """M-Pesa is switched on and customers are not offered it: lost sales."""
    EXPOSED = "exposed"
    """M-Pesa is switched off and customers are offered it: a dead button."""


class BarWarning(StrEnum):
    """States worth knowing that are not drift: counted, never repaired blindly."""

    NULL_FLAG = "null_flag"
    TWO_ACTIVE = "two_active"
    SANDBOX_ACTIVE = "sandbox_active"
    INACTIVE_BAR_ON = "inactive_bar_on"
    LEGACY_FLAG_DIFFERS = "legacy_flag_differs"
    ENVIRONMENT_DIFFERS = "environment_differs"
    STALE_AUTHORITY = "stale_authority"


class Reason(StrEnum):
    """Why M-Pesa is not offered, for staff; in the order in which they are tried."""

    PAUSED = "paused"
    BAR_INACTIVE = "bar_inactive"
    NO_CREDENTIALS = "no_credentials"
    DRIFT_EXPOSED = "drift_exposed"
    SWITCHED_OFF = "switched_off"
    DRIFT_HIDDEN = "drift_hidden"
    SANDBOX_NOT_ALLOWED = "sandbox_not_allowed"
    SECRETS_UNREADABLE = "secrets_unreadable"
    SECRETS_MALFORMED = "secrets_malformed"
    CREDENTIALS_REJECTED = "credentials_rejected"


class Method(StrEnum):
    """What a customer may pay with."""

    MPESA = "mpesa"
    CARD = "card"
    CASH = "cash"


def authority(facts: BarFacts) -> bool:
    """Return the one source of truth: is any credentials row active (no rows, or NULL: not)."""
    return any(row.is_active is True for row in facts.rows)


def shown(facts: BarFacts) -> bool:
    """Return what the customer-facing flag says; NULL says no."""
    return facts.mpesa_enabled is True


def direction(facts: BarFacts) -> Direction | None:
    """Return the way in which the bar has drifted, None where it is consistent."""
    if shown(facts) == authority(facts):
        return None
    return Direction.HIDDEN if authority(facts) else Direction.EXPOSED


def judged_row(facts: BarFacts) -> CredentialsRow | None:
    """Return the active row that decides what is offered: production where it is one of them."""
    active = [row for row in facts.rows if row.is_active is True]
    active.sort(key=lambda row: row.environment is not Environment.PRODUCTION)
    return active[0] if active else None


def may_be_stale(facts: BarFacts) -> bool:
    """Return whether `is_active` may not be the truth: the platform keeps this bar's secrets elsewhere (R2)."""
    return facts.bar_holds_secrets and (not facts.rows or facts.secrets_differ)


def warnings(facts: BarFacts, *, allow_sandbox: bool) -> tuple[BarWarning, ...]:
    """Return the warnings that apply, in the order of `BarWarning`."""
    active = [row.environment for row in facts.rows if row.is_active is True]
    legacy, named, judged = facts.legacy_mpesa_enabled, facts.named_environment, judged_row(facts)
    found = {
        BarWarning.NULL_FLAG: facts.mpesa_enabled is None and not active,
        BarWarning.TWO_ACTIVE: len(active) > 1,
        BarWarning.SANDBOX_ACTIVE: Environment.SANDBOX in active and not allow_sandbox,
        BarWarning.INACTIVE_BAR_ON: facts.active is False and bool(active),
        BarWarning.LEGACY_FLAG_DIFFERS: legacy is not None and legacy != shown(facts),
        BarWarning.ENVIRONMENT_DIFFERS: (judged is not None and named is not None and named != judged.environment),
        BarWarning.STALE_AUTHORITY: may_be_stale(facts),
    }
    return tuple(warning for warning in BarWarning if found[warning])


def hidden_reason(facts: BarFacts, *, allow_sandbox: bool, paused: bool = False) -> Reason | None:
    """Return why M-Pesa is not offered, the first reason that applies; None where it is offered.

    Arguments:
        allow_sandbox: whether sandbox credentials may serve customers here (`MPESA_SYNC_ALLOW_SANDBOX`).
        paused: whether an operator has paused M-Pesa for this bar or for all of them.
    """
    drift, row = direction(facts), judged_row(facts)
    if paused:
        return Reason.PAUSED
    if facts.active is False:
        return Reason.BAR_INACTIVE
    if not facts.rows:
        return Reason.NO_CREDENTIALS
    if drift is Direction.EXPOSED:
        return Reason.DRIFT_EXPOSED
    if row is None:
        return Reason.SWITCHED_OFF
    if drift is Direction.HIDDEN:
        return Reason.DRIFT_HIDDEN
    return _row_reason(row, allow_sandbox=allow_sandbox)


def _row_reason(row: CredentialsRow, *, allow_sandbox: bool) -> Reason | None:
    if row.environment is Environment.SANDBOX and not allow_sandbox:
        return Reason.SANDBOX_NOT_ALLOWED
    if row.secrets is SecretsState.UNREADABLE:
        return Reason.SECRETS_UNREADABLE
    if row.secrets is not SecretsState.USABLE:
        return Reason.SECRETS_MALFORMED
    if row.check is CheckOutcome.REJECTED:
        return Reason.CREDENTIALS_REJECTED
    return None


def offer(facts: BarFacts, *, allow_sandbox: bool, paused: bool = False) -> tuple[Method, ...]:
    """Return what a customer may pay with, M-Pesa first (R3.1, R3.3, R3.4)."""
    reason = hidden_reason(facts, allow_sandbox=allow_sandbox, paused=paused)
    offered = {
        Method.MPESA: reason is None,
        Method.CARD: facts.card_enabled is True,
        Method.CASH: facts.cash_enabled is not False,
    }
    return tuple(method for method in Method if offered[method])
