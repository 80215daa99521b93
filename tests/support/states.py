"""Every state that one bar can be in, as values that tests draw from and put into a real database."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal
from uuid import UUID

from hypothesis import strategies as st

from tests.support.venues import SEALED, Flag, Row

FLAGS: Final[tuple[Flag, ...]] = (True, False, None)
ROWS: Final[tuple[Row, ...]] = ("absent", True, False, None)
ENVIRONMENTS: Final[tuple[Literal["sandbox", "production"], ...]] = ("sandbox", "production")

_SET_BAR: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_REMOVE: Final = "delete from public.mpesa_credentials where tenant_id = $1 and environment = $2"
_SET_ROW: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, '600123', $3, $4, $5, $6)
on conflict (tenant_id, environment) do update set is_active = excluded.is_active
"""


@dataclass(frozen=True)
class State:
    """Both fields of one bar: its flag, and each credentials row's, or that there is no such row."""

    mpesa_enabled: Flag
    sandbox: Row
    production: Row

    @property
    def flags(self) -> dict[str, bool | None]:
        """The rows that are there, with their flags."""
        rows = {"sandbox": self.sandbox, "production": self.production}
        return {name: flag for name, flag in rows.items() if flag != "absent"}


STATES: Final = tuple(State(*cell) for cell in product(FLAGS, ROWS, ROWS))
"""The 48 cells of `mpesa_enabled` × sandbox row × production row."""

states: Final = st.sampled_from(STATES)
NAMED: Final[tuple[Literal["sandbox", "production"] | None, ...]] = (None, *ENVIRONMENTS)
named_environments: Final = st.sampled_from(NAMED)


async def put(connection: Any, bar_id: UUID, state: State) -> None:
    """Bring a bar into a state with plain SQL, as another program would; its history stays."""
    async with connection.transaction():
        for environment, flag in (("sandbox", state.sandbox), ("production", state.production)):
            if flag == "absent":
                await connection.execute(_REMOVE, bar_id, environment)
            else:
                await connection.execute(_SET_ROW, bar_id, environment, *SEALED, flag)
        await connection.execute(_SET_BAR, bar_id, state.mpesa_enabled)
