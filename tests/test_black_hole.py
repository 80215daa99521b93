"""A database whose packets vanish (faults.md): every page and answer comes within the 9 s of a request."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import pytest

from mpesa_sync.db import session
from mpesa_sync.db.pool import connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.web.deadline import REQUEST_S
from tests.support import web
from tests.support.browsing import with_session
from tests.support.faults import until, waits_for_a_lock
from tests.support.venues import KEY, add_bar

_MARGIN_S: Final = 1.0
"""For a busy machine."""


async def test_pages_and_answers_come_in_time_whatever_vanishes(sql: Any, database_url: str) -> None:
    """R4, faults.md: 503 and not a browser that waits: reading and changing, as people and as programs."""
    bar = await add_bar(sql, production=False)
    async with TcpProxy.before(database_url) as proxy:
        url = proxy.url_for(database_url)
        async with connect(url, kms_keys=[KEY]) as database, web.running(database, url) as site:
            owner, operator = await site.person(sql, bar), await site.person(sql, operator=True)
            staff, desk = await with_session(site, owner), await with_session(site, operator, operator=True)
            page = {"accept": "text/html"}

            async def seconds(method: str, path: str, headers: dict[str, str], **more: Any) -> tuple[str, int, float]:
                began = time.monotonic()
                answer = await site.client.request(method, path, headers=headers, timeout=30, **more)
                return path, answer.status_code, time.monotonic() - began

            def all_at_once() -> Any:
                return asyncio.gather(
                    seconds("GET", f"/api/mpesa-settings?barId={bar}", owner.headers),
                    seconds("GET", "/api/alerts", operator.headers),
                    seconds("GET", "/operator/alerts", {**desk.headers, **page}),
                    seconds("GET", f"/staff/bars/{bar}/mpesa", {**staff.headers, **page}),
                    seconds(
                        "POST",
                        "/api/mpesa-settings",
                        owner.headers,
                        json={"barId": str(bar), "mpesa_enabled": True},
                    ),
                    seconds(
                        "POST",
                        f"/staff/bars/{bar}/mpesa/switch",
                        {**staff.headers, **page},
                        data={"csrf": staff.csrf, "is_active": "true"},
                    ),
                )

            assert all(status < 400 for _, status, _ in await all_at_once())
            proxy.black_hole()
            late = [found for found in await all_at_once() if found[1] != 503 or found[2] > REQUEST_S + _MARGIN_S]
            proxy.disarm()
    assert late == []


async def test_a_rollback_takes_no_longer_than_the_reading_may(database_url: str) -> None:
    """faults.md: what vanishes just before the end of a reading must not make its caller wait beyond that."""
    begin = session.Begin(session.READ.sql, budget_s=0.5)
    async with TcpProxy.before(database_url) as proxy, connect(proxy.url_for(database_url)) as database:
        began = 0.0
        with pytest.raises(MpesaSyncError, match="of the block"):
            async with database.reading(begin):
                began = time.monotonic()
                proxy.black_hole()
                raise MpesaSyncError("of the block")
        assert 0.3 < time.monotonic() - began < 0.5 + _MARGIN_S
        proxy.disarm()


async def test_a_save_that_vanishes_half_way_is_answered_in_time(sql: Any, database_url: str) -> None:
    """R4: the page is not read again beyond the request's time only to say what the error says already."""
    bar = await add_bar(sql, production=False)
    async with TcpProxy.before(database_url) as proxy:
        url = proxy.url_for(database_url)
        async with connect(url, kms_keys=[KEY]) as database, web.running(database, url) as site:
            staff = await with_session(site, await site.person(sql, bar))
            async with sql.transaction():
                await sql.execute("select 1 from public.bars where id = $1 for update", bar)
                began = time.monotonic()
                pressed = asyncio.create_task(
                    site.client.post(
                        f"/staff/bars/{bar}/mpesa/switch",
                        headers={**staff.headers, "accept": "text/html"},
                        data={"csrf": staff.csrf, "is_active": "true"},
                        timeout=30,
                    )
                )
                await until(lambda: waits_for_a_lock(sql))
                proxy.black_hole()
                answer = await pressed
            took_s = time.monotonic() - began
            proxy.disarm()
    assert answer.status_code == 503
    assert took_s < REQUEST_S + _MARGIN_S
