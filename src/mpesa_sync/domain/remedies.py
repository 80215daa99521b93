"""What each reason and each warning means, and what to do about it: the one place for both sentences.

For operators. `BAR` stands for the bar's id or slug.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mpesa_sync.domain.availability import BarWarning, Reason


@dataclass(frozen=True, slots=True)
class Advice:
    """What a state means, and what a person can do about it, each as one sentence."""

    meaning: str
    remedy: str


REASONS: Final[Mapping[Reason, Advice]] = {
    Reason.PAUSED: Advice(
        "An operator has paused M-Pesa, for this bar or for all of them; the switches stay as they are.",
        "Wait for the end of the pause, or ask the operator who set it.",
    ),
    Reason.BAR_INACTIVE: Advice(
        "The bar itself is not active (bars.active is false).",
        "Activate the bar in the platform, if it is open; M-Pesa follows by itself.",
    ),
    Reason.NO_CREDENTIALS: Advice(
        "There are no M-Pesa credentials of this bar.",
        "Have the venue save its M-Pesa credentials in the staff app, then switch M-Pesa on.",
    ),
    Reason.DRIFT_EXPOSED: Advice(
        "M-Pesa is switched off, and bars.mpesa_enabled still says that it is on: a dead button.",
        "Correct the bar: 'mpesa-sync repair BAR'; many bars at once: 'mpesa-sync migrate'.",
    ),
    Reason.SWITCHED_OFF: Advice(
        "M-Pesa is switched off for this bar, in both places.",
        "Nothing is wrong. The venue switches M-Pesa on in the staff app when it wants to.",
    ),
    Reason.DRIFT_HIDDEN: Advice(
        "M-Pesa is switched on, and bars.mpesa_enabled does not say so: customers miss it.",
        "Correct the bar: 'mpesa-sync repair BAR'; many bars at once: 'mpesa-sync migrate'.",
    ),
    Reason.SANDBOX_NOT_ALLOWED: Advice(
        "The active credentials are for the sandbox, which may not serve customers here.",
        "Have the venue save production credentials; or set MPESA_SYNC_ALLOW_SANDBOX=true, on a test system only.",
    ),
    Reason.SECRETS_UNREADABLE: Advice(
        "The stored secrets open under none of the keys given: another key, or damaged.",
        "Set MPESA_KMS_KEY (or MPESA_SYNC_OLD_KMS_KEYS) to the key that they were sealed with, or have the venue "
        "save its credentials again.",
    ),
    Reason.SECRETS_MALFORMED: Advice(
        "The stored secrets are incomplete, or do not look like M-Pesa secrets: empty, the mask, an example.",
        "Have the venue enter its key, secret and passkey again, as the Daraja portal shows them.",
    ),
    Reason.CREDENTIALS_REJECTED: Advice(
        "M-Pesa rejected these credentials when they were last tried.",
        "Have the venue compare them with the Daraja portal and save them again.",
    ),
}
"""Of every reason why M-Pesa is hidden."""

WARNINGS: Final[Mapping[BarWarning, Advice]] = {
    BarWarning.NULL_FLAG: Advice(
        "bars.mpesa_enabled is NULL where M-Pesa is off; it is read as false.",
        "Nothing has to be done; the next switch stores true or false.",
    ),
    BarWarning.TWO_ACTIVE: Advice(
        "Sandbox and production credentials are both active; production is the one that counts.",
        "Have the venue switch M-Pesa on again, for the environment that it means: the other is cleared.",
    ),
    BarWarning.SANDBOX_ACTIVE: Advice(
        "Sandbox credentials are active where the sandbox may not serve customers.",
        "Have the venue switch to production; or set MPESA_SYNC_ALLOW_SANDBOX=true, on a test system only.",
    ),
    BarWarning.INACTIVE_BAR_ON: Advice(
        "M-Pesa is switched on for a bar that is not active.",
        "It offers nothing. Activate the bar, or have M-Pesa switched off.",
    ),
    BarWarning.LEGACY_FLAG_DIFFERS: Advice(
        "The older bars.payment_mpesa_enabled says something else than bars.mpesa_enabled.",
        "Nothing has to be done, unless an old customer page reads it: then 'mpesa-sync migrate --mirror-legacy'.",
    ),
    BarWarning.ENVIRONMENT_DIFFERS: Advice(
        "bars.mpesa_environment names another environment than the active credentials; it never decides.",
        "Nothing has to be done here: mpesa-sync neither uses nor writes it.",
    ),
    BarWarning.STALE_AUTHORITY: Advice(
        "M-Pesa secrets stand in bars and no credentials row holds them, so is_active may not be the truth.",
        "Find out which of the two the platform uses, then: 'mpesa-sync repair BAR --authority credentials'.",
    ),
}
"""Of every warning."""

ALSO_DRIFTED: Final = "Besides, the two fields disagree, which other programs show: 'mpesa-sync repair BAR'."
"""Beside another reason, where a bar has drifted too: our own pages are right, an older page is not."""


def for_bar(text: str, bar: str) -> str:
    """Return a sentence of this module with `bar`, an id or a slug, in the place of `BAR`."""
    return text.replace(" BAR", f" {bar}")
