"""The truth table of THE RULE: its cells as values and as rows of a real database, and the oracle's word on each."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Final
from uuid import UUID

from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import Environment
from tests.support.states import FLAGS, STATES, State

_CREDENTIALS: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, '600123', '', '', '', $3)
"""
SECRETS_COLUMNS: Final = (
    "mpesa_consumer_key_encrypted",
    "mpesa_consumer_secret_encrypted",
    "mpesa_passkey_encrypted",
)


@dataclass(frozen=True)
class Cell:
    """One cell of the table. `holds_secrets`: in which of the three columns of `bars`, None: blank in all."""

    bar_id: UUID
    state: State
    active: bool | None = None
    legacy: bool | None = None
    named: str | None = None
    holds_secrets: bool = False

    def facts(self) -> BarFacts:
        """The cell as the rule takes it, made without any SQL."""
        return BarFacts(
            bar_id=self.bar_id,
            mpesa_enabled=self.state.mpesa_enabled,
            rows=tuple(CredentialsRow(Environment(name), flag) for name, flag in self.state.flags.items()),
            active=self.active,
            cash_enabled=None,
            card_enabled=None,
            legacy_mpesa_enabled=self.legacy,
            named_environment=self.named,
            bar_holds_secrets=self.holds_secrets,
        )

    def oracle(self, *, allow_sandbox: bool) -> tuple[bool, bool, set[str]]:
        """Authority, shown and warnings, as the specification's section 2 says them."""
        on = [name for name, flag in self.state.flags.items() if flag is True]
        authority, shown = bool(on), self.state.mpesa_enabled is True
        counted = "production" if "production" in on else "sandbox"
        warnings = {
            "null_flag": self.state.mpesa_enabled is None and not authority,
            "two_active": len(on) == 2,
            "sandbox_active": "sandbox" in on and not allow_sandbox,
            "inactive_bar_on": authority and self.active is False,
            "legacy_flag_differs": (self.legacy is True) != shown and self.legacy is not None,
            "environment_differs": authority and self.named not in (None, counted),
            "stale_authority": self.holds_secrets and self.state.flags == {},
        }
        return authority, shown, {name for name, applies in warnings.items() if applies}


def cells(*, legacy: tuple[bool | None, ...]) -> list[Cell]:
    """Every cell of a shape that has the later columns; `legacy` are the values of the older flag."""
    named = (None, "sandbox", "production")
    every = product(STATES, FLAGS, legacy, named, (False, True))
    return [Cell(UUID(int=number), *values) for number, values in enumerate(every, start=1)]


async def fill(connection: Any, table: list[Cell], columns: list[str]) -> None:
    """Write the cells into the database, with those of the columns that this shape has."""
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    statement = f"insert into public.bars ({', '.join(columns)}) values ({places})"
    await connection.executemany(statement, [[column_of(cell, name) for name in columns] for cell in table])
    rows = [(cell.bar_id, name, flag) for cell in table for name, flag in cell.state.flags.items()]
    await connection.executemany(_CREDENTIALS, rows)


def column_of(cell: Cell, name: str) -> object:
    """The value of a column; secrets stand in one of the three columns only, the others are blank or NULL."""
    if name in SECRETS_COLUMNS:
        mine = SECRETS_COLUMNS[cell.bar_id.int % 3]
        return "sealed" if cell.holds_secrets and name == mine else (" ", None)[cell.bar_id.int % 2]
    return {
        "id": cell.bar_id,
        "name": "Bar",
        "mpesa_enabled": cell.state.mpesa_enabled,
        "active": cell.active,
        "payment_mpesa_enabled": cell.legacy,
        "mpesa_environment": cell.named,
        "payment_cash_enabled": None,
        "payment_card_enabled": None,
    }[name]
