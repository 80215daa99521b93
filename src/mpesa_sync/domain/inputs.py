"""What callers hand in, checked before anything is done with it: each refusal names the field and the remedy."""

from __future__ import annotations

from uuid import UUID

from mpesa_sync.domain.credentials import Environment, clean_text, has_refused_characters
from mpesa_sync.errors import InvalidInput


def bar_uuid(value: UUID | str, field: str = "bar_id") -> UUID:
    """Return the id of a bar.

    Raises:
        InvalidInput: it is not a UUID.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError) as exc:
        raise InvalidInput(field, "must be a UUID such as 7d9c2f64-0f0b-4d1e-9f0e-5a9b3c1d2e4f") from exc


def uuid_of(field: str, value: object) -> UUID:
    """Return `value` if it is a UUID object; a text that looks like one is not taken for it.

    Raises:
        InvalidInput: it is anything else.
    """
    if not isinstance(value, UUID):
        raise InvalidInput(field, "must be a uuid.UUID")
    return value


def flag(field: str, value: object) -> bool:
    """Return `value` if it is True or False; the text "false" is an error, not truth (R4.4).

    Raises:
        InvalidInput: it is anything else.
    """
    if not isinstance(value, bool):
        raise InvalidInput(field, "must be true or false, not a text or a number")
    return value


def named_environment(value: str | None, field: str = "environment") -> Environment | None:
    """Return the environment named, None where none is.

    Raises:
        InvalidInput: there is no environment of this name.
    """
    if value is None:
        return None
    try:
        return Environment(value)
    except ValueError as exc:
        raise InvalidInput(field, "must be sandbox or production") from exc


def line_of_text(field: str, value: object, *, shortest: int = 1, longest: int = 200) -> str:
    """Return a text of one line without the white space around it.

    Raises:
        InvalidInput: it is no text, too short, too long, or holds control, bidi or invisible characters.
    """
    if not isinstance(value, str):
        raise InvalidInput(field, "must be a text")
    text = clean_text(value)
    if not shortest <= len(text) <= longest:
        raise InvalidInput(field, f"must have {shortest} to {longest} characters")
    if has_refused_characters(text):
        raise InvalidInput(field, "holds control or invisible characters; type it again")
    return text
