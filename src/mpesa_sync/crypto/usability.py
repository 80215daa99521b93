"""Whether stored secrets can serve: opened with the keys at hand, judged, and said in words (spec 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from mpesa_sync.crypto.cipher import Verdict, examine
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.domain.bars import SecretsState
from mpesa_sync.domain.credentials import SECRET_FIELDS, Environment
from mpesa_sync.errors import CredentialsMissing, CredentialsUnusable

_UNREADABLE: Final = frozenset({Verdict.UNOPENABLE, Verdict.TRUNCATED, Verdict.LEGACY_CBC, Verdict.PLAINTEXT})
_WORDS: Final = {
    SecretsState.UNREADABLE: "cannot be opened with the key in use",
    SecretsState.MALFORMED: "do not look like M-Pesa secrets",
}


def state_of(keys: KeyRing, stored: bytes | None) -> SecretsState:
    """Return what one stored secret is worth.

    Raises:
        KmsKeyMissing: there is no key to open it with.
    """
    if not stored:
        return SecretsState.MISSING
    verdict = examine(keys, stored).verdict
    if verdict is Verdict.GOOD:
        return SecretsState.USABLE
    return SecretsState.UNREADABLE if verdict in _UNREADABLE else SecretsState.MALFORMED


def worst_of(keys: KeyRing, stored: Sequence[bytes | None]) -> SecretsState:
    """Return what the three secrets of a row are worth together: the worst of them."""
    return _worst(state_of(keys, secret) for secret in stored)


def _worst(states: Iterable[SecretsState]) -> SecretsState:
    found = set(states)
    ranked = (SecretsState.MISSING, SecretsState.UNREADABLE, SecretsState.MALFORMED)
    return next((state for state in ranked if state in found), SecretsState.USABLE)


def require_usable(keys: KeyRing, stored: Sequence[bytes | None], environment: Environment) -> None:
    """Refuse a switch-on whose secrets cannot serve (R1).

    Arguments:
        stored: the consumer key, consumer secret and passkey as stored.
    Raises:
        CredentialsMissing: one of the three is empty.
        CredentialsUnusable: one is unreadable or malformed; `reason` is the rule's reason code.
    """
    states = dict(zip(SECRET_FIELDS, (state_of(keys, secret) for secret in stored), strict=True))
    worst = _worst(states.values())
    named = ", ".join(field for field, state in states.items() if state is worst)
    if worst is SecretsState.MISSING:
        raise CredentialsMissing(f"The {environment} credentials lack {named}. Save them first, then switch on.")
    if worst is not SecretsState.USABLE:
        raise CredentialsUnusable(
            f"The stored {environment} secrets {_WORDS[worst]} ({named}). Save them again, then switch on.",
            reason=f"secrets_{worst}",
        )
