"""What is on the menu of the sample venues, and what was ordered: made up, as their pages say.

The platform's tables hold neither products nor tabs, so none are invented there.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from mpesa_sync.demo import venues
from mpesa_sync.web.menu_view import MenuCard, Product, TabLine

_CHOMA: Final = Product("Nyama choma, half a kilo", 950)
_PILAU: Final = Product("Pilau with kachumbari", 450)
_SAMOSA: Final = Product("Samosas, two", 160)
_CHIPS: Final = Product("Chips masala", 300)
_LAGER: Final = Product("Lager, 500 ml", 350)
_GINGER: Final = Product("Ginger ale, 300 ml", 120)
_CHAI: Final = Product("Chai, a pot", 200)
_CARD: Final = MenuCard(
    products=(_CHOMA, _PILAU, _CHIPS, _SAMOSA, _LAGER, _GINGER, _CHAI),
    tab=(TabLine(_CHOMA, 1), TabLine(_SAMOSA, 2), TabLine(_LAGER, 3)),
    is_sample=True,
)
_VENUES: Final = frozenset(venue.id for venue in venues.VENUES)


def of_bar(bar_id: UUID) -> MenuCard | None:
    """Return the card of a sample venue, the same for each of them; None for any other bar."""
    return _CARD if bar_id in _VENUES else None
