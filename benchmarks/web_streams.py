"""From a commit to open streams: one, one among a thousand, the last of a thousand, and after the listener was lost."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import statistics
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import asyncpg

from benchmarks.place import Row, median, plain
from benchmarks.web_clients import GIVE_UP_S, Pages, bar_id
from benchmarks.web_place import Site, Target, Writer, place, writer
from mpesa_sync.db import notices

STREAMS: Final = 1_000
BARS: Final = 100
COMMITS: Final = 300
BLOCK: Final = 20
BROADCASTS: Final = 25
LOSSES: Final = 10
MEMORY_ROUNDS: Final = 3
WARM_STREAMS: Final = 50
_OURS, _LIMIT, _FIRST_OTHER = 1, 2, 101
_PROVEN_AGAIN_S: Final = 1.2
"""After this the feed calls the connection good, and forgets that one was lost."""
_BARE: Final = "bench listener"


def events(bar: int) -> str:
    """Return the path of a bar's stream."""
    return f"/api/bars/{bar_id(bar)}/payment-methods/events"


def others(streams: int = STREAMS) -> list[str]:
    """Return the paths of so many streams of a hundred bars that nothing is written to."""
    return [events(_FIRST_OTHER + number % BARS) for number in range(streams)]


def names() -> Iterator[str]:
    return (f"Bench #{number:06d}" for number in itertools.count(1))


async def to_page(writing: Writer, pages: Pages, bar: int, name: str, count: int = 1) -> float:
    """Return the seconds from the commit's acknowledgment to the frame at the last of `count` streams."""
    arrived = pages.expect(name.rpartition(" ")[2].encode(), count)
    acknowledged = await writing.write(bar_id(bar), name)
    async with asyncio.timeout(GIVE_UP_S):
        return await arrived - acknowledged


async def _to_listener(writing: Writer, connection: Any, names: Iterator[str]) -> list[float]:
    """Return the same for a bare LISTEN client, which hears of a bar that no page shows."""
    heard = asyncio.get_running_loop().create_future()

    def on_notice(_connection: object, _pid: int, _channel: str, payload: object) -> None:
        if payload == bar_id(_LIMIT) and not heard.done():
            heard.set_result(time.monotonic())

    found = []
    await connection.add_listener(notices.CHANNEL, on_notice)
    for name in itertools.islice(names, BLOCK):
        heard = asyncio.get_running_loop().create_future()
        acknowledged = await writing.write(bar_id(_LIMIT), name)
        found.append(await heard - acknowledged)
    await connection.remove_listener(notices.CHANNEL, on_notice)
    return found


async def _compared(site: Site, writing: Writer, pages: Pages, names: Iterator[str]) -> tuple[list[float], list[float]]:
    """Return the milliseconds of commits to a page and to a bare LISTEN client, in alternating blocks."""
    ours, limit = list[float](), list[float]()
    async with plain(site.url) as connection:
        while len(ours) < COMMITS + BLOCK:
            limit += await _to_listener(writing, connection, names)
            ours += [await to_page(writing, pages, _OURS, name) for name in itertools.islice(names, BLOCK)]
    return [s * 1e3 for s in ours[BLOCK:]], [s * 1e3 for s in limit[BLOCK:]]  # the first block warms


def _surplus(what: str, ours: list[float], limit: list[float]) -> list[Row]:
    """Return a row for p50 and for p99: the goal is a sum, so the ratio is the share of what may be added."""
    rows = []
    for name, number, allowed in (("p50", 50, 1.0), ("p99", 99, 5.0)):
        mine, theirs = (statistics.quantiles(values, n=100)[number - 1] for values in (ours, limit))
        rows.append(
            Row(
                f"{what}, {name}",
                f"{mine:.2f} ms",
                f"LISTEN client {theirs:.2f} ms, may add {allowed:.0f} ms",
                (mine - theirs) / allowed,
                "≤ 1",
            )
        )
    return rows


async def one_stream(
    site: Site, target: Target, writing: Writer, called: Iterator[str], streams: int = STREAMS
) -> list[Row]:
    """Return the rows of one stream, alone and beside many others, and after the listener was lost."""
    page, beside = Pages(target.port), Pages(target.port)
    await page.open([events(_OURS)])
    rows = _surplus("commit → the only stream", *await _compared(site, writing, page, called))
    await beside.open(others(streams))
    rows += _surplus(f"commit → one stream beside {streams:,}", *await _compared(site, writing, page, called))
    beside.close()
    rows += await _after_a_loss(site, writing, page, called)
    page.close()
    await target.until(streams=0)
    return rows


async def last_of_many(
    site: Site, target: Target, writing: Writer, streams: int = STREAMS, broadcasts: int = BROADCASTS
) -> Row:
    """Return the row of a bar's last stream, beside a bare fan-out of the same bytes, in turn."""
    ours, limit, called = list[float](), list[float](), names()
    async with place("fanout", site, bar_id(_LIMIT)) as bare:
        pages, sockets = Pages(target.port), Pages(bare.port)
        await pages.open([events(_OURS)] * streams)
        await sockets.open(["/"] * streams)
        for name in itertools.islice(called, broadcasts + 1):
            ours.append(await to_page(writing, pages, _OURS, name, streams))
            limit.append(await to_page(writing, sockets, _LIMIT, name, streams))
        pages.close()
        sockets.close()
    await target.until(streams=0)
    mine, theirs = (median(values[1:]) * 1e3 for values in (ours, limit))
    what = f"commit → the last of {streams:,} streams of a bar"
    return Row(what, f"{mine:.1f} ms", f"bare fan-out {theirs:.1f} ms", mine / theirs, "≤ 1.5")


async def _bare_reader(url: str, seen: dict[str, asyncio.Future[float]]) -> None:
    """Listen and read; after a loss connect, listen and read again at once."""
    while True:
        lost, news = asyncio.Event(), asyncio.Event()
        connection = await asyncpg.connect(url, server_settings={"application_name": _BARE})
        connection.add_termination_listener(lambda _connection, e=lost, n=news: (e.set(), n.set()))
        try:
            await connection.add_listener(notices.CHANNEL, lambda *_heard, n=news: n.set())
            while not lost.is_set():
                news.clear()
                name = await connection.fetchval("select name from public.bars where id = $1", bar_id(_LIMIT))
                if name in seen and not seen[name].done():
                    seen[name].set_result(time.monotonic())
                await news.wait()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            continue
        finally:
            connection.terminate()


async def _after_a_loss(site: Site, writing: Writer, page: Pages, names: Iterator[str]) -> list[Row]:
    """Kill the listener, commit, and wait for the first right frame; a bare client beside it."""
    ours, limit, seen = list[float](), list[float](), dict[str, asyncio.Future[float]]()
    reading = asyncio.create_task(_bare_reader(site.url, seen))
    for _ in range(LOSSES):
        await asyncio.sleep(_PROVEN_AGAIN_S)
        killed, name = await writing.kill("mpesa-sync listener"), next(names)
        arrived = page.expect(name.rpartition(" ")[2].encode(), 1)
        await writing.write(bar_id(_OURS), name)
        ours.append(await arrived - killed)
        killed, name = await writing.kill(_BARE), next(names)
        seen[name] = asyncio.get_running_loop().create_future()
        await writing.write(bar_id(_LIMIT), name)
        limit.append(await seen[name] - killed)
    reading.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reading
    mine, theirs = median(ours) * 1e3, median(limit) * 1e3
    what = "listener killed → first right frame"
    return [
        Row(f"{what}, p50", f"{mine:.1f} ms", f"bare client {theirs:.1f} ms", mine / theirs, "≤ 1.5"),
        Row(f"{what}, worst of {LOSSES}", f"{max(ours) * 1e3:.0f} ms", "1,000 ms", max(ours), "≤ 1"),
    ]


async def _memory(site: Site, kind: str, streams: int) -> float:
    """Return the KiB that a process grows by for each of many streams."""
    async with AsyncExitStack() as stack:
        target = await stack.enter_async_context(place(kind, site))
        pages = Pages(target.port)
        stack.callback(pages.close)
        await pages.open(others(WARM_STREAMS))
        before = (await target.said())["resident"]
        more = Pages(target.port)
        stack.callback(more.close)
        await more.open(others(streams))
        return float((await target.said())["resident"] - before) / streams / 1024


async def memory(site: Site, streams: int = STREAMS) -> Row:
    """Return the row of the memory of a stream, beside a bare one on the same server."""
    pairs = [(await _memory(site, "app", streams), await _memory(site, "asgi", streams)) for _ in range(MEMORY_ROUNDS)]
    ours, bare = (median([pair[side] for pair in pairs]) for side in (0, 1))
    what = f"memory a stream, {streams:,} streams of {BARS} bars"
    return Row(what, f"{ours:.1f} KiB", f"bare ASGI stream {bare:.1f} KiB", ours / bare, "≤ 1.3")


async def measure(site: Site) -> list[Row]:
    """Measure all of it and return its rows."""
    async with writer(site.url) as writing, place("app", site) as target:
        rows = await one_stream(site, target, writing, names())
        rows.append(await last_of_many(site, target, writing))
    return [*rows, await memory(site)]
