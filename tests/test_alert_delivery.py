"""Alerts reach operators (R5.2) over real channels, which fail in every way, by workers of which there are several."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from mpesa_sync.db import notices_due
from mpesa_sync.db.pool import Database
from mpesa_sync.secret import Secret
from mpesa_sync.sync import venue_channels
from mpesa_sync.sync.alert_words import title_of
from tests.support.channels import FAST, Endpoints, prepared, processes, raised, until, working
from tests.support.venues import add_bar

_STATE = "select state from mpesa_sync.alert_deliveries where alert_id = $1 and channel = $2 and notice = $3"
_FAULT = "select fault from mpesa_sync.alert_channels where channel like 'json-%' and failures >= $1"
_SETTLED = "select count(*) from mpesa_sync.alert_deliveries where state = 'pending'"
_IDLE = "select count(*) from mpesa_sync.queue"


async def test_a_channel_that_failed_gets_the_message_later(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Faults.md: a failing channel: delivered at least once later, with back-off; the other one is not kept waiting."""
    there.does["bad"] = "broken"
    alert = await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("bad"), there.url("good")) as work:
        await there.has("good")
        await until(sql, _FAULT, 2, says=lambda fault: fault == "refused")
        there.does["bad"] = "good"
        await there.has("bad")
        name = next(name for name, url in work.jobs.channels.items() if url == there.url("bad"))
        await until(sql, _STATE, alert, name, "raised", says=lambda state: state == "delivered")
    attempts = await sql.fetchval("select attempts from mpesa_sync.alert_deliveries where channel = $1", name)
    assert attempts >= 3


async def test_a_channel_that_fails_is_told_over_the_others_and_resolved_by_its_next_success(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: a channel that fails is itself visible, over the other channels only."""
    there.does["bad"] = "broken"
    await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("bad"), there.url("good")):
        told = await there.has("good", 2)
        assert told[1]["title"] == f"Alert: {title_of('channel_failing')}"
        # It is sent as it is then: on a busy machine there may have been more failures by that time.
        assert re.search(r"has failed ([3-9]|\d\d+) times in a row \(refused\)", told[1]["message"])
        there.does["bad"] = "good"
        told = await there.has("good", 3)
        assert told[2]["title"].startswith("Resolved:")
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert [said["title"] for said in there.heard["bad"]] == [told[0]["title"]], "never of itself"
    open_ = await sql.fetchval("select state from mpesa_sync.alerts where kind = 'channel_failing'")
    assert open_ == "resolved"


@pytest.mark.parametrize("fault", ["hangs", "trickles"])
async def test_a_channel_that_hangs_leaves_no_process_and_holds_up_nobody(
    db: Database, sql: Any, database_url: str, there: Endpoints, fault: str
) -> None:
    """Faults.md: a limit above that of the library, which counts from byte to byte."""
    there.does["bad"] = fault
    await raised(sql, await add_bar(sql))
    async with working(
        db,
        database_url,
        Secret(f"{there.url('bad').reveal()}?rto=20"),
        there.url("good"),
        pace=replace(FAST, send_limit_s=2.0),
    ):
        await there.has("good")
        await until(sql, _FAULT, 1, says=lambda word: word == "timed_out")
        await until(sql, "select 1", says=lambda _: len(processes()) == 1)  # that of the good one, for its next message
    assert processes() == set()


async def test_a_redirect_is_not_followed(db: Database, sql: Any, database_url: str, there: Endpoints) -> None:
    """Faults.md, SSRF: a channel's service cannot send us somewhere else."""
    there.does["moved"] = "redirects"
    await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("moved")):
        await until(sql, _FAULT, 1, says=lambda word: word == "refused")
    assert there.tries["elsewhere"] == 0


async def test_two_workers_tell_each_of_forty_alerts_once_over_each_channel(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 8: several at once do each job once."""
    ids = {str(await raised(sql, await add_bar(sql))) for _ in range(40)}
    urls = [there.url(path) for path in "abc"]
    async with working(db, database_url, *urls), working(db, database_url, *urls):
        for path in "abc":
            await there.has(path, 40)
        await until(sql, _SETTLED, says=lambda left: left == 0)
        await until(sql, _IDLE, says=lambda left: left == 0)
    for path in "abc":
        told = Counter(said["message"].split("mpesa-sync alerts show ")[1] for said in there.heard[path])
        assert told == Counter(ids)


async def test_a_message_that_cannot_be_delivered_for_a_day_is_given_up(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: it is seen as failed, and tried no more."""
    there.does["bad"] = "broken"
    alert = await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("bad")) as work:
        (name,) = work.jobs.channels
        await until(sql, _FAULT, 1)
        await sql.execute("update mpesa_sync.alert_deliveries set first_attempted_at = now() - interval '25 hours'")
        await until(sql, _STATE, alert, name, "raised", says=lambda state: state == "failed")
    assert there.heard["bad"] == []
    row = await sql.fetchrow("select state, fault from mpesa_sync.alert_deliveries")
    assert tuple(row) == ("failed", "refused")


async def test_nothing_is_given_up_because_no_worker_ran(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: a day is counted from the first try: after a long weekend operators and owners are told."""
    bar = await add_bar(sql)
    await venue_channels.set_channel(db, bar, there.url("owner"), actor="operator:otieno")
    await raised(sql, bar)
    urls = there.url("tried"), there.url("untried")
    names = {url: name for name, url in (await prepared(db, database_url, *urls)).channels.items()}
    await notices_due.make(sql, channels=sorted(names.values()), repeat_minutes=0, owner_kinds=["sync_failed"])
    await sql.execute(
        "update mpesa_sync.alert_deliveries set created_at = created_at - interval '30 days', due_at = now()"
    )
    await sql.execute(
        "update mpesa_sync.alert_deliveries set attempts = 3, fault = 'refused', first_attempted_at = created_at, "
        "attempted_at = created_at where channel = $1",
        names[urls[0]],
    )
    there.does["untried"] = "broken"
    async with working(db, database_url, *urls):
        await there.has("tried")
        await there.tried("untried", 2)
        there.does["untried"] = "good"
        await there.has("untried")
        await there.has("owner")
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert await sql.fetchval("select count(*) from mpesa_sync.alert_deliveries where state = 'failed'") == 0


async def test_a_channel_that_is_back_gets_all_that_waits_for_it(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: back-off ends with the first success, and does not keep the others waiting for its rest."""
    there.does["a"] = "broken"
    pace = replace(FAST, first_retry_s=3_000.0, longest_retry_s=3_000.0)
    async with working(db, database_url, there.url("a"), pace=pace):
        await raised(sql, await add_bar(sql))
        await until(sql, _FAULT, 1)
        there.does["a"] = "good"
        await raised(sql, await add_bar(sql))
        told = await there.has("a", 2)
    assert len({said["message"] for said in told}) == 2, "both alerts"


async def test_nothing_of_a_channels_url_gets_anywhere(
    db: Database, sql: Any, database_url: str, there: Endpoints, caplog: pytest.LogCaptureFixture
) -> None:
    """K, T3: a URL is a secret: not in the tables, the queue's log, or any log, whatever fails."""
    caplog.set_level(logging.DEBUG)
    there.does["CANARY-3f0c"] = "broken"
    closed = Secret("json://user:CANARY-3f0c@127.0.0.1:9/CANARY-3f0c")
    await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("CANARY-3f0c"), closed):
        await there.tried("CANARY-3f0c", 2)
        await until(sql, "select count(*) from mpesa_sync.alert_channels where failures > 1", says=lambda n: n == 2)
    kept = ""
    for (table,) in await sql.fetch("select tablename from pg_tables where schemaname = 'mpesa_sync'"):
        kept += str(await sql.fetch(f"select t::text from mpesa_sync.{table} t"))
    assert "json-" in kept
    assert "CANARY-3f0c" not in kept
    assert b"CANARY-3f0c".hex() not in kept
    assert "alert.delivery_failed" in caplog.text
    assert "CANARY-3f0c" not in caplog.text
    assert "127.0.0.1:9" not in caplog.text


async def test_a_stop_waits_for_what_is_under_way_but_not_for_ever(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 8: graceful: a message that hangs is left, and sent again by whoever comes next."""
    there.does["a"] = "hangs"
    await raised(sql, await add_bar(sql))
    async with working(
        db,
        database_url,
        Secret(f"{there.url('a').reveal()}?rto=20"),
        pace=replace(FAST, stop_within_s=0.3, claim_margin_s=3_000.0),
    ):
        await there.tried("a")
        began = asyncio.get_running_loop().time()
    assert 0.3 <= asyncio.get_running_loop().time() - began < 15, "it waited for the message"
    assert await sql.fetchval("select attempts from mpesa_sync.alert_deliveries") == 0
    there.does["a"] = "good"
    async with working(db, database_url, Secret(f"{there.url('a').reveal()}?rto=20")):
        await there.has("a")
