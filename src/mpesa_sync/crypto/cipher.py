"""Seal, open and judge one stored secret (spec K). No I/O; only the iv of `seal` is random."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mpesa_sync.crypto.forms import Form, decode_text, recognise
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.domain.credentials import is_mask, is_placeholder, is_well_formed
from mpesa_sync.errors import SecretUnreadable
from mpesa_sync.secret import Secret

_NO_KEY_OPENS: Final = "No encryption key at hand opens this secret: another key, or tampered with."


class Verdict(StrEnum):
    """What `keys doctor` says of one stored secret."""

    GOOD = "good"
    UNOPENABLE = "unopenable"
    """Another key or tampered with: the format cannot tell."""
    TRUNCATED = "truncated"
    """Shorter than iv and tag, or an odd number of hex digits."""
    MALFORMED = "malformed"
    """Opens, but is no key, secret or passkey by the form rules; or its text form is broken."""
    MASKED = "masked"
    """Opens to, or simply is, the mask of a form."""
    PLACEHOLDER = "placeholder"
    """Opens to, or simply is, blank or an example value."""
    LEGACY_CBC = "legacy_cbc"
    """AES-256-CBC under another key, of an older generation of the platform."""
    PLAINTEXT = "plaintext"
    """Stored without any encryption."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A stored secret that was opened: its content, its form, and which key of the ring did it."""

    secret: Secret
    form: Form
    key_index: int

    @property
    def is_current(self) -> bool:
        """Whether it is stored as `seal` would store it: form 1, under the first key."""
        return self.form is Form.RAW and self.key_index == 0


@dataclass(frozen=True, slots=True)
class Examined:
    """One stored secret, judged. `form` is None where nothing is stored; `opened` is for good."""

    verdict: Verdict
    form: Form | None
    opened: Opened | None = None

    @property
    def secret(self) -> Secret | None:
        """The secret where the verdict is good, else None."""
        return self.opened.secret if self.opened else None


def seal(ring: KeyRing, secret: Secret) -> bytes:
    """Return `secret` in form 1 under the ring's first key, with a fresh random iv.

    Raises:
        KmsKeyMissing: the ring is empty.
        ValueError: the secret holds a lone surrogate, which has no UTF-8 form.
    """
    text = secret.reveal()
    plain = text.encode("utf-8", "surrogatepass")
    if decode_text(plain) is None:
        raise ValueError("the secret is not valid Unicode text")
    while True:
        blob = ring.encrypt(plain)
        # Once in 10^9 or less a blob reads as text; what is written must be recognised again.
        if recognise(blob).form is Form.RAW:
            return blob


def open_stored(ring: KeyRing, stored: bytes) -> Opened:
    """Open a stored secret of form 1, 2 or 3 with whichever key fits. Its shape is not judged.

    Raises:
        KmsKeyMissing: the ring is empty.
        SecretUnreadable: no key opens it, or it is damaged, of form 4 or 5, or holds no text.
    """
    ring.require()
    recognised = recognise(stored)
    if recognised.form is Form.LEGACY_CBC:
        raise SecretUnreadable("This secret is encrypted in an older way, under another key.")
    if recognised.form is Form.PLAIN_TEXT:
        raise SecretUnreadable("This secret is stored as plain text, without encryption.")
    if recognised.blob is None:
        raise SecretUnreadable(f"This stored secret is {recognised.damage}.")
    found = ring.decrypt(recognised.blob)
    if found is None:
        raise SecretUnreadable(_NO_KEY_OPENS)
    index, plain = found
    text = decode_text(plain)
    if text is None:
        raise SecretUnreadable("This secret opens, but what it holds is not text.")
    return Opened(Secret(text), recognised.form, index)


def examine(ring: KeyRing, stored: bytes | None) -> Examined:
    """Judge one stored secret: exactly one verdict, and its stored form (spec K).

    None and empty count as `placeholder`: nothing usable stands there, and nothing was cut.

    Raises:
        KmsKeyMissing: the ring is empty. Without a key half of the verdicts would be guesses.
    """
    ring.require()
    if stored is None:
        return Examined(Verdict.PLACEHOLDER, None)
    recognised = recognise(stored)
    form = recognised.form
    if recognised.damage is not None:
        return Examined(Verdict(recognised.damage.value), form)
    if form is Form.LEGACY_CBC:
        return Examined(Verdict.LEGACY_CBC, form)
    if recognised.text is not None:
        return Examined(_telling(recognised.text) or Verdict.PLAINTEXT, form)
    assert recognised.blob is not None
    found = ring.decrypt(recognised.blob)
    if found is None:
        return Examined(Verdict.UNOPENABLE, form)
    index, plain = found
    text = decode_text(plain)
    if text is None:
        return Examined(Verdict.MALFORMED, form)
    secret = Secret(text)
    if verdict := _telling(secret):
        return Examined(verdict, form)
    if not is_well_formed(secret):
        return Examined(Verdict.MALFORMED, form)
    return Examined(Verdict.GOOD, form, Opened(secret, form, index))


def _telling(secret: Secret) -> Verdict | None:
    text = secret.reveal()
    if is_mask(text):
        return Verdict.MASKED
    return Verdict.PLACEHOLDER if is_placeholder(text) else None
