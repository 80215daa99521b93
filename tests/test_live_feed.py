"""The live path from a commit to an open page: who is heard, and what happens when nobody can be heard."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import structlog.testing

from mpesa_sync.db import notices
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.live.hub import Hub
from mpesa_sync.live.limits import Limits
from mpesa_sync.live.offers import Known
from mpesa_sync.sync.manager import MpesaSyncManager
from tests.support import databases
from tests.support.faults import until
from tests.support.live_hub import ALONE, eventually, kill_listener, running, switch, without_probe
from tests.support.live_page import open_page
from tests.support.venues import add_bar

ON: Final = ("mpesa", "cash")
OFF: Final = ("cash",)


async def test_a_page_gets_the_snapshot_first_and_each_change_after_it(database_url: str, sql: Any) -> None:
    """R3.2, L2: a plain SQL write of another program shows on the open page; the first bytes are the snapshot."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=ALONE, before=without_probe) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        assert page.status == 200
        assert page.headers["content-type"] == "text/event-stream"
        assert page.headers["cache-control"] == "no-store, no-transform"
        assert page.headers["x-accel-buffering"] == "no"
        assert page.body.startswith(b"retry: ")
        assert page.frames[0].data["bar"]["id"] == str(bar)
        await switch(sql, bar, False)
        await page.until_offers(*OFF)
        await switch(sql, bar, True)
        await page.until_offers(*ON)
        first = page.frames[0].version[1]
        assert [frame.version[1] for frame in page.frames] == [first, first + 1, first + 2]
        assert page.names == ["payment-methods"] * 3


async def test_our_own_switch_is_shown(db: Any, database_url: str, sql: Any) -> None:
    """R3.2: what the manager writes is on the page, with the version of the same transaction."""
    bar = await add_bar(sql, mpesa_enabled=False, sandbox=False)
    async with running(database_url, limits=ALONE, before=without_probe) as hub, open_page(hub, bar) as page:
        await page.until_offers(*OFF)
        await MpesaSyncManager(db).sync_mpesa_status(bar, True)
        await page.until_offers(*ON)
        assert (await hub.known(bar)).reason is None


async def test_a_rolled_back_change_is_never_shown(database_url: str, sql: Any) -> None:
    """L1: nothing before its commit or from a rolled-back transaction."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        transaction = sql.transaction()
        await transaction.start()
        await switch(sql, bar, False)
        assert (await hub.known(bar, fresh=True)).offer.methods[0].id == "mpesa"
        await transaction.rollback()
        assert (await hub.known(bar, fresh=True)).offer.version == page.frames[0].id
        assert len(page.frames) == 1


async def test_drift_is_never_offered(database_url: str, sql: Any) -> None:
    """Spec 2: exposed and hidden drift both hide M-Pesa, each with its reason for staff and none for customers."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=ALONE, before=without_probe) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", bar)
        await page.until_offers(*OFF)
        assert (await hub.known(bar)).reason == "drift_exposed"
        await switch(sql, bar, True)
        await page.until_offers(*ON)
        await sql.execute("update public.bars set mpesa_enabled = false where id = $1", bar)
        await page.until_offers(*OFF)
        assert (await hub.known(bar)).reason == "drift_hidden"
        assert b"drift" not in page.body


async def test_a_killed_listener_comes_back_and_the_page_is_right(database_url: str, sql: Any) -> None:
    """L6: deaf for ever is what other libraries become; here the change during the deafness is shown, too."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    limits = replace(ALONE, stale_after_s=60.0)
    async with running(database_url, limits=limits, before=without_probe) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        for is_on in (False, True, False):
            assert await until(lambda: kill_listener(sql)) == 1
            await switch(sql, bar, is_on)
            await page.until_offers(*(ON if is_on else OFF))
        await eventually(lambda: hub.state.is_live)
        assert "stale" not in page.names


async def test_a_half_open_connection_is_stale_within_four_seconds_and_right_after_it(
    database_url: str, sql: Any
) -> None:
    """L6: the host vanished without a word. The page says so; afterwards it has the newest frame."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with TcpProxy.before(database_url) as proxy:
        through = proxy.url_for(database_url)
        async with running(database_url, listen_url=through) as hub, open_page(hub, bar) as page:
            await page.until_offers(*ON)
            proxy.black_hole()
            began = time.monotonic()
            await switch(sql, bar, False)
            await page.until(lambda page: "stale" in page.names, within_s=4)
            assert time.monotonic() - began >= 1.5
            assert not hub.state.is_live
            proxy.disarm()
            await page.until_offers(*OFF, within_s=4)
            await eventually(lambda: hub.state.is_live)
            await page.until(lambda page: page.names[-1] == "payment-methods")


async def test_a_page_told_stale_is_told_when_all_is_well_though_nothing_has_changed(
    database_url: str, sql: Any
) -> None:
    """L6: the newest frame again, with the version that the page has already."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    limits = Limits(stale_after_s=0.4, probe_every_s=0.1, probe_timeout_s=0.2, tick_every_s=0.05, connect_timeout_s=0.3)
    async with TcpProxy.before(database_url) as proxy:
        through = proxy.url_for(database_url)
        async with running(database_url, listen_url=through, limits=limits) as hub, open_page(hub, bar) as page:
            await page.until_offers(*ON)
            proxy.black_hole()
            await page.until(lambda page: page.names[-1] == "stale")
            async with open_page(hub, bar) as late:
                await late.until(lambda page: page.names == ["payment-methods", "stale"])
                proxy.disarm()
                await late.until(lambda page: page.names[2:] == ["payment-methods"])
            await page.until(lambda page: page.names == ["payment-methods", "stale", "payment-methods"])
            assert len({frame.id for frame in page.frames}) == 1


async def test_swallowed_notices_are_found_by_the_probe(database_url: str, sql: Any) -> None:
    """L4: versions tell what no notice told, within a probe."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)

    def deafen(hub: Hub) -> None:
        hub._listener._heard = lambda payload: None

    async with running(database_url, before=deafen) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        await switch(sql, bar, False)
        await page.until_offers(*OFF, within_s=2.5)


async def test_a_disabled_trigger_is_found_by_the_sweep_which_moves_the_version(database_url: str, sql: Any) -> None:
    """L2, L3: without triggers no version moves; the sweep moves it before the page gets the frame."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url, limits=Limits(sweep_every_s=0.2)) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        assert hub.state.mode == "notices"
        await sql.execute("alter table public.bars disable trigger user")
        await sql.execute("alter table public.mpesa_credentials disable trigger user")
        await eventually(lambda: hub.state.mode == "sweep")
        await switch(sql, bar, False)
        await page.until_offers(*OFF)
        assert page.frames[1].version[1] == page.frames[0].version[1] + 1
        assert len(page.frames) == 2
        async with sql.transaction():
            await notices.install(sql)
        await eventually(lambda: hub.state.mode == "notices")


async def test_without_triggers_the_mode_is_named_and_changes_are_swept_up(unnoticed_url: str) -> None:
    """L2: attached, nothing installed: within the interval of the sweep; a GET reads and is right at once."""
    async with databases.plain(unnoticed_url) as sql:
        bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
        async with running(unnoticed_url, limits=Limits(sweep_every_s=0.3)) as hub, open_page(hub, bar) as page:
            await page.until_offers(*ON)
            assert hub.state.mode == "sweep"
            await switch(sql, bar, False)
            await page.until_offers(*OFF)
            was_off = page.frames[-1].version[1]
            assert was_off > page.frames[0].version[1]
            await switch(sql, bar, True)
            known = await hub.known(bar)
            assert known.reason is None
            assert known.version > was_off
            await page.until_offers(*ON)


async def test_without_triggers_a_get_reads_again_where_the_version_moved_before_it_had_its_answer(
    unnoticed_url: str,
) -> None:
    """L3: a version that is moved between a GET's read and its answer is the one that the answer names."""
    async with databases.plain(unnoticed_url) as sql:
        bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
        async with running(unnoticed_url) as hub, open_page(hub, bar) as page:
            await page.until_offers(*ON)
            ask = hub._ask

            async def delayed(bar_id: UUID) -> Known:
                found = await ask(bar_id)
                entry = hub._watched.get(bar_id)
                if entry is not None and entry.bump is not None:
                    await asyncio.wait([entry.bump])
                return found

            hub._ask = delayed  # type: ignore[method-assign]  # the answer comes late, as beside a sweep
            await switch(sql, bar, False)
            known = await hub.known(bar)
            assert (known.reason is None, known.version) == (False, page.frames[0].version[1] + 1)


async def test_without_triggers_a_page_that_comes_back_gets_the_snapshot_whatever_it_has(unnoticed_url: str) -> None:
    """L4: a writer moved no version while nobody looked, so an equal version proves nothing."""
    async with databases.plain(unnoticed_url) as sql:
        bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
        async with running(unnoticed_url) as hub:
            seen = (await hub.known(bar)).offer.version
        await switch(sql, bar, False)
        async with running(unnoticed_url) as hub, open_page(hub, bar, last_event_id=seen) as page:
            await page.until_offers(*OFF)


async def test_a_truncated_table_wakes_every_bar(database_url: str, sql: Any) -> None:
    """L2: TRUNCATE names no bar."""
    bars = [await add_bar(sql, mpesa_enabled=True, sandbox=True) for _ in range(3)]
    async with running(database_url) as hub:
        pages = [open_page(hub, bar) for bar in bars]
        opened = [await page.__aenter__() for page in pages]
        for page in opened:
            await page.until_offers(*ON)
        await sql.execute("truncate public.mpesa_credentials")
        await asyncio.gather(*(page.until_offers(*OFF) for page in opened))
        for context in pages:
            await context.__aexit__(None, None, None)


async def test_the_triggers_are_there(sql: Any) -> None:
    """The fixtures differ in what they say they differ in."""
    assert await notices.installed(sql)


async def test_a_task_that_meets_a_mistake_goes_on(database_url: str, sql: Any) -> None:
    """Live path: background tasks do not die silently: logged, and the next change is shown."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
    async with running(database_url) as hub, open_page(hub, bar) as page:
        await page.until_offers(*ON)
        read, mistakes = hub._reader._read, [RuntimeError("a mistake")]

        async def mistaken(bar_ids: Any) -> Any:
            if mistakes:
                raise mistakes.pop()
            return await read(bar_ids)

        hub._reader._read = mistaken
        with structlog.testing.capture_logs():
            await switch(sql, bar, False)
            await page.until_offers(*OFF)
        assert not mistakes


async def test_a_page_that_saw_more_on_another_server_is_not_taken_back(database_url: str, sql: Any) -> None:
    """L3: across nodes: who has heard less reads first."""
    bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)

    def deafen(hub: Hub) -> None:
        hub._listener._heard = lambda payload: None

    limits = Limits(probe_every_s=3_600.0, stale_after_s=1e9, sweep_every_s=3_600.0)
    async with running(database_url) as one, running(database_url, before=deafen, limits=limits) as two:
        await two.known(bar)
        await switch(sql, bar, False)
        seen = (await one.known(bar, fresh=True)).offer.version
        assert (await two.known(bar)).offer.version != seen
        async with open_page(two, bar, last_event_id=seen) as page:
            await page.until(lambda page: page.writes == 1)
            assert page.frames == []
            assert (await two.known(bar)).offer.version == seen


async def test_a_change_whose_version_cannot_be_moved_is_stale_until_it_can(unnoticed_url: str) -> None:
    """L3, L6: a frame needs a version of its own; where somebody keeps the bar locked the page says `stale`."""
    async with databases.plain(unnoticed_url) as sql, databases.plain(unnoticed_url) as holder:
        bar = await add_bar(sql, mpesa_enabled=True, sandbox=True)
        async with running(unnoticed_url, limits=Limits(sweep_every_s=0.3)) as hub, open_page(hub, bar) as page:
            await page.until_offers(*ON)
            async with holder.transaction():
                await holder.execute("select 1 from public.bars where id = $1 for share", bar)
                await sql.execute("update public.mpesa_credentials set is_active = false where tenant_id = $1", bar)
                await page.until(lambda page: page.names == ["payment-methods", "stale"])
                known = await hub.known(bar)
                assert known.reason == "drift_exposed"
            await page.until_offers(*OFF)
