"""What a customer wants to pay with, as a value. Only its form is checked: `availability` says what is possible."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mpesa_sync.domain.availability import Method
from mpesa_sync.domain.credentials import clean_text

MOST_SHILLINGS: Final = 150_000
"""What M-Pesa takes at a time (facts/daraja.md)."""
FIELDS: Final = ("method", "phone", "amount")
_PHONE: Final = re.compile(r"(?:\+?254|0)?([17][0-9]{8})")
_BETWEEN: Final = re.compile(r"[ ().-]")
_SHILLINGS: Final = re.compile(r"[0-9]{1,3}(?:[, ]?[0-9]{3})*|[0-9]+")
_LONGEST: Final = 40


@dataclass(frozen=True, slots=True)
class Intent:
    """What somebody wants to pay with.

    `phone` is in the form 254712345678, None where none was given; `amount` is in whole shillings, None likewise.
    """

    method: Method
    phone: str | None = None
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class Wrong:
    """One wrong field: its name, and `missing`, `unknown` or `malformed`. Never its content."""

    field: str
    code: str


def intent(method: object, phone: object, amount: object) -> Intent | tuple[Wrong, ...]:
    """Return what is meant, or everything that is wrong with it.

    Arguments:
        method: `mpesa`, `card` or `cash`.
        phone: as people write it, such as 0712 345 678; None or a blank text for none.
        amount: whole shillings as a number; None for none.
    """
    wrong: list[Wrong] = []
    chosen = Method(method) if isinstance(method, str) and method in tuple(Method) else None
    if chosen is None:
        wrong.append(Wrong("method", "unknown" if method else "missing"))
    number = phone_number(phone)
    if number is None and not _is_blank(phone):
        wrong.append(Wrong("phone", "malformed"))
    if amount is not None and not (type(amount) is int and 1 <= amount <= MOST_SHILLINGS):
        wrong.append(Wrong("amount", "malformed"))
    if chosen is None or wrong:
        return tuple(wrong)
    return Intent(chosen, number, amount if isinstance(amount, int) else None)


def phone_number(value: object) -> str | None:
    """Return a Kenyan mobile number as 254 and nine digits, None where it is none."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    found = _PHONE.fullmatch(_BETWEEN.sub("", clean_text(value)))
    return f"254{found[1]}" if found else None


def typed_amount(text: str) -> object:
    """Return the whole shillings that somebody typed, None for a blank; what is no such number stays as it is."""
    cleaned = clean_text(text)
    if not cleaned:
        return None
    return int(re.sub("[, ]", "", cleaned)) if len(cleaned) <= _LONGEST and _SHILLINGS.fullmatch(cleaned) else text


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not clean_text(value))
