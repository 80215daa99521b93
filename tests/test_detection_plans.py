"""What looks at some bars costs by these bars, not by the fleet: no statement reads all credentials for a few."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.db import bar_pages, detection, offers
from tests.support.databases import plain
from tests.support.venues import add_bar

_MANY: Final = """
insert into public.bars (id, name, slug) select gen_random_uuid(), 'Bar', 'many-' || i from generate_series(1, 20000) i
"""
_THEIR_CREDENTIALS: Final = """
insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc,
                                      passkey_enc, is_active)
select b.id, 'production', '600123', c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc, true
  from public.bars b cross join (select * from public.mpesa_credentials limit 1) c where b.slug like 'many-%'
"""
_IDS: Final = "select array(select id from public.bars order by id limit 2000)"
_AS_IT_WAS: Final = """
select b.id from public.bars b
 where b.id = any($1::uuid[])
   and coalesce(b.mpesa_enabled, false) <> exists (
     select 1 from public.mpesa_credentials c
      where c.tenant_id = b.id and c.is_active and c.environment in ('sandbox', 'production'))
"""
_OFFER_AS_IT_WAS: Final = """
select b.name, c.is_active
  from public.bars b
  left join public.mpesa_credentials c on c.tenant_id = b.id and c.environment in ('sandbox', 'production')
 where b.id = any($1::uuid[])
"""


async def _reads_all_credentials(sql: Any, statement: str, *arguments: Any) -> bool:
    plan = "\n".join(record[0] for record in await sql.fetch(f"explain {statement}", *arguments))
    return "hashed SubPlan" in plan or "Seq Scan on mpesa_credentials" in plan


@pytest.fixture
async def fleet(unnoticed_url: str) -> AsyncIterator[Any]:
    """A connection to a database with many bars."""
    async with plain(unnoticed_url) as sql:
        await add_bar(sql, production=True)
        await sql.execute(_MANY)
        await sql.execute(_THEIR_CREDENTIALS)
        await sql.execute("analyze public.bars, public.mpesa_credentials")
        yield sql


async def test_the_second_look_and_the_read_back_of_a_batch_look_up_their_bars_alone(fleet: Any) -> None:
    """Issue 5, 3: of the `exists` that stood there first the planner made a hash of all credentials, in each batch."""
    ids = await fleet.fetchval(_IDS)
    assert not await _reads_all_credentials(fleet, detection.STILL_DRIFTED, ids)
    assert await _reads_all_credentials(fleet, _AS_IT_WAS, ids), "the plan that is shunned would be seen"


async def test_a_page_of_the_reconciler_looks_up_its_bars_alone(fleet: Any) -> None:
    """Issue 5, 8: a slice must end in its time in a fleet of any size."""
    assert not await _reads_all_credentials(fleet, bar_pages.FIRST_PAGE, 2_000)


async def _kept_plan_reads_all_credentials(sql: Any, statement: str) -> bool:
    """Ask of the plan that is kept for any number of bars, in the transaction of a read for open pages."""
    await sql.execute(f"prepare kept (uuid[]) as {statement}")
    try:
        await sql.execute(offers.READ.sql)
        return await _reads_all_credentials(sql, f"execute kept (array['{UUID(int=1)}']::uuid[])")
    finally:
        await sql.execute("rollback; deallocate kept")


async def test_a_read_for_open_pages_looks_up_its_bars_alone(unnoticed_url: str) -> None:
    """Spec 8: of a thousand bars, too; for an array of unknown length the planner read all credentials."""
    async with plain(unnoticed_url) as sql:
        await add_bar(sql, production=True)
        await sql.execute(_MANY.replace("20000", "1000"))
        await sql.execute(_THEIR_CREDENTIALS)
        await sql.execute("analyze public.bars, public.mpesa_credentials")
        assert not await _kept_plan_reads_all_credentials(sql, offers.OFFERS)
        assert await _kept_plan_reads_all_credentials(sql, _OFFER_AS_IT_WAS), "the plan that is shunned would be seen"
