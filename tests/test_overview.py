"""The states of the overview, as SQL sees them: they are those of the rule, and every venue is in exactly one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mpesa_sync.db import notices, overview
from mpesa_sync.db.overview import Asked, State
from mpesa_sync.db.pool import Database
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import Direction, Reason
from mpesa_sync.domain.bars import BarFacts
from tests.support.overview import every_venue
from tests.support.venues import add_bar


def state_by_rule(facts: BarFacts, *, allow_sandbox: bool) -> State:
    """The state that the rule gives, where secrets are there or not and nobody has tried to open them."""
    reason = availability.hidden_reason(facts, allow_sandbox=allow_sandbox)
    if reason is None:
        return State.ON
    return State.SECRETS_MISSING if reason is Reason.SECRETS_MALFORMED else State(reason.value)


@pytest.mark.parametrize("allow_sandbox", [True, False])
async def test_counts_and_lists_are_as_the_rule_says(db: Database, sql: Any, allow_sandbox: bool) -> None:
    """Spec 2: one truth table; SQL and Python agree on every cell, in the counts and in every filter."""
    venues = await every_venue(sql)
    by_rule = {facts.bar_id: state_by_rule(facts, allow_sandbox=allow_sandbox) for facts in venues}
    drifted = Counter(direction for facts in venues if (direction := availability.direction(facts)))
    async with db.reading(overview.READ) as connection:
        counted = await overview.counts(connection, allow_sandbox=allow_sandbox)
        assert counted.states == {state: list(by_rule.values()).count(state) for state in State}
        assert (counted.bars, counted.hidden, counted.exposed) == (
            len(venues),
            drifted[Direction.HIDDEN],
            drifted[Direction.EXPOSED],
        )
        for state in State:
            found = await overview.page(connection, Asked(state), allow_sandbox=allow_sandbox, limit=1_000)
            assert found == sorted(bar for bar, its in by_rule.items() if its is state), state
        for direction in Direction:
            asked = Asked(direction=direction)
            found = await overview.page(connection, asked, allow_sandbox=allow_sandbox, limit=1_000)
            assert found == sorted(f.bar_id for f in venues if availability.direction(f) is direction)
    assert all(by_rule_state in by_rule.values() for by_rule_state in State if by_rule_state != "sandbox_not_allowed")
    assert (State.SANDBOX_NOT_ALLOWED in by_rule.values()) is not allow_sandbox


async def test_no_venue_is_a_count_too(db: Database) -> None:
    """An empty database: all zero, and a time."""
    async with db.reading(overview.READ) as connection:
        counted = await overview.counts(connection, allow_sandbox=True)
    assert (counted.bars, counted.hidden, counted.exposed) == (0, 0, 0)
    assert counted.states == dict.fromkeys(State, 0)
    assert counted.at.tzinfo is not None


@pytest.mark.parametrize(
    ("words", "finds"),
    [
        ("NJERI", {"mama", "slug"}),
        ("njeri's", {"mama"}),
        ("mama-", {"slug"}),
        ("50%", {"percent"}),
        ("%", {"percent"}),
        ("_", {"under"}),
        ("ÉTOILE", {"accent"}),
        ("0a0a", {"id"}),
        ("a0a0a0a", set()),
        ("nobody has this", set()),
    ],
)
async def test_a_search_finds_parts_of_names_and_slugs_and_beginnings_of_ids(
    db: Database, sql: Any, words: str, finds: set[str]
) -> None:
    """Issue 6: searchable by name, slug and id, in any case; signs of patterns are signs like others."""
    named = {
        "mama": ("Mama Njeri's", "x1", "10000000-0000-4000-8000-000000000001"),
        "slug": ("Kibanda", "mama-njeri", "20000000-0000-4000-8000-000000000001"),
        "percent": ("50% Club", "x3", "30000000-0000-4000-8000-000000000001"),
        "under": ("Snake_case", "x4", "40000000-0000-4000-8000-000000000001"),
        "accent": ("L'Étoile", "x5", "50000000-0000-4000-8000-000000000001"),
        "id": ("Nyali", "x6", "0a0a0a0a-0000-4000-8000-000000000001"),
    }
    for name, slug, bar_id in named.values():
        bar = await add_bar(sql)
        await sql.execute("update public.bars set id = $2, name = $3, slug = $4 where id = $1", bar, bar_id, name, slug)
    async with db.reading(overview.READ) as connection:
        found = await overview.page(connection, Asked(words=words), allow_sandbox=True, limit=100)
    ids = {bar_id: key for key, (_, _, bar_id) in named.items()}
    assert {ids[str(bar)] for bar in found} == finds


async def test_columns_that_a_platform_lacks_are_not_missed(db: Database, sql: Any) -> None:
    """facts/existing-platform.md: without slug, active and the payment flags, secrets as text: the same states."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    off = await add_bar(sql)
    await notices.remove(sql)  # they name the columns of a database of ours
    await sql.execute("alter table public.bars drop column slug, drop column active, drop column payment_card_enabled")
    await sql.execute(
        "alter table public.mpesa_credentials alter column passkey_enc type text using encode(passkey_enc, 'base64')"
    )
    async with db.reading(overview.READ) as connection:
        counted = await overview.counts(connection, allow_sandbox=False)
        found = await overview.page(connection, Asked(words="bar "), allow_sandbox=False, limit=10)
    assert (counted.states[State.ON], counted.states[State.NO_CREDENTIALS]) == (1, 1)
    assert found == sorted([bar, off])
