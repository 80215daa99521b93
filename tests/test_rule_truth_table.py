"""THE RULE over its whole truth table: Python and SQL agree wherever both speak, and with the oracle (spec 2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.db import detection, full_pass
from mpesa_sync.db.detection import DriftedBar, FleetSummary, named_warnings
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import Method, Reason
from mpesa_sync.domain.bars import BarFacts, CheckOutcome, CredentialsRow, SecretsState
from mpesa_sync.domain.credentials import Environment
from tests.support.databases import plain
from tests.support.states import FLAGS, STATES
from tests.support.truth_table import SECRETS_COLUMNS, Cell, cells, fill

_LATER_COLUMNS: Final = """
alter table public.bars add column mpesa_consumer_key_encrypted text, add column mpesa_consumer_secret_encrypted text,
  add column mpesa_passkey_encrypted text
"""
_LEGACY_COLUMN: Final = "alter table public.bars add column payment_mpesa_enabled boolean"
_BAREST: Final = """
alter table public.bars drop column slug, drop column active, drop column updated_at,
  drop column payment_cash_enabled, drop column payment_card_enabled, drop column mpesa_environment cascade;
drop trigger bars_updated_at on public.bars;
"""
_EVERY_BAR: Final = detection.DRIFT.split("select false as is_summary")[0] + (
    "select id, authority, shown, warnings from facts"
)
"""The detection's own facts of every bar, also of those that it would only count."""


async def agree(connection: Any, table: list[Cell], *, allow_sandbox: bool) -> None:
    """Hold SQL, Python and the oracle against each other in every cell, and against what `scan` reports."""
    found = {record["id"]: record for record in await connection.fetch(_EVERY_BAR, allow_sandbox)}
    assert len(found) == len(table)
    counted: Counter[str] = Counter()
    drifted: dict[UUID, tuple[str, set[str]]] = {}
    for cell in table:
        facts, record = cell.facts(), found[cell.bar_id]
        authority, shown, warnings = cell.oracle(allow_sandbox=allow_sandbox)
        direction = None if authority == shown else "hidden" if authority else "exposed"
        python = availability.warnings(facts, allow_sandbox=allow_sandbox)
        assert (availability.authority(facts), availability.shown(facts)) == (authority, shown), cell
        assert (record["authority"], record["shown"]) == (authority, shown), cell
        assert availability.direction(facts) == direction, cell
        assert python == named_warnings(record["warnings"]), cell
        assert set(python) == warnings, cell
        counted.update(warnings)
        if direction:
            drifted[cell.bar_id] = (direction, warnings)
    async with connection.transaction(readonly=True):
        bars: list[DriftedBar] = []
        summary = await detection.scan(connection, allow_sandbox=allow_sandbox, each=bars.append)
        passed = await full_pass.drifted(connection)
    assert {bar.bar_id: (bar.direction, set(bar.warnings)) for bar in bars} == drifted
    assert len(bars) == len(drifted)
    assert sorted(passed) == sorted(drifted), "the full pass of a verification sees the same bars"
    check_summary(summary, len(table), Counter(direction for direction, _ in drifted.values()), counted)


def check_summary(summary: FleetSummary, bars: int, directions: Counter[str], warnings: Counter[str]) -> None:
    """The counts over all bars are the sums over the cells."""
    assert (summary.bars, summary.hidden, summary.exposed) == (bars, directions["hidden"], directions["exposed"])
    assert (summary.drifted, summary.consistent) == (directions.total(), bars - directions.total())
    assert {name: count for name, count in summary.warnings.items() if count} == +warnings


@pytest.fixture
async def platform(platform_url: str) -> AsyncIterator[Any]:
    """A plain connection to a platform's database with nothing of ours in it."""
    async with plain(platform_url) as connection:
        yield connection


@pytest.mark.parametrize("legacy", [(None,), FLAGS], ids=["no legacy column", "legacy column"])
async def test_python_and_sql_agree_in_every_cell(platform: Any, legacy: tuple[bool | None, ...]) -> None:
    """Spec 2: authority, shown, direction and all seven warnings, in the 3,456 × 2 cells of the truth table.

    Red when any of `authority`, `shown`, `direction`, `warnings` or any line of `DRIFT` is changed.
    """
    await platform.execute(_LATER_COLUMNS)
    columns = ["id", "name", "mpesa_enabled", "active", "mpesa_environment", *SECRETS_COLUMNS]
    if len(legacy) > 1:
        await platform.execute(_LEGACY_COLUMN)
        columns.append("payment_mpesa_enabled")
    table = cells(legacy=legacy)
    assert len(table) == 48 * 3 * len(legacy) * 3 * 2
    await fill(platform, table, [*columns, "payment_cash_enabled", "payment_card_enabled"])
    for allow_sandbox in (True, False):
        await agree(platform, table, allow_sandbox=allow_sandbox)
    if len(legacy) > 1:
        three = {cell.bar_id: (*cell.oracle(allow_sandbox=True)[:2], cell.legacy is True) for cell in table}
        older = {bar_id for bar_id, flags in three.items() if len(set(flags)) > 1}
        async with platform.transaction(readonly=True):
            assert set(await full_pass.drifted(platform, with_legacy=True)) == older
    facts_of_bar = await platform.prepare(detection.FACTS_OF_BAR)
    for cell in table:
        record = await facts_of_bar.fetchrow(cell.bar_id)
        assert record["holds_secrets"] is cell.holds_secrets
    for cell in table[:: max(1, len(table) // 500)]:
        found = await detection.facts_of(platform, cell.bar_id)
        assert found is not None
        assert sorted(found.facts.rows, key=str) == sorted(cell.facts().rows, key=str)
        assert without_rows(found.facts) == without_rows(cell.facts())


def without_rows(facts: BarFacts) -> tuple[object, ...]:
    """All facts but the rows, whose order means nothing."""
    return (
        facts.bar_id,
        facts.mpesa_enabled,
        facts.active,
        facts.card_enabled,
        facts.cash_enabled,
        facts.legacy_mpesa_enabled,
        facts.named_environment,
        facts.bar_holds_secrets,
    )


async def test_a_shape_with_nothing_but_the_required_columns_is_judged_too(platform: Any) -> None:
    """existing-platform.md: absent optional columns read as NULL: no warning comes of them, and cash stays offered."""
    await platform.execute(_BAREST)
    table = [Cell(UUID(int=number), state) for number, state in enumerate(STATES, start=1)]
    await fill(platform, table, ["id", "name", "mpesa_enabled"])
    for allow_sandbox in (True, False):
        await agree(platform, table, allow_sandbox=allow_sandbox)
    for cell in table:
        found = await detection.facts_of(platform, cell.bar_id)
        assert found is not None
        assert without_rows(found.facts) == without_rows(cell.facts())
        offered = availability.offer(found.facts, allow_sandbox=True)
        mpesa = cell.state.mpesa_enabled is True and True in cell.state.flags.values()
        assert offered == ((Method.MPESA, Method.CASH) if mpesa else (Method.CASH,)), cell


P, S = Environment.PRODUCTION, Environment.SANDBOX
GOOD: Final = CredentialsRow(P, True)
OFF: Final = CredentialsRow(P, False)


def bar(*rows: CredentialsRow, shown: bool | None = True, active: bool | None = True) -> BarFacts:
    """A bar as a value, for the table below."""
    return BarFacts(bar_id=UUID(int=1), mpesa_enabled=shown, rows=rows, active=active)


def row(secrets: SecretsState, check: CheckOutcome = CheckOutcome.UNKNOWN) -> CredentialsRow:
    """An active production row."""
    return CredentialsRow(P, True, secrets, check)


WORST: Final = CredentialsRow(S, True, SecretsState.UNREADABLE, CheckOutcome.REJECTED)
REASONS: Final = [
    # what the case is; the facts; paused; sandbox allowed; the reason, None: offered
    ("paused wins over all that follows", bar(active=False), True, False, Reason.PAUSED),
    ("paused hides what would be offered", bar(GOOD), True, True, Reason.PAUSED),
    ("an inactive bar, before its credentials", bar(active=False), False, True, Reason.BAR_INACTIVE),
    ("an inactive bar that has everything", bar(GOOD, active=False), False, True, Reason.BAR_INACTIVE),
    ("active is NULL: the bar is active", bar(GOOD, active=None), False, True, None),
    ("no rows, before the drift that it is", bar(shown=True), False, True, Reason.NO_CREDENTIALS),
    ("no rows and off", bar(shown=False), False, True, Reason.NO_CREDENTIALS),
    ("shown, and no row is active", bar(OFF, shown=True), False, True, Reason.DRIFT_EXPOSED),
    ("a NULL is_active is not active", bar(CredentialsRow(P, None)), False, True, Reason.DRIFT_EXPOSED),
    ("off in both places", bar(OFF, shown=False), False, True, Reason.SWITCHED_OFF),
    ("off, and the flag is NULL", bar(OFF, shown=None), False, True, Reason.SWITCHED_OFF),
    ("active and not shown, before the row's own faults", bar(WORST, shown=False), False, False, Reason.DRIFT_HIDDEN),
    ("active, and the flag is NULL", bar(GOOD, shown=None), False, True, Reason.DRIFT_HIDDEN),
    ("a sandbox row, before its secrets", bar(WORST), False, False, Reason.SANDBOX_NOT_ALLOWED),
    ("a sandbox row where it may serve", bar(CredentialsRow(S, True)), False, True, None),
    ("unreadable, before rejected", bar(WORST), False, True, Reason.SECRETS_UNREADABLE),
    (
        "malformed, before rejected",
        bar(row(SecretsState.MALFORMED, CheckOutcome.REJECTED)),
        False,
        True,
        Reason.SECRETS_MALFORMED,
    ),
    ("a missing secret is malformed", bar(row(SecretsState.MISSING)), False, True, Reason.SECRETS_MALFORMED),
    (
        "only a rejected check hides",
        bar(row(SecretsState.USABLE, CheckOutcome.REJECTED)),
        False,
        True,
        Reason.CREDENTIALS_REJECTED,
    ),
    (
        "an unreachable gateway hides nothing",
        bar(row(SecretsState.USABLE, CheckOutcome.UNREACHABLE)),
        False,
        True,
        None,
    ),
    ("an accepted check", bar(row(SecretsState.USABLE, CheckOutcome.ACCEPTED)), False, False, None),
    ("of two active rows production is judged", bar(WORST, GOOD), False, False, None),
    ("in whatever order they come", bar(GOOD, WORST), False, False, None),
    (
        "production is judged where it is the bad one",
        bar(CredentialsRow(S, True), row(SecretsState.UNREADABLE)),
        False,
        True,
        Reason.SECRETS_UNREADABLE,
    ),
    ("an inactive row is not judged", bar(WORST, OFF), False, True, Reason.SECRETS_UNREADABLE),
    ("everything is as it should be", bar(GOOD, shown=True), False, False, None),
]


@pytest.mark.parametrize(("case", "facts", "paused", "allowed", "reason"), REASONS, ids=[c[0] for c in REASONS])
def test_the_first_reason_that_applies_is_given(
    case: str, facts: BarFacts, paused: bool, allowed: bool, reason: Reason | None
) -> None:
    """Spec 2: ten reasons in one order, and M-Pesa is offered exactly where there is none (R3.3, R3.4)."""
    assert availability.hidden_reason(facts, allow_sandbox=allowed, paused=paused) == reason, case
    offered = availability.offer(facts, allow_sandbox=allowed, paused=paused)
    assert (Method.MPESA in offered) is (reason is None)


def test_every_reason_has_its_row_and_they_come_in_the_order_of_the_rule() -> None:
    """Spec 2: the table above leaves none out, and the enum lists them in the order in which they are tried."""
    assert list(dict.fromkeys(reason for *_, reason in REASONS if reason)) == list(Reason)


@pytest.mark.parametrize(
    ("card", "cash", "offered"),
    [
        (True, True, (Method.MPESA, Method.CARD, Method.CASH)),
        (False, True, (Method.MPESA, Method.CASH)),
        (None, None, (Method.MPESA, Method.CASH)),  # absent or NULL: no card, cash
        (None, False, (Method.MPESA,)),
    ],
)
def test_card_and_cash_follow_their_own_columns(card: bool | None, cash: bool | None, offered: object) -> None:
    """Spec 2: card iff its column is true, cash unless its column is false."""
    facts = BarFacts(bar_id=UUID(int=1), mpesa_enabled=True, rows=(GOOD,), card_enabled=card, cash_enabled=cash)
    assert availability.offer(facts, allow_sandbox=True) == offered
