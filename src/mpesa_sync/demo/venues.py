"""The sample venues: twelve of them, in the states in which real fleets are found."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID, uuid5

from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.secret import MASK, Secret

_NAMESPACE: Final = UUID("6f7d8a52-9f0e-5f0a-8c39-5a1d2f4b7c11")
"""So that a venue has the same id in every run: any constant would do."""

ADD_BAR: Final = """
insert into public.bars (id, name, slug, mpesa_enabled, payment_cash_enabled, payment_card_enabled, mpesa_environment)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do update
   set (name, slug, mpesa_enabled, payment_cash_enabled, payment_card_enabled, mpesa_environment, active)
     = (excluded.name, excluded.slug, excluded.mpesa_enabled, excluded.payment_cash_enabled,
        excluded.payment_card_enabled, excluded.mpesa_environment, true)
"""
"""Where it is there already it is put back: its version goes on, and never back (facts/live.md, L3)."""
ADD_CREDENTIALS: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, $3, $4, $5, $6, $7)
"""
DROP_CREDENTIALS: Final = """
with details as (delete from mpesa_sync.credential_details where bar_id = any($1::uuid[])),
     alerts as (delete from mpesa_sync.alerts where bar_id = any($1::uuid[]))
delete from public.mpesa_credentials where tenant_id = any($1::uuid[])
"""


class Sealed(StrEnum):
    """In what state the three secrets of a venue are stored."""

    GOOD = "good"
    WRONG_KEY = "sealed under another key"
    TRUNCATED = "cut off"
    MASKED = "the mask instead of the secret"


@dataclass(frozen=True, slots=True)
class Venue:
    """One sample venue. `production` and `sandbox` are `is_active` of that row; `absent` means no such row."""

    slug: str
    name: str
    state: str
    mpesa_enabled: bool | None = False
    production: bool | str | None = "absent"
    sandbox: bool | str | None = "absent"
    sealed: Sealed = Sealed.GOOD
    only_mpesa: bool = False

    @property
    def id(self) -> UUID:
        """Return the id of its row in `bars`."""
        return uuid5(_NAMESPACE, self.slug)

    @property
    def authority(self) -> bool:
        """Return what its staff have switched: on where a credentials row is active."""
        return self.production is True or self.sandbox is True


NJERI: Final = Venue("mama-njeri", "Mama Njeri's Kitchen", "ready to be switched on", False, False)
KISUMU: Final = Venue("kisumu-lakeside", "Kisumu Lakeside Grill", "two environments", False, False, False)
UHURU: Final = Venue("uhuru-street", "Uhuru Street Diner", "with sandbox credentials", True, sandbox=True)
NYALI: Final = Venue("nyali-beach", "Nyali Beach Bar", "as it should be", True, True)
MAASAI: Final = Venue("maasai-tavern", "Maasai Tavern", "never had credentials")
RIFT: Final = Venue(
    "rift-valley", "Rift Valley Roasters", "secrets under another key", False, False, sealed=Sealed.WRONG_KEY
)
LAMU: Final = Venue("lamu-dhow", "Lamu Dhow Club", "secrets cut off", False, False, sealed=Sealed.TRUNCATED)
KENYA: Final = Venue("mount-kenya", "Mount Kenya View", "the mask saved as secret", False, False, sealed=Sealed.MASKED)
BARAKA: Final = Venue("baraka-lounge", "Baraka Lounge", "drifted", False, True)
SAVANNA: Final = Venue("savanna", "Savanna Sundowner", "drifted, two active rows", None, True, True)
JUA_KALI: Final = Venue("jua-kali", "Jua Kali Bar", "drifted", True, False, only_mpesa=True)
KARIBU: Final = Venue("karibu-rooftop", "Karibu Rooftop", "drifted, no credentials", True)

VENUES: Final = (NJERI, KISUMU, UHURU, NYALI, MAASAI, RIFT, LAMU, KENYA, BARAKA, SAVANNA, JUA_KALI, KARIBU)


def stored_secrets(keys: KeyRing, sealed: Sealed) -> list[bytes]:
    """Return a consumer key, consumer secret and passkey as the platform stores them, random at each call."""
    if sealed is Sealed.MASKED:
        return [seal(keys, Secret(MASK)) for _ in range(3)]
    ring = KeyRing.from_texts([generate_key()]) if sealed is Sealed.WRONG_KEY else keys
    blobs = [seal(ring, Secret(secrets.token_urlsafe(24))) for _ in range(3)]
    return [blob[:20] for blob in blobs] if sealed is Sealed.TRUNCATED else blobs


async def add_all(connection: Any, keys: KeyRing) -> None:
    """Insert every sample venue, as the platform's own programs would."""
    for venue in VENUES:
        await connection.execute(ADD_BAR, *_bar(venue))
        await _add_credentials(connection, keys, venue)


async def put_back(connection: Any, keys: KeyRing) -> None:
    """Bring every sample venue into the state of the start, in one transaction; alerts about them go, too."""
    async with connection.transaction():
        await connection.execute(DROP_CREDENTIALS, [venue.id for venue in VENUES])
        for venue in VENUES:
            await connection.execute(ADD_BAR, *_bar(venue))
            await _add_credentials(connection, keys, venue)


def named(slug: str) -> Venue | None:
    """Return the sample venue of a slug."""
    return next((venue for venue in VENUES if venue.slug == slug), None)


def shortcode(venue: Venue) -> str:
    """Return the number that customers of a venue pay to."""
    return str(600_100 + VENUES.index(venue))


def _bar(venue: Venue) -> tuple[Any, ...]:
    environment = "sandbox" if venue.sandbox is True and venue.production == "absent" else "production"
    cash = not venue.only_mpesa
    return venue.id, venue.name, venue.slug, venue.mpesa_enabled, cash, cash, environment


async def _add_credentials(connection: Any, keys: KeyRing, venue: Venue) -> None:
    for name, is_active in (("production", venue.production), ("sandbox", venue.sandbox)):
        if is_active != "absent":
            blobs = stored_secrets(keys, venue.sealed)
            await connection.execute(ADD_CREDENTIALS, venue.id, name, shortcode(venue), *blobs, is_active)
