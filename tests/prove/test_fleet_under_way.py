"""The migration of 100,000 bars as they are found, while staff save, old programs write and customers watch (T8.1)."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import httpx
import pytest

from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.db import migrations
from mpesa_sync.secret import MASK
from tests.support import databases
from tests.support.cli import Ended, environment, to_its_end
from tests.support.migrate_cli import counts
from tests.support.observer import see_all
from tests.support.processes import KEYED
from tests.support.serving import served
from tests.support.shapes import FOREIGN_TRIGGER, LEGACY_FLAG, ONE_METHOD
from tests.support.soak import Gate, OldProgram, Staff, owner_of
from tests.support.stream_clients import open_clients
from tests.support.venues import SEALED, SECRETS, add_bar
from tests.support.web import JWT_SECRET

pytestmark = [pytest.mark.prove, pytest.mark.timeout(600)]
BARS: Final = 100_000
STAFF: Final = 3
SHARED: Final = 30
REFUSED: Final = 400
"""Bars that a check keeps from losing their only method."""
_SERVED: Final = {**KEYED, "MPESA_SYNC_RECONCILE": "observe"}


_FILL: Final = """
with made as (
  insert into public.bars (id, name, slug, mpesa_enabled, payment_mpesa_enabled)
  select gen_random_uuid(), 'Bar ' || n, 'bar-' || n, (array[true, false, null])[1 + n % 3],
         (array[true, false, null])[1 + n / 7 % 3]
    from generate_series(1, $1) n
  returning id, substr(slug, 5)::int as n
)
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
select m.id, e.environment, '600123', ($2::bytea[])[1 + m.n % 8], ($3::bytea[])[1 + m.n % 8],
       ($4::bytea[])[1 + m.n % 8], (array[true, false, null])[1 + e.state]
  from made m
 cross join lateral (values ('sandbox', m.n / 3 % 4), ('production', m.n / 12 % 4)) e (environment, state)
 where e.state < 3
"""
"""All 48 states in turn, each with every stored form of the secrets in turn; state 3 is no row."""
_ONLY_MPESA: Final = """
update public.bars set payment_cash_enabled = false, payment_card_enabled = false
 where id in (select b.id from public.bars b
               where b.mpesa_enabled and not exists (
                 select 1 from public.mpesa_credentials c where c.tenant_id = b.id and c.is_active)
               order by b.id limit $1)
returning id
"""
_STATES: Final = """
select count(distinct (b.mpesa_enabled, s.tenant_id is null, s.is_active, p.tenant_id is null, p.is_active))
  from public.bars b
  left join public.mpesa_credentials s on s.tenant_id = b.id and s.environment = 'sandbox'
  left join public.mpesa_credentials p on p.tenant_id = b.id and p.environment = 'production'
"""
_SECRETS: Final = """
select md5(string_agg(c.id::text || c.xmin::text, ',' order by c.id)) from public.mpesa_credentials c
 where c.tenant_id <> all($1::uuid[])
"""


def _forms(place: int) -> list[bytes]:
    """Return one secret as it is found: good in forms 1 to 3, then 4, 5, under another key, cut off, and the mask."""
    good, elsewhere = SEALED[place], seal(KeyRing.from_texts([generate_key()]), SECRETS[place])
    buffer = json.dumps({"type": "Buffer", "data": list(good)}).encode()
    cbc = f"{good[:16].hex()}:{good[16:48].hex()}".encode()
    return [good, buffer, b"\\x" + good.hex().encode(), cbc, b"plain-" + uuid4().hex.encode(), elsewhere, good[:20],
            MASK.encode()]  # fmt: skip


def _migrated(url: str) -> Ended:
    return to_its_end(("migrate", "--yes", "--json"), environment(url), None, timeout_s=240)


async def _fleet(sql: Any) -> set[UUID]:
    """Fill the platform's tables; return the bars that cannot be corrected."""
    await sql.execute(migrations.platform_tables())
    await sql.execute(LEGACY_FLAG)
    await sql.execute(_FILL, BARS, *(_forms(place) for place in range(3)))
    refused = {record["id"] for record in await sql.fetch(_ONLY_MPESA, REFUSED)}
    await sql.execute(ONE_METHOD)
    await sql.execute(FOREIGN_TRIGGER)
    await sql.execute("analyze")
    assert await sql.fetchval(_STATES) == 48
    return refused


async def test_a_fleet_as_it_is_found_is_migrated_while_everybody_goes_on(server_url: str, tmp_path: Path) -> None:
    """R2, R3.2, R4: what can be corrected is, what cannot is set aside, no live writer is overwritten, pages follow."""
    url = await databases.make_database(server_url)
    async with AsyncExitStack() as stack:
        sql = await stack.enter_async_context(databases.plain(url))
        refused = await _fleet(sql)
        shared = [await add_bar(sql, production=number % 2 == 0) for number in range(SHARED)]
        own = [await add_bar(sql, production=False) for _ in range(STAFF)]
        for arguments in (("db", "init"), ("guard", "install", "--notices-only", "--yes")):
            assert to_its_end(arguments, environment(url), None).code == 0
        headers = await owner_of(sql, own, lasts_s=900)
        credentials = await sql.fetchval(_SECRETS, [*shared, *own])
        serving = await stack.enter_async_context(
            served(
                tmp_path, url=url, **KEYED, MPESA_SYNC_JWT_SECRET=JWT_SECRET.reveal(), MPESA_SYNC_RECONCILE="observe"
            )
        )
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=serving.url))
        pages = await stack.enter_async_context(open_clients(serving.url, [*shared, *own], 2 * (SHARED + STAFF)))
        workers: list[Staff | OldProgram] = [OldProgram(url, shared, number) for number in range(2)]
        for number, bar in enumerate(own):
            workers.append(Staff(client, headers, bar, await stack.enter_async_context(databases.plain(url)), number))
        gate, stop = Gate(len(workers)), asyncio.Event()

        async with asyncio.TaskGroup() as tasks:
            for one in workers:
                tasks.create_task(one.work(gate, stop))
            run = await asyncio.to_thread(_migrated, url)
            stop.set()
        again = await asyncio.to_thread(_migrated, url)

        first, last = counts(run), counts(again)
        told = sum((one.told for one in workers), Counter[str]())
        print(first, last, dict(told))
        assert run.code in (3, 5), run.err
        assert (again.code, last["verified"]) == (3, True)
        assert first["quarantined"] >= len(refused)
        assert first["fixed"] > BARS // 4
        seen = await see_all(sql)
        assert {bar for bar, one in seen.items() if one.drifted} == refused
        assert await sql.fetchval(_SECRETS, [*shared, *own]) == credentials, "no credentials row is touched"
        assert await sql.fetchval("select count(*) from public.bars where seen_on > 0 and mpesa_enabled") > 0
        await pages.until_shown(
            {bar: ("mpesa", "cash") if seen[bar].authority else ("cash",) for bar in [*shared, *own]}
        )
        assert not [page for page in pages.all if page.went_back]
        assert min(told["saved"], told["flag"], told["credentials"]) > 10
        assert await serving.stop() == 0
    await databases.drop_database(server_url, url)
