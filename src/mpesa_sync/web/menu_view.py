"""What stands on a customers' page beside the choices: what was ordered, what was typed, and what Pay was answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from mpesa_sync.domain.availability import Method
from mpesa_sync.domain.payments import Wrong
from mpesa_sync.web.customer_texts import Words


@dataclass(frozen=True, slots=True)
class Product:
    """Something on the menu; `price` in whole shillings."""

    name: str
    price: int


@dataclass(frozen=True, slots=True)
class TabLine:
    """Something that was ordered, so many times."""

    product: Product
    count: int

    @property
    def price(self) -> int:
        """Return what this line costs."""
        return self.product.price * self.count


@dataclass(frozen=True, slots=True)
class MenuCard:
    """A short menu and the tab to pay. The platform's tables hold neither, so whoever serves the pages hands them in.

    `is_sample`: made up, and the page says so.
    """

    products: tuple[Product, ...]
    tab: tuple[TabLine, ...]
    is_sample: bool = False

    @property
    def total(self) -> int:
        """Return what is to pay."""
        return sum(line.price for line in self.tab)


MenuCards = Callable[[UUID], MenuCard | None]
"""Gives the card of a bar, None where there is none."""


def no_cards(_bar_id: UUID) -> None:
    """Return no card: nobody has handed one in."""


Tone = Literal["good", "check", "bad"]


@dataclass(frozen=True, slots=True)
class Payment:
    """What a posted form asked, to be shown again, and its answer.

    `method` is None where it was none of ours. `wrong`: by field, what to do about it.
    """

    method: Method | None
    phone: str
    amount: str
    tone: Tone
    answer: str
    wrong: Mapping[str, str] = field(default_factory=dict)


NO_PAYMENT: Final = Payment(None, "", "", "good", "")


def reason(words: Words, method: Method, offered: tuple[Method, ...]) -> str:
    """Return in a customer's words whether a method is possible, and what else is where it is not."""
    if method in offered:
        return words.text(f"pay.allowed.{method}")
    name = words.text(f"method.{method}")
    if not offered:
        return words.text("pay.refused.all", method=name)
    return words.text("pay.refused", method=name, others=", ".join(words.text(f"method.{one}") for one in offered))


def unsure(words: Words, method: Method) -> str:
    """Return what is said where the answer cannot be had: never that M-Pesa or a card is possible (spec 2)."""
    if method is Method.CASH:
        return words.text("pay.unsure.cash")
    return words.text("pay.unsure", method=words.text(f"method.{method}"))


def remedies(words: Words, wrong: tuple[Wrong, ...]) -> dict[str, str]:
    """Return by field what to do about it."""
    return {one.field: words.text(f"pay.wrong.{one.field}.{one.code}") for one in wrong}
