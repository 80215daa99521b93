"""What is read for customers: the one statement on every shape, the rule applied to it, and which of two is newer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.db import detection, offers
from mpesa_sync.db.detection import NamedFacts
from mpesa_sync.db.offers import StoredOffer
from mpesa_sync.domain.availability import Reason
from mpesa_sync.domain.bars import BarFacts
from mpesa_sync.live.offers import Judge, Known, Step, step
from tests.support import databases
from tests.support.live_hub import running
from tests.support.live_page import open_page
from tests.support.states import ROWS
from tests.support.venues import KEYS, SEALED, add_bar

_BAR: Final = uuid4()


def _known(epoch: str, version: int, name: str) -> Known:
    facts = BarFacts(_BAR, mpesa_enabled=False)
    return Judge(KEYS, True).known(StoredOffer(NamedFacts(name, None, facts), (), epoch, version, True))


@pytest.mark.parametrize(
    ("held", "read", "expected"),
    [
        (None, ("e", 0, "a"), Step.PUBLISH),  # the first
        (("e", 1, "a"), ("e", 2, "b"), Step.PUBLISH),  # newer
        (("e", 1, "a"), ("e", 2, "a"), Step.PUBLISH),  # newer and alike: pages learn the version
        (("e", 1, "a"), ("e", 1, "a"), Step.REFRESH),
        (("e", 1, "a"), ("e", 1, "b"), Step.BUMP),  # a writer moved no version
        (("e", 2, "a"), ("e", 1, "b"), Step.RAISE),  # older: the database has gone back
        (("e", 2, "a"), ("f", 1, "b"), Step.PUBLISH),  # another history
    ],
)
def test_versions_order_what_is_shown(
    held: tuple[str, int, str] | None, read: tuple[str, int, str], expected: Step
) -> None:
    """L3, L4: within an epoch the higher version wins; another epoch replaces."""
    assert step(None if held is None else _known(*held), _known(*read)) is expected


def test_the_json_is_the_one_of_the_contract() -> None:
    """Spec 6: bar, methods, version; no reason in it."""
    known = _known("abc", 7, "Mama Njeri")
    assert json.loads(known.body) == {
        "bar": {"id": str(_BAR), "slug": None, "name": "Mama Njeri"},
        "methods": [{"id": "cash", "label": "Cash"}],
        "version": "abc:7",
    }
    assert known.reason is Reason.NO_CREDENTIALS


async def test_a_read_finds_what_detection_finds_for_every_state(sql: Any) -> None:
    """Spec 2: one rule, one set of facts: the two statements agree over the whole table of states."""
    bars = [
        await add_bar(sql, mpesa_enabled=flag, sandbox=sandbox, production=production, active=active)
        for flag in (True, False, None)
        for sandbox in ROWS
        for production in ROWS
        for active in (True, False)
    ]
    stored = await offers.read(sql, [*bars, uuid4()])
    assert set(stored) == set(bars)
    for bar in bars:
        assert stored[bar].named == await detection.facts_of(sql, bar)
        assert stored[bar].secrets == ((SEALED[0], SEALED[1], SEALED[2]),) * len(stored[bar].named.facts.rows)


@pytest.mark.parametrize(
    ("sealed", "reason"),
    [
        ((SEALED[0], SEALED[1], SEALED[2]), None),
        ((SEALED[0], SEALED[1], b""), Reason.SECRETS_MALFORMED),
        ((SEALED[0], b"\x00" * 60, SEALED[2]), Reason.SECRETS_UNREADABLE),
        ((b"plain", SEALED[1], SEALED[2]), Reason.SECRETS_UNREADABLE),
    ],
)
async def test_secrets_that_cannot_serve_hide_mpesa(
    sql: Any, sealed: tuple[bytes, bytes, bytes], reason: Reason | None
) -> None:
    """R3.1: the row must be usable under the keys at hand."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True, sealed=sealed)
    stored = (await offers.read(sql, [bar]))[bar]
    assert Judge(KEYS, None).known(stored).reason is reason
    assert Judge(KeyRing.from_texts([generate_key()]), None).known(stored).reason is not None
    assert Judge(KeyRing.empty(), None).known(stored).reason is not None


async def test_sandbox_serves_customers_only_where_it_may(sql: Any) -> None:
    """Spec 2: greenfield yes, attached no, unless it is said."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    stored = (await offers.read(sql, [bar]))[bar]
    assert stored.allow_sandbox
    assert Judge(KEYS, None).known(stored).reason is None
    attached = replace(stored, allow_sandbox=False)
    assert Judge(KEYS, None).known(attached).reason is Reason.SANDBOX_NOT_ALLOWED
    assert Judge(KEYS, True).known(attached).reason is None


async def test_other_shapes_of_the_platform_are_served(unnoticed_url: str) -> None:
    """Spec 1: columns that a shape lacks count as NULL, and secrets may be texts."""
    async with databases.plain(unnoticed_url) as sql:
        bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
        await sql.execute(
            """
            alter table public.bars drop column slug, drop column active, drop column payment_cash_enabled,
              drop column payment_card_enabled, drop column mpesa_environment;
            alter table public.mpesa_credentials
              alter consumer_key_enc type text using '\\x' || encode(consumer_key_enc, 'hex'),
              alter consumer_secret_enc type text using '\\x' || encode(consumer_secret_enc, 'hex'),
              alter passkey_enc type text using '\\x' || encode(passkey_enc, 'hex');
            """
        )
        async with running(unnoticed_url) as hub, open_page(hub, bar) as page:
            await page.until_offers("mpesa", "cash")
            assert page.frames[0].data["bar"]["slug"] is None


async def test_the_probe_says_which_versions_are_others(sql: Any) -> None:
    """Live path: the probe compares, the server answers with the differences alone."""
    same, moved, never = [await add_bar(sql) for _ in range(3)]
    await sql.execute("update mpesa_sync.bar_state set version = 9 where bar_id = $1", moved)
    await sql.execute("delete from mpesa_sync.bar_state where bar_id = $1", never)
    epoch, found = await offers.moved(sql, {same: 1, moved: 1, never: 0})
    assert found == [moved]
    assert await offers.moved(sql, {}) == (epoch, [])
    assert (await offers.read(sql, [same]))[same].epoch == epoch
