"""What a customer wants to pay with: phone numbers and amounts as people write them, and what is refused."""

from __future__ import annotations

import pytest

from mpesa_sync.domain.availability import Method
from mpesa_sync.domain.payments import MOST_SHILLINGS, Intent, Wrong, intent, phone_number, typed_amount

PHONE = "254712345678"


@pytest.mark.parametrize(
    "text",
    [
        "0712345678",
        " 0712 345 678\n",
        "712345678",
        "254712345678",
        "+254 712 345 678",
        "+254-712-345-678",
        "(0712) 345678",
    ],
)
def test_a_number_is_the_same_however_it_is_written(text: str) -> None:
    """facts/daraja.md: normalised to 254 and nine digits."""
    assert phone_number(text) == PHONE


@pytest.mark.parametrize(
    "value",
    [
        *("", "07123456", "07123456789", "0812345678", "255712345678", "00254712345678", "+0712345678", "0712345678x"),
        *("٠٧١٢٣٤٥٦٧٨", "0712\u200b345678", "0712345678" + " " * 40 + "x", 254712345678, None, ["0712345678"]),
    ],
)
def test_what_is_no_kenyan_mobile_number_is_none(value: object) -> None:
    """facts/daraja.md: 254, then 1 or 7, then eight digits."""
    assert phone_number(value) is None


def test_numbers_of_both_kinds_are_taken() -> None:
    """facts/daraja.md: 07 and 01."""
    assert phone_number("0110123456") == "254110123456"


@pytest.mark.parametrize(
    ("text", "amount"), [("", None), (" \t", None), ("5", 5), ("1250", 1250), ("1,250", 1250), ("1 250 000", 1_250_000)]
)
def test_an_amount_is_read_as_it_is_typed(text: str, amount: int | None) -> None:
    """Issue 6: with or without separators; a blank is none."""
    assert typed_amount(text) == amount


@pytest.mark.parametrize("text", ["12.50", "1,25", "-5", "5 KSh", "1e3", "٥", "9" * 41])
def test_what_is_no_whole_number_of_shillings_is_refused(text: str) -> None:
    """Issue 6: cents are not silently dropped, other digits not guessed."""
    assert intent("cash", None, typed_amount(text)) == (Wrong("amount", "malformed"),)


def test_bounds_of_an_amount() -> None:
    """facts/daraja.md: from 1 to 150,000."""
    for amount in (1, MOST_SHILLINGS):
        assert intent("mpesa", "0712345678", amount) == Intent(Method.MPESA, PHONE, amount)
    for wrong in (0, -1, MOST_SHILLINGS + 1, 1.0, True, "5"):
        assert intent("mpesa", None, wrong) == (Wrong("amount", "malformed"),)


def test_everything_that_is_wrong_is_named() -> None:
    """R4.4's manner."""
    assert intent(5, 5, "x") == (Wrong("method", "unknown"), Wrong("phone", "malformed"), Wrong("amount", "malformed"))
    assert intent(None, " ", None) == (Wrong("method", "missing"),)
