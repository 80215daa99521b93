"""`KeyRing`: the encryption keys in memory. The first encrypts, all of them decrypt (spec K)."""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Sequence
from typing import Final, NoReturn

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mpesa_sync.errors import KmsKeyMalformed, KmsKeyMissing
from mpesa_sync.secret import KMS_KEY_LENGTH, Secret, kms_key_fault

IV_LENGTH: Final = 12
TAG_LENGTH: Final = 16
BLOB_MIN_LENGTH: Final = IV_LENGTH + TAG_LENGTH
"""Bytes of iv | tag | ciphertext where the ciphertext is empty."""
_FINGERPRINTS: Final = b"mpesa-sync fingerprints of posted secrets, v1"
_FINGERPRINT_BYTES: Final = 16


class KeyRing:
    """Keys in the order in which they are tried. Shows and serialises none of them.

    Immutable, and safe to share between tasks and threads. True where it holds a key.
    """

    __slots__ = ("_ciphers", "_print_keys")

    def __init__(self, ciphers: tuple[AESGCM, ...], print_keys: tuple[bytes, ...] = ()) -> None:
        self._ciphers = ciphers
        self._print_keys = print_keys

    @classmethod
    def empty(cls) -> KeyRing:
        """Return the ring of a program that was given no key: it opens and seals nothing."""
        return cls(())

    @classmethod
    def from_texts(cls, keys: Sequence[str | Secret]) -> KeyRing:
        """Build a ring of `keys`, each exactly 32 ASCII characters; the first encrypts.

        A key that looks like hex is not decoded. The same key twice counts once.

        Raises:
            KmsKeyMalformed: a key has another length or holds a character that is not ASCII. Names
                its position, from 1, and its length; never its content.
            TypeError: one bare text was given instead of a list of them.
        """
        if isinstance(keys, str | Secret):
            raise TypeError("keys must be a list of keys, not one key")
        texts = [key.reveal() if isinstance(key, Secret) else key for key in keys]
        for position, text in enumerate(texts, start=1):
            if fault := kms_key_fault(text):
                raise KmsKeyMalformed(
                    f"Encryption key {position} of {len(texts)} {fault}:"
                    f" it must be exactly {KMS_KEY_LENGTH} ASCII characters."
                )
        raw = [text.encode("ascii") for text in dict.fromkeys(texts)]
        return cls(tuple(map(AESGCM, raw)), tuple(hmac.digest(key, _FINGERPRINTS, "sha256") for key in raw))

    def encrypt(self, plain: bytes) -> bytes:
        """Return `plain` under the first key as iv | tag | ciphertext, with a fresh random iv.

        Raises:
            KmsKeyMissing: the ring is empty.
        """
        self.require()
        iv = os.urandom(IV_LENGTH)
        sealed = self._ciphers[0].encrypt(iv, plain, None)
        # AESGCM puts the tag last; the platform stores it before the ciphertext.
        return iv + sealed[-TAG_LENGTH:] + sealed[:-TAG_LENGTH]

    def decrypt(self, blob: bytes) -> tuple[int, bytes] | None:
        """Return the index of the key that opens `blob` and its content; None where none does.

        `blob` is iv | tag | ciphertext. Index 0 is the key that encrypts. Which of "another key"
        and "tampered" it was, the format cannot tell.

        Raises:
            KmsKeyMissing: the ring is empty.
        """
        self.require()
        if len(blob) < BLOB_MIN_LENGTH:
            return None
        iv, tag, body = blob[:IV_LENGTH], blob[IV_LENGTH:BLOB_MIN_LENGTH], blob[BLOB_MIN_LENGTH:]
        for index, cipher in enumerate(self._ciphers):
            try:
                return index, cipher.decrypt(iv, body + tag, None)
            except InvalidTag:
                continue
        return None

    def fingerprint(self, secret: Secret) -> str:
        """Return what tells two secrets apart and nothing else, under a key that follows from the first one.

        Without a key it is "" for every secret.
        """
        return next(iter(self.fingerprints(secret)), "")

    def fingerprints(self, secret: Secret) -> tuple[str, ...]:
        """Return the fingerprint of a secret under each key, in their order: as it was while that was the first."""
        text = secret.reveal().encode("utf-8", "surrogatepass")
        return tuple(hmac.digest(key, text, "sha256")[:_FINGERPRINT_BYTES].hex() for key in self._print_keys)

    def require(self) -> None:
        """Refuse to go on without a key.

        Raises:
            KmsKeyMissing: the ring is empty.
        """
        if not self._ciphers:
            raise KmsKeyMissing("No encryption key was given: set MPESA_KMS_KEY.")

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    def __len__(self) -> int:
        return len(self._ciphers)

    def __repr__(self) -> str:
        return f"KeyRing({len(self._ciphers)} keys)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyRing cannot be pickled or copied into another process")


def generate_key() -> Secret:
    """Return a new random key: 32 URL-safe ASCII characters that carry 192 bits."""
    return Secret(secrets.token_urlsafe(24))
