"""Whether two places hold the same M-Pesa secrets, opened with the keys at hand (spec R2, stale authority)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.crypto.forms import recognise
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.domain.credentials import clean_text, is_mask, is_placeholder
from mpesa_sync.errors import SecretUnreadable


def are_others(keys: KeyRing, ours: Sequence[bytes | None], rows: Iterable[Sequence[bytes | None]]) -> bool:
    """Return whether secrets are known to be others than those of every row.

    A blank, a placeholder and the mask among `ours` say nothing. What no key opens is not known to differ.

    Arguments:
        ours: consumer key, consumer secret and passkey as stored.
        rows: the same of each row, at least one.
    Raises:
        KmsKeyMissing: the ring is empty.
    """
    keys.require()
    return all(any(_differ(keys, *pair) for pair in zip(ours, row, strict=True)) for row in rows)


def _differ(keys: KeyRing, ours: bytes | None, theirs: bytes | None) -> bool:
    if not ours or ours == theirs:
        return False
    content = _content(keys, ours)
    if content is None or is_mask(content) or is_placeholder(content):
        return False
    return _content(keys, theirs) not in (None, content)


def _content(keys: KeyRing, stored: bytes | None) -> str | None:
    """Return what a stored secret holds, in whatever form; None where no key opens it."""
    if not stored:
        return ""
    text = recognise(stored).text
    if text is not None:
        return clean_text(text.reveal())
    try:
        return clean_text(open_stored(keys, stored).secret.reveal())
    except SecretUnreadable:
        return None
