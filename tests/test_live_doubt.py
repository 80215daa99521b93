"""When a page may not be believed: reads that fail though notices are heard, and a database that has gone back."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from mpesa_sync.db import offers
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.errors import DatabaseFault, TransientFault
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.limits import Limits
from tests.support import databases
from tests.support.live_hub import eventually, running, switch
from tests.support.live_notices import version
from tests.support.live_page import Page, open_page
from tests.support.venues import add_bar

ON: Final = ("mpesa", "cash")
OFF: Final = ("cash",)
GO_BACK: Final = "update mpesa_sync.bar_state set version = 1 where bar_id = $1"


class Failing:
    """Stands between a hub and its reads: while `is_broken` they fail, as when no connection can be had."""

    def __init__(self, hub: Hub) -> None:
        self._read = hub._reader._read
        self.is_broken = True
        hub._reader._read = self

    async def __call__(self, bar_ids: Any) -> Any:
        if self.is_broken:
            raise TransientFault("Nobody can be asked.")
        return await self._read(bar_ids)


async def test_a_change_that_is_heard_and_cannot_be_read_is_stale_until_it_can(database_url: str, sql: Any) -> None:
    """L6: the listener's connection lives and the pool's do not; whoever asks is not answered from memory."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        reads = Failing(hub)
        await switch(sql, bar, False)
        await page.until(lambda page: page.names == ["payment-methods", "stale"])
        assert hub.state.is_live
        with pytest.raises(DatabaseFault):
            await hub.known(bar)
        async with open_page(hub, bar) as late:
            await late.until(lambda page: page.names == ["stale"])
            reads.is_broken = False
            await page.until_offers(*OFF)
            await late.until_offers(*OFF)
        assert page.names == ["payment-methods", "stale", "payment-methods"]


async def test_a_pool_that_goes_silent_is_stale_in_time(database_url: str, sql: Any) -> None:
    """L6: a read that hangs is given up before 3 s, while the listener has a way of its own to the server."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with TcpProxy.before(database_url) as proxy:
        through = proxy.url_for(database_url)
        async with running(through, listen_url=database_url) as hub, open_page(hub, bar) as page:
            await page.until_offers(*ON)
            proxy.black_hole()
            await switch(sql, bar, False)
            await page.until(lambda page: page.names == ["payment-methods", "stale"], within_s=6)
            proxy.disarm()
            await page.until_offers(*OFF)


async def test_a_read_that_hangs_is_given_up_whatever_it_hangs_in(database_url: str, sql: Any) -> None:
    """L6: waiting for a connection, reading and giving back have limits of their own, which add up to more."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=Limits(read_timeout_s=1.0)) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        read = hub._reader._read

        async def hanging(bar_ids: Any) -> Any:
            await asyncio.Event().wait()

        hub._reader._read = hanging
        await switch(sql, bar, False)
        await page.until(lambda page: page.names == ["payment-methods", "stale"])
        hub._reader._read = read
        await page.until_offers(*OFF)


async def test_without_notices_a_sweep_that_fails_is_stale_for_every_bar(unnoticed_url: str) -> None:
    """L2, L6: also for the bars that the sweep had not come to, and it is right as soon as reads are."""
    async with databases.plain(unnoticed_url) as sql, AsyncExitStack() as stack:
        bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(3)]
        limits = Limits(sweep_every_s=0.2, sweep_batch=1)
        hub = await stack.enter_async_context(running(unnoticed_url, limits=limits))
        pages = [await stack.enter_async_context(open_page(hub, bar)) for bar in bars]
        for page in pages:
            await page.until_offers(*ON)
        reads = Failing(hub)
        for page in pages:
            await page.until(lambda page: page.names == ["payment-methods", "stale"])
        for bar in bars:
            await switch(sql, bar, False)
        reads.is_broken = False
        for page in pages:
            await page.until_offers(*OFF)


async def test_a_busy_page_that_gets_the_frame_is_not_told_stale_after_it(database_url: str, sql: Any) -> None:
    """L6: doubt and its end while a client took nothing: what it gets last is the frame."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar) as slow, open_page(hub, bar) as quick:
        await slow.until_offers(*ON)
        slow.stop_reading()
        await switch(sql, bar, False)
        await quick.until_offers(*OFF)
        reads = Failing(hub)
        await switch(sql, bar, True)
        await quick.until(lambda page: page.names[-1] == "stale")
        reads.is_broken = False
        await quick.until_offers(*ON)
        slow.read_again()
        await slow.until(lambda page: page.frames[-1].id == quick.frames[-1].id)
        assert slow.names[-1] == "payment-methods"


async def test_the_feed_that_is_live_again_does_not_vouch_for_a_bar_that_cannot_be_read(
    database_url: str, sql: Any
) -> None:
    """L6: both were in doubt, one is proven."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        reads = Failing(hub)
        await switch(sql, bar, False)
        await page.until(lambda page: page.names[-1] == "stale")
        hub._streams.say_stale()
        hub._streams.say_live()
        await page.until(lambda page: page.names.count("payment-methods") == 2)
        assert page.names[-1] == "stale"
        reads.is_broken = False
        await page.until_offers(*OFF)


async def test_a_restore_of_old_rows_is_shown_under_a_version_above_what_was_shown(database_url: str, sql: Any) -> None:
    """L3, L6: versions went back within their epoch; pages ignore a lower one, so the bar's is moved past theirs."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    await sql.execute("update mpesa_sync.bar_state set version = 100000 where bar_id = $1", bar)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        for is_on in (False, True):
            await switch(sql, bar, is_on)
            await page.until_offers(*(ON if is_on else OFF))
        shown = page.frames[-1].version[1]
        async with sql.transaction():
            await sql.execute("set local session_replication_role = replica")  # as pg_restore: no trigger
            await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
            await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", bar)
            await sql.execute(GO_BACK, bar)
        await page.until_offers(*OFF)
        assert page.frames[-1].version[1] == shown + 1 == await version(sql, bar)
        assert (await hub.known(bar)).reason == "switched_off"


async def test_a_database_that_has_gone_back_and_cannot_be_written_is_stale_and_asked_each_time(
    database_url: str, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6: fail closed: nothing is answered from memory, and pages say that they are not sure."""

    async def refused(*args: Any, **options: Any) -> None:
        raise TransientFault("It cannot be written to.")

    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        await switch(sql, bar, False)
        await switch(sql, bar, True)
        await page.until(lambda page: page.frames[-1].version[1] >= 3 and page.frames[-1].methods == list(ON))
        async with sql.transaction():
            await sql.execute("set local session_replication_role = replica")
            await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
            await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", bar)
            await sql.execute(GO_BACK, bar)
            monkeypatch.setattr(offers, "bump", refused)
        assert (await hub.known(bar, fresh=True)).reason == "switched_off"
        await page.until(lambda page: page.names[-1] == "stale")
        assert (await hub.known(bar)).reason == "switched_off"
        monkeypatch.undo()
        await page.until_offers(*OFF)


async def test_few_versions_are_moved_at_the_same_time(unnoticed_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Live path: a script that changes many bars does not take the pool from those who ask over HTTP."""
    bump, running_now, most = offers.bump, 0, 0

    async def counted(*args: Any, **options: Any) -> None:
        nonlocal running_now, most
        running_now += 1
        most = max(most, running_now)
        try:
            await bump(*args, **options)
        finally:
            running_now -= 1

    monkeypatch.setattr(offers, "bump", counted)
    async with databases.plain(unnoticed_url) as sql, running(unnoticed_url, limits=Limits(sweep_every_s=0.2)) as hub:
        bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(20)]
        for bar in bars:
            await hub.known(bar)
        await sql.execute("update public.bars set mpesa_enabled = false")
        await eventually(lambda: all(entry.known and entry.known.reason for entry in hub._watched))
        assert most == 2


async def test_a_bump_waits_for_nobody_who_adds_rows_to_the_bar(unnoticed_url: str, db: Any) -> None:
    """L8: and does not hold them up: neither touches the key."""
    del db
    async with databases.plain(unnoticed_url) as sql, databases.plain(unnoticed_url) as other:
        bar = await add_bar(sql, mpesa_enabled=True)
        async with running(unnoticed_url) as hub, other.transaction():
            await other.execute("select 1 from public.bars where id = $1 for key share", bar)
            async with asyncio.timeout(10):
                await offers.bump(hub._db, bar)
            assert await version(sql, bar) == 1


async def test_a_deleted_bar_gets_no_version(database_url: str, db: Any, sql: Any) -> None:
    """Live path: what was deleted meanwhile leaves no row behind."""
    del database_url
    bar = await add_bar(sql)
    await sql.execute("delete from public.bars where id = $1", bar)
    await sql.execute("delete from mpesa_sync.bar_state")
    await offers.bump(db, bar, above=7)
    assert await sql.fetchval("select count(*) from mpesa_sync.bar_state") == 0


@pytest.mark.parametrize(
    ("error", "cause", "reports"), [(ConnectionResetError(), "gone", 0), (KeyError("a mistake"), "failed", 1)]
)
async def test_a_mistake_is_not_taken_for_a_client_that_has_gone(
    database_url: str, sql: Any, caplog: pytest.LogCaptureFixture, error: Exception, cause: str, reports: int
) -> None:
    """Live path: a server says by an OSError that the client has gone; anything else is logged."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub:
        page = Page(hub, bar, has_wire=False)
        send = page._send

        async def broken(message: Any) -> None:
            if message["type"] == "http.response.body":
                raise error
            await send(message)

        opened: list[Any] = []
        join = hub.join

        def noted(*args: Any) -> Any:
            opened.append(join(*args))
            return opened[-1]

        hub.join = noted  # type: ignore[method-assign, assignment]  # the test's eyes
        page._send = broken  # type: ignore[method-assign]  # the fault
        await page.run()
        assert opened[0].cause == cause
        logged: list[Any] = [record.msg for record in caplog.records]
        assert [line["task"] for line in logged if line["event"] == "feed.task_failed"] == ["stream"] * reports
