"""/metrics: what is counted and what is stored, documented, without ids, and answered although the database is gone."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from mpesa_sync.db import deliveries
from mpesa_sync.db.gauges import Gauges
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.db.reconciler import State
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.live.state import FeedState
from mpesa_sync.monitoring.names import Metric
from mpesa_sync.secret import Secret
from mpesa_sync.sync import channel_urls
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.web.metrics import Scrape, StoredGauges
from tests.support import web
from tests.support.alerts import raised, told
from tests.support.clocks import HurriedClock
from tests.support.occurrences import NOON
from tests.support.venues import KEY, add_bar
from tests.support.web import Site

DOCUMENT: Final = (Path(__file__).parent.parent / "docs" / "monitoring.md").read_text()
ROW: Final = re.compile(r"^\| `(mpesa_sync_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)
_JOB: Final = """
insert into mpesa_sync.queue (priority, status, entrypoint) values (0, $1::text::mpesa_sync.queue_status, $2)
"""


async def scraped(site: Site) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Return every sample of our own by its name and labels."""
    answer = await site.client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


def labels(**given: str) -> frozenset[tuple[str, str]]:
    """Return labels as `scraped` keeps them."""
    return frozenset(given.items())


async def test_what_is_stored_is_told_by_kind_and_state(site: Site, db: Database, sql: Any) -> None:
    """Issue 4, point 7: alerts, messages with the oldest that waits, and jobs, as the database holds them."""
    bar = await add_bar(sql)
    alert = await raised(db, bar)
    await raised(db, None, AlertKind.CHANNEL_FAILING)
    await told(sql, alert, "json-1")
    await told(sql, alert, "json-2", state="pending", fault="refused")
    await sql.execute("update mpesa_sync.alert_deliveries set created_at = now() - interval '90 s'")
    for status, entrypoint in (("queued", "alert.deliver"), ("queued", "alert.deliver"), ("picked", "alert.look")):
        await sql.execute(_JOB, status, entrypoint)
    found = await scraped(site)
    assert found[Metric.ALERTS_STORED][labels(kind="sync_failed", state="firing")] == 1
    assert found[Metric.ALERTS_STORED][labels(kind="channel_failing", state="firing")] == 1
    assert found[Metric.ALERTS_STORED][labels(kind="sync_failed", state="resolved")] == 0
    assert found[Metric.ALERT_DELIVERIES_STORED] == {
        labels(state="pending"): 1,
        labels(state="delivered"): 1,
        labels(state="failed"): 0,
    }
    assert 90 <= found[Metric.ALERT_DELIVERY_DELAY][labels()] < 120
    assert found[Metric.QUEUE_JOBS] == {
        labels(entrypoint="alert.deliver", state="queued"): 2,
        labels(entrypoint="alert.look", state="picked"): 1,
    }
    assert found[Metric.DATABASE_UP][labels()] == 1


async def test_what_this_process_does_is_told(site: Site, db: Database, sql: Any) -> None:
    """Issue 4, point 7: operations with their duration and attempts, the pool, the feed, the spool, streams."""
    bar = await add_bar(sql, production=False)
    owner = await site.person(sql, bar)
    before = await scraped(site)
    body = {"barId": str(bar), "mpesa_enabled": True}
    assert (await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)).status_code == 200
    assert db.alert_spool is not None
    connection = await db.acquire()
    after = await scraped(site)
    await db.release(connection)

    def more(name: str, **given: str) -> float:
        return after[name][labels(**given)] - before.get(name, {}).get(labels(**given), 0)

    assert more("mpesa_sync_operations_total", kind="settings", outcome="applied") == 1
    assert more("mpesa_sync_attempts_total", kind="settings", result="ok") == 1
    assert more("mpesa_sync_operation_seconds_count", kind="settings") == 1
    assert after[Metric.POOL_CONNECTIONS][labels(state="in_use")] == 1
    assert after[Metric.POOL_CONNECTIONS][labels(state="max")] == 10
    assert after[Metric.FEED_LIVE][labels()] == 1
    assert 0 <= after[Metric.FEED_LAG][labels()] < 10
    assert after[Metric.STREAMS][labels()] == 0
    assert after[Metric.SPOOL_FILES][labels()] == 0


async def test_files_of_the_spool_are_told(database_url: str, tmp_path: Path) -> None:
    """Issue 4, point 7: what waits for the database is seen before it is taken in."""
    async with (
        connect(database_url, kms_keys=[KEY], alert_spool=tmp_path) as database,
        web.running(database, database_url) as site,
    ):
        assert database.alert_spool is not None
        database.alert_spool.mkdir(parents=True, exist_ok=True)
        (database.alert_spool / "one.taken").write_text("{}")
        (database.alert_spool / "other.unreadable").write_text("{}")
        found = await scraped(site)
        assert (found[Metric.SPOOL_FILES][labels()], found[Metric.SPOOL_USABLE][labels()]) == (1, 1)
        (tmp_path / "file").write_text("")
        for folder in (tmp_path / "file", tmp_path / "file" / "below"):  # nothing waits there, and nothing ever can
            database.alert_spool = folder
            found = await scraped(site)
            assert labels() not in found.get(Metric.SPOOL_FILES, {}), "nobody knows; 0 would be a lie"
            assert found[Metric.SPOOL_USABLE][labels()] == 0


@pytest.mark.parametrize("knows", [True, False])
async def test_what_waits_for_a_channel_that_is_set_no_more_delays_nothing(
    database_url: str, db: Database, sql: Any, knows: bool
) -> None:
    """Issue 4, point 7: nobody can send it, for days; a process that has no list itself counts all but owners' gone."""
    url = Secret("json://127.0.0.1/CANARY")
    mine = channel_urls.name_of(url, await deliveries.salt(sql))
    alert = await raised(db, await add_bar(sql))
    await told(sql, alert, "json-gone", state="pending")
    await told(sql, alert, "json-0123456789abcdef", audience="owner", state="pending")
    await told(sql, alert, mine, state="pending")
    await sql.execute(
        "update mpesa_sync.alert_deliveries set created_at = now() - case channel when $1 then interval '90 s' "
        "else interval '3 days' end",
        mine,
    )
    async with web.running(db, database_url, alert_urls=(url,) if knows else ()) as site:
        found = await scraped(site)
    delay = found[Metric.ALERT_DELIVERY_DELAY][labels()]
    assert 90 <= delay < 120 if knows else delay > 86_400
    assert found[Metric.ALERT_DELIVERIES_STORED][labels(state="pending")] == 3
    await sql.execute("delete from mpesa_sync.alert_deliveries where channel in ('json-gone', $1)", mine)
    async with web.running(db, database_url) as site:
        assert (await scraped(site))[Metric.ALERT_DELIVERY_DELAY][labels()] == 0, "of an owner: the database knows"


async def test_a_dead_database_breaks_no_scrape(database_url: str) -> None:
    """Issue 4, point 7: what is stored is left out, `database_up` is 0, and the rest is answered within the limit."""
    async with TcpProxy.before(database_url) as proxy:
        url = proxy.url_for(database_url)
        async with connect(url, kms_keys=[KEY]) as database, web.running(database, url) as site:
            proxy.black_hole()
            began = time.monotonic()
            found = await scraped(site)
            assert time.monotonic() - began < 8
            assert found[Metric.DATABASE_UP][labels()] == 0
            assert Metric.ALERTS_STORED not in found
            assert Metric.POOL_CONNECTIONS in found
            began = time.monotonic()
            await asyncio.gather(*(scraped(site) for _ in range(8)))
            assert time.monotonic() - began < 8, "each scrape waited for the database again"
            proxy.disarm()


async def test_requests_cannot_use_up_the_connections_of_a_scrape(site: Site, db: Database) -> None:
    """faults.md: while every connection of the requests is in use, what is stored is still told."""
    held = [await db.acquire() for _ in range(db.connections[2])]
    found = await scraped(site)
    for connection in held:
        await db.release(connection)
    assert found[Metric.DATABASE_UP][labels()] == 1
    assert found[Metric.POOL_CONNECTIONS][labels(state="in_use")] == 10


async def test_many_scrapers_read_the_database_once_in_five_seconds(database_url: str) -> None:
    """Issue 4, point 7: cached, and read anew when the time is over."""
    clock = HurriedClock()
    async with (
        TcpProxy.before(database_url) as proxy,
        connect(proxy.url_for(database_url), clock=clock) as database,
    ):
        stored = StoredGauges(database)
        first = await stored.read()
        after_first = proxy.statements
        again = await asyncio.gather(*(stored.read() for _ in range(20)))
        assert proxy.statements == after_first
        assert all(one is first for one in again)
        await clock.sleep(5.0)
        assert await stored.read() is not first


async def test_a_slow_database_is_given_up_after_two_seconds(database_url: str) -> None:
    """Issue 4, point 7: the limit is on the whole reading, not on each of its statements."""
    clock = HurriedClock()
    async with (
        TcpProxy.before(database_url) as proxy,
        connect(proxy.url_for(database_url), clock=clock) as database,
    ):
        stored = StoredGauges(database)
        assert await stored.read() is not None
        await clock.sleep(5.0)
        proxy.delay_answers(0.6)
        began = time.monotonic()
        assert await stored.read() is None
        assert time.monotonic() - began < 8
        proxy.disarm()


async def test_nothing_in_a_scrape_names_a_bar_a_person_or_a_secret(site: Site, db: Database, sql: Any) -> None:
    """Names: low cardinality; K: no secret. Ids, names and channels of everything there is are looked for."""
    bars = [await add_bar(sql, production=False) for _ in range(5)]
    canary = f"canary{uuid4().hex}"
    for bar in bars:
        await sql.execute("update public.bars set name = $2, slug = $3 where id = $1", bar, canary, f"{canary}-{bar}")
        alert = await raised(db, bar)
        await told(sql, alert, f"slack-{canary}")
    owner = await site.person(sql, *bars)
    body = {"barId": str(bars[0]), "mpesa_enabled": False}
    await site.client.post("/api/mpesa-settings", headers=owner.headers, json=body)
    text = (await site.client.get("/metrics")).text
    assert canary not in text
    assert owner.name not in text
    assert not re.search(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}", text)
    named = {name for line in text.splitlines() for name in re.findall(r'(\w+)="', line)}
    ours = {"kind", "outcome", "result", "cause", "state", "entrypoint", "direction", "le"}
    theirs = {"generation", "implementation", "major", "minor", "patchlevel", "version"}
    assert named <= ours | theirs


def exposed() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return every metric of ours by the name that a scrape shows, with its type and labels."""
    found = {}
    for collector in set(REGISTRY._collector_to_names):
        name = getattr(collector, "_name", "")
        if name.startswith("mpesa_sync_"):
            kind = getattr(collector, "_type", "")
            shown = f"{name}_total" if kind == "counter" else name
            found[shown] = (kind, tuple(getattr(collector, "_labelnames", ())))
    feed = FeedState(is_live=True, mode="notices", heard_ago_s=1.0, watched=0, streams=0, is_draining=False)
    swept = State(NOON, NOON, NOON, 0.0, False, 0, 1, 0, 0, 0, 1.0)
    scrape = Scrape(feed, (1, 1, 10), 0, True, Gauges({}, {}, 0.0, {("a", "queued"): 1}, swept))
    for family in scrape.collect():
        found[family.name] = (family.type, tuple(family.samples[0].labels))
    return found


def test_every_metric_stands_in_the_documentation_as_it_is() -> None:
    """Docs are compared: name, type and labels of every metric; nothing more and nothing less."""
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", given))) for name, kind, given in ROW.findall(DOCUMENT)}
    assert documented == exposed()
    assert {name.removesuffix("_total") for name in documented} == {metric.value for metric in Metric}


@pytest.mark.parametrize("expression", re.findall(r"expr: (.+)", DOCUMENT))
def test_rules_name_metrics_and_labels_that_there_are(expression: str) -> None:
    """Docs are compared: a rule that asks for what nobody tells would never fire."""
    known = exposed()
    names = re.findall(r"mpesa_sync_\w+", expression)
    assert names
    for name in names:
        assert name in known, name
        for given in re.findall(rf"{name}{{(\w+)", expression):
            assert given in known[name][1], (name, given)
