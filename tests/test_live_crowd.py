"""Random writers against customers who come and go, on two servers: order, and the right end (L1–L5)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest

from mpesa_sync.live.hub import Hub
from mpesa_sync.live.limits import Limits
from tests.support import databases
from tests.support.live_crowd import Customer, offered, write
from tests.support.live_hub import ALONE, kill_listener, running, without_probe
from tests.support.venues import add_bar


async def _crowd(url: str, seed: int, *, kills: int, limits: Limits, before: Callable[[Hub], None]) -> None:
    drawn = random.Random(seed)
    async with databases.plain(url) as sql:
        bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True, production=False) for _ in range(3)]
        async with running(url, limits=limits, before=before) as one, running(url, limits=limits, before=before) as two:
            customers = [Customer((one, two), drawn.choice(bars), random.Random(seed + n)) for n in range(12)]
            done = asyncio.Event()
            living = [asyncio.create_task(customer.live(done)) for customer in customers]
            writers = [asyncio.create_task(write(url, bars, random.Random(seed * 100 + n), times=40)) for n in range(5)]
            for _ in range(kills):
                await write(url, bars, drawn, times=5)
                await kill_listener(sql)
            assert sum(await asyncio.gather(*writers)) > 20
            done.set()
            await asyncio.gather(*living)
            for customer in customers:
                await customer.settle(await offered(sql, customer.bar_id))
            assert [customer.seen for customer in customers if not customer.never_went_back()] == []
            assert sum(len(customer.seen) for customer in customers) > 24


@pytest.mark.parametrize("seed", range(2))
async def test_every_customer_ends_right_and_none_goes_back(database_url: str, seed: int) -> None:
    """L1–L5 with the triggers: by LISTEN and snapshot alone."""
    await _crowd(database_url, seed, kills=0, limits=ALONE, before=without_probe)


@pytest.mark.parametrize("seed", range(10, 11))
async def test_so_it_is_while_listeners_are_killed(database_url: str, seed: int) -> None:
    """L4, L6: both listeners die again and again; right all the same, by what each new one reads."""
    await _crowd(database_url, seed, kills=6, limits=ALONE, before=without_probe)


@pytest.mark.parametrize("seed", range(20, 21))
async def test_so_it_is_without_triggers(unnoticed_url: str, seed: int) -> None:
    """L2: by sweeps alone, here every 0.3 s instead of every 10."""
    await _crowd(unnoticed_url, seed, kills=0, limits=Limits(sweep_every_s=0.3), before=lambda _: None)


async def test_the_oracle_knows_both_answers(sql: Any) -> None:
    """A test that cannot fail is a defect."""
    on = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    off = await add_bar(sql, mpesa_enabled=True, sandbox=False)
    assert await offered(sql, on) == ["mpesa", "cash"]
    assert await offered(sql, off) == ["cash"]
