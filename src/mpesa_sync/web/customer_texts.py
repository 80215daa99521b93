"""Every text that a customer reads, by language and key: a language is one more catalogue with the same keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

ENGLISH: Final[Mapping[str, str]] = {
    "site.skip": "Skip to the content",
    "menu.title": "How to pay at {name}",
    "menu.nameless": "Pay here",
    "menu.question": "How would you like to pay?",
    "menu.none": "Please ask the staff how to pay.",
    "menu.plain": "This is what is possible now. Load the page again to be sure.",
    "menu.unsure": "We cannot confirm M-Pesa right now.",
    "menu.again": "Check again",
    "menu.your_choice": "Your choice: {method}.",
    "menu.closed": "This venue is marked as closed. If you are here, please ask the staff before you pay.",
    "menu.products": "Menu",
    "menu.sample": "Sample tab and menu of the demo. How to pay is real.",
    "tab.title": "Your tab",
    "tab.total": "To pay",
    "tab.line": "{count} × {name}",
    "money": "KSh {amount}",
    "method.mpesa": "M-Pesa",
    "method.mpesa.hint": "From your phone",
    "method.card": "Card",
    "method.card.hint": "Debit or credit card",
    "method.cash": "Cash",
    "method.cash.hint": "Notes and coins",
    "pay.phone": "Your M-Pesa number (optional)",
    "pay.phone.hint": "Such as 0712 345 678. It is not stored.",
    "pay.amount": "Your bill in shillings (optional)",
    "pay.amount.hint": "Such as 1,250.",
    "pay.button": "Pay",
    "pay.button.with": "Pay with {method}",
    "pay.asking": "Asking …",
    "pay.allowed.mpesa": "Yes, M-Pesa works here now. This page takes no money yet: please pay with your waiter.",
    "pay.allowed.card": "Yes, you can pay by card. Please tell your waiter.",
    "pay.allowed.cash": "Yes, you can pay in cash. Please tell your waiter.",
    "pay.refused": "{method} is not possible here right now. Possible: {others}.",
    "pay.refused.all": "{method} is not possible here right now. Please ask the staff how to pay.",
    "pay.unsure": "We cannot check this right now, so please do not pay with {method} yet. Cash is fine, or try again.",
    "pay.unsure.cash": "We cannot check this right now, but cash is fine. Please tell your waiter.",
    "pay.failed": "We could not ask: no connection. Cash is fine, or try again.",
    "pay.wrong": "That did not work. Please look at what is marked.",
    "pay.wrong.method.missing": "Choose how you would like to pay.",
    "pay.wrong.method.unknown": "Choose one of mpesa, card and cash.",
    "pay.wrong.phone.malformed": "Type a Kenyan mobile number, such as 0712 345 678.",
    "pay.wrong.amount.malformed": "Type whole shillings, from 1 to 150,000 and without cents.",
    "feed.connecting": "Connecting …",
    "feed.live": "Live: this page is always up to date.",
    "feed.polling": "Up to date: checked every few seconds.",
    "feed.reconnecting": "The connection was lost. Connecting again …",
    "feed.stale": "We cannot confirm M-Pesa right now.",
    "feed.offline": "You are offline, so we cannot confirm M-Pesa.",
    "feed.gone": "This venue is not here any more.",
    "feed.cash_is_fine": "Cash is fine.",
    "feed.ask": "Please ask the staff how to pay.",
    "change.appeared": "{method} is possible now.",
    "change.vanished": "{method} is not possible any more.",
    "change.unconfirmed": "{method} cannot be confirmed right now. Please choose again, or wait a moment.",
    "change.choose_again": "{method} is not possible any more. Please choose again.",
    "drop-in.cash": "Cash",
    "drop-in.label": "How to pay",
    "drop-in.gone": "{method} is not possible any more. Please choose again.",
    "drop-in.unsure": "We cannot confirm M-Pesa right now.",
    "drop-in.none": "Please ask the staff how to pay.",
    "problem.404.title.customer": "There is no such venue",
    "problem.404.customer": "Please scan the code again, or ask the staff.",
    "problem.503.customer": "We cannot say right now how you can pay. Cash is fine, or ask the staff.",
}

CATALOGUES: Final[dict[str, Mapping[str, str]]] = {"en": ENGLISH}
"""By language tag. The first is what is spoken where a customer asks for none of them."""


class Words:
    """The texts of one language.

    Arguments:
        language: one of `CATALOGUES`.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self._texts = CATALOGUES[language]

    def text(self, key: str, **values: object) -> str:
        """Return the text of a key with `values` in its `{places}`.

        Raises:
            KeyError: there is no such text, or one of its places has no value.
        """
        return self._texts[key].format_map(values)

    def raw(self, key: str) -> str:
        """Return a text as it is, its places open: for a script, which fills them."""
        return self._texts[key]

    def under(self, prefix: str) -> dict[str, str]:
        """Return the texts whose keys begin with `prefix`, by the rest of the key."""
        return {key.removeprefix(prefix): text for key, text in self._texts.items() if key.startswith(prefix)}

    def money(self, shillings: int) -> str:
        """Return an amount of whole shillings."""
        return self.text("money", amount=f"{shillings:,}")


def words_for(accepted: str = "") -> Words:
    """Return the texts of the language that somebody likes best among those there are.

    Arguments:
        accepted: `Accept-Language`, as a browser sends it.
    """
    wanted: list[tuple[float, str]] = []
    for part in accepted[:500].split(","):
        tag, _, quality = part.strip().partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        language = tag.partition("-")[0].lower()
        if language in CATALOGUES and weight > 0:
            wanted.append((weight, language))
    first = next(iter(CATALOGUES))
    return Words(max(wanted, key=lambda one: one[0])[1] if wanted else first)
