"""Fleets for the migration's properties: venues in any state, and an oracle in plain Python that shares no SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from hypothesis import strategies as st

from tests.support.venues import SEALED, Flag, Row

_BARS: Final = """
insert into public.bars (id, name, slug, mpesa_enabled, active)
select v.id, 'Bar', v.slug, v.mpesa_enabled, v.active
  from unnest($1::uuid[], $2::text[], $3::boolean[], $4::boolean[]) v (id, slug, mpesa_enabled, active)
"""
_CREDENTIALS: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
select v.id, v.environment, '600123', $4, $5, $6, v.is_active
  from unnest($1::uuid[], $2::text[], $3::boolean[]) v (id, environment, is_active)
"""
_ROWS: Final = {
    "bars": "select b.id, b.xmin::text || ' ' || b::text as row from public.bars b",
    "mpesa_credentials": "select c.id, c.xmin::text || ' ' || c::text as row from public.mpesa_credentials c",
}


@dataclass(frozen=True)
class Venue:
    """One bar as planted. The oracle reads nothing else."""

    mpesa_enabled: Flag
    sandbox: Row
    production: Row
    active: Flag = True

    @property
    def authority(self) -> bool:
        return self.sandbox is True or self.production is True

    @property
    def drifted(self) -> bool:
        return (self.mpesa_enabled is True) is not self.authority

    @property
    def direction(self) -> str:
        return "hidden" if self.authority else "exposed"


_flags: Final = st.sampled_from([True, False, None])
_rows: Final = st.sampled_from([True, False, None, "absent"])
venues: Final = st.builds(Venue, _flags, _rows, _rows, _flags)
drifted_venues: Final = venues.filter(lambda venue: venue.drifted)
fleets: Final = st.lists(venues, max_size=12)
few: Final = st.lists(venues, max_size=5)
"""For what takes its venues one by one."""


async def plant(connection: Any, fleet: list[Venue]) -> dict[UUID, Venue]:
    """Replace every bar by this fleet and return it by new ids, which fall in any order."""
    planted = {uuid4(): venue for venue in fleet}
    await connection.execute("delete from public.bars")
    ids = list(planted)
    await connection.execute(
        _BARS,
        ids,
        [bar_id.hex for bar_id in ids],
        [venue.mpesa_enabled for venue in fleet],
        [venue.active for venue in fleet],
    )
    rows = [
        (bar_id, environment, is_active)
        for bar_id, venue in planted.items()
        for environment, is_active in (("sandbox", venue.sandbox), ("production", venue.production))
        if is_active != "absent"
    ]
    columns = zip(*rows, strict=True) if rows else ((), (), ())
    await connection.execute(_CREDENTIALS, *(list(column) for column in columns), *SEALED)
    return planted


async def stored_rows(connection: Any, table: str) -> dict[UUID, str]:
    """Return every row of `bars` or `mpesa_credentials` as text, its xmin included: equal means not written."""
    return {record["id"]: record["row"] for record in await connection.fetch(_ROWS[table])}
