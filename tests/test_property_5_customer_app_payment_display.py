"""Property 5: customers may choose what the rule says, whoever wrote the rows, in JSON, page and stream (R3)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID, uuid4

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.secret import MASK, Secret
from tests.support.browsing import choices_on, open_stream
from tests.support.states import FLAGS, ROWS
from tests.support.venues import KEYS, SEALED, Flag, Row
from tests.support.web import Site

REASONS: Final = (
    "paused",
    "bar_inactive",
    "no_credentials",
    "drift",
    "switched_off",
    "sandbox",
    "secrets_",
    "unreadable",
    "malformed",
    "credentials_rejected",
)
"""The specification's codes (section 2), and what is common to several: none of them is a customer's business."""
_OTHER: Final = KeyRing.from_texts([generate_key()])
WORTH: Final[dict[str, bytes]] = {
    "good": SEALED[2],
    "masked": seal(KEYS, Secret(MASK)),
    "another key": seal(_OTHER, Secret("a-good-secret-under-another-key")),
    "truncated": SEALED[2][:20],
    "placeholder": seal(KEYS, Secret("your_passkey_here")),
    "plain text": b"a-secret-without-encryption",
    "empty": b"",
}
_MODE: Final = "update mpesa_sync.installation set mode = $1 where mode <> $1"
_BAR: Final = """
insert into public.bars (id, name, slug, mpesa_enabled, active, payment_card_enabled, payment_cash_enabled)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (id) do update
   set mpesa_enabled = excluded.mpesa_enabled, active = excluded.active,
       payment_card_enabled = excluded.payment_card_enabled, payment_cash_enabled = excluded.payment_cash_enabled
"""
_NO_CREDENTIALS: Final = "delete from public.mpesa_credentials where tenant_id = $1"
_CREDENTIALS: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, '600123', $3, $4, $5, $6)
"""


@dataclass(frozen=True)
class Venue:
    """One bar as stored. `worth`: of one of the three secrets of each row, the others are good; `place`: which one."""

    mpesa_enabled: Flag
    sandbox: Row
    production: Row
    sandbox_worth: str
    production_worth: str
    place: int
    active: Flag
    card: Flag
    cash: Flag
    allow_sandbox: bool

    def offered(self) -> list[str]:
        """Say what customers may choose, from the specification's words alone (section 2)."""
        if self.production is True:
            serves, allowed = self.production_worth == "good", True
        elif self.sandbox is True:
            serves, allowed = self.sandbox_worth == "good", self.allow_sandbox
        else:
            serves, allowed = False, False
        mpesa = self.mpesa_enabled is True and serves and allowed and self.active is not False
        said = {"mpesa": mpesa, "card": self.card is True, "cash": self.cash is not False}
        return [method for method, offered in said.items() if offered]


_worth: Final = st.sampled_from(["good"] * 12 + sorted(set(WORTH) - {"good"}))
_mostly_on: Final = st.sampled_from((True, True, True, *FLAGS))
_row: Final = st.sampled_from((True, True, *ROWS))
venues: Final = st.builds(
    Venue,
    mpesa_enabled=_mostly_on,
    sandbox=_row,
    production=_row,
    sandbox_worth=_worth,
    production_worth=_worth,
    place=st.integers(0, 2),
    active=_mostly_on,
    card=st.sampled_from(FLAGS),
    cash=st.sampled_from(FLAGS),
    allow_sandbox=st.booleans(),
)


async def store(sql: Any, bar: UUID, venue: Venue) -> None:
    """Write a bar with plain SQL, as another program does."""
    async with sql.transaction():
        await sql.execute(_MODE, "greenfield" if venue.allow_sandbox else "attached")
        flags = (venue.mpesa_enabled, venue.active, venue.card, venue.cash)
        await sql.execute(_BAR, bar, f"Bar {bar.hex[:6]}", bar.hex, *flags)
        await sql.execute(_NO_CREDENTIALS, bar)
        rows = (
            ("sandbox", venue.sandbox, venue.sandbox_worth),
            ("production", venue.production, venue.production_worth),
        )
        for environment, is_active, worth in rows:
            if is_active != "absent":
                secrets = list(SEALED)
                secrets[venue.place] = WORTH[worth]
                await sql.execute(_CREDENTIALS, bar, environment, *secrets, is_active)


@pytest.fixture
def met() -> Iterator[Counter[str]]:
    """Count what was offered over all examples; a set that always or never holds M-Pesa proves little."""
    counted: Counter[str] = Counter()
    yield counted
    assert counted["offered"] >= 5, counted
    assert counted["hidden"] >= 5, counted


@settings(max_examples=120, phases=[Phase.generate])
@given(venue=venues)
async def test_json_page_and_stream_offer_what_the_rule_says(
    site: Site, sql: Any, met: Counter[str], venue: Venue
) -> None:
    """Feature: mpesa-sync-fix, Property 5: Customer App Payment Display.

    Any stored state, written by another program: the JSON, the page without JavaScript and the stream's first frame
    offer the same, and that is what the specification says; none holds a reason (R3.1, R3.3, R3.4).
    Red when drift is shown as offered, when secrets are not opened, when a second active row hides production, when
    NULL counts as true (card) or false (cash), and when an answer carries the reason.
    """
    bar, expected = uuid4(), venue.offered()
    await store(sql, bar, venue)
    answer = await site.client.get(f"/api/bars/{bar}/payment-methods")
    page = await site.client.get(f"/menu/{bar.hex}")
    async with open_stream(site.client, f"/api/bars/{bar.hex}/payment-methods/events") as events:
        frame = await anext(events)
    assert (answer.status_code, page.status_code) == (200, 200)
    offer = answer.json()
    assert offered(offer) == expected
    assert choices_on(page.text) == expected
    assert frame.data == offer
    assert answer.headers["etag"] == f'"{frame.id}"'
    assert offer.keys() == {"bar", "methods", "version"}
    assert offer["bar"] == {"id": str(bar), "slug": bar.hex, "name": f"Bar {bar.hex[:6]}"}
    said = f"{answer.text}{frame.data}{page.text}".lower()
    assert [reason for reason in REASONS if reason in said] == []
    met["offered" if "mpesa" in expected else "hidden"] += 1


@settings(max_examples=100, phases=[Phase.generate])
@given(venue=venues, later=venues)
async def test_a_change_by_another_program_reaches_the_page_that_is_open(
    site: Site, sql: Any, venue: Venue, later: Venue
) -> None:
    """P5, R3.2: from any state into any other with plain SQL: the open stream ends with the new answer, without reload.

    The page fetched afterwards and the JSON say the same.
    """
    bar, later = uuid4(), replace(later, allow_sandbox=venue.allow_sandbox)
    await store(sql, bar, venue)
    async with asyncio.timeout(10), open_stream(site.client, f"/api/bars/{bar}/payment-methods/events") as events:
        frame = await anext(events)
        assert offered(frame.data) == venue.offered()
        await store(sql, bar, later)
        while offered(frame.data) != later.offered():
            frame = await anext(events)
    answer = await site.client.get(f"/api/bars/{bar}/payment-methods")
    page = await site.client.get(f"/menu/{bar}")
    assert offered(answer.json()) == choices_on(page.text) == later.offered()


def offered(offer: Any) -> list[str]:
    """The ids of what an answer offers."""
    return [method["id"] for method in offer["methods"]]
