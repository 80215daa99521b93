"""`Secret`: a text that does not show itself, and the one rule for the shape of a key. Nothing here encrypts."""

from __future__ import annotations

from typing import Final, NoReturn

MASK: Final = "\u2022" * 16
"""What a stored secret reads as, everywhere a person or a program may see it (existing-platform.md)."""

KMS_KEY_LENGTH: Final = 32
"""Characters of an encryption key. Their UTF-8 bytes are the AES-256 key (existing-platform.md)."""


class Secret:
    """A text in memory that prints as `***` and refuses to be serialised.

    Open it with `reveal()`, at the one place that needs the content: the name is there to be searched for.
    Two secrets are equal when their contents are; a secret never equals a plain text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the plain text. Never pass it to a log, an error or a retried call."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled or copied into another process")


def kms_key_fault(text: str) -> str | None:
    """Return what is wrong with the shape of an encryption key, None where nothing is.

    Speaks of the length and never of the content: `has 31 characters`. A key that looks like hex is not
    decoded (existing-platform.md).
    """
    if len(text) != KMS_KEY_LENGTH:
        return f"has {len(text)} characters"
    if not (text.isascii() and text.isprintable()):
        return f"has {len(text)} characters, not all of them printable ASCII"
    return None
