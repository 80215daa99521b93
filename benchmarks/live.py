"""The live path at scale (spec 8): `python -m benchmarks --only live --streams 10000`, each limit in the same run.

Half as many streams are of one bar. Correct first: nothing is timed before every stream has what it should.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import resource
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from benchmarks.place import Row, make_fleet, median, plain
from benchmarks.web_clients import GIVE_UP_S, Pages, bar_id
from benchmarks.web_place import Site, Target, Writer, crowd, make_site, place, writer
from benchmarks.web_streams import events, last_of_many, memory, names, one_stream, to_page
from mpesa_sync.db import embedded

FLEET: Final = 1_000
BROADCASTS: Final = 15
CUTS: Final = 3
SAMPLES: Final = 200
SAMPLE_EVERY_S: Final = 0.02
SILENT: Final = 20
"""One in so many never reads."""
CROWD: Final = 1_000
"""Streams of the bar that is flipped, or that has silent clients."""
FLIPS_PER_S: Final = 1_000
_CROWDED, _OTHER, _UNSEEN = 1, 3, 4
_READS: Final = "mpesa_sync_feed_reads_total"
_FRAMES: Final = "mpesa_sync_stream_frames_total"


async def _cut(site: Site, target: Target, writing: Writer, streams: int) -> list[Row]:
    """Cut all streams at once; each comes back at a random moment of its own, with a change made meanwhile to learn."""
    took, queries, called = list[float](), list[float](), names()
    for _ in range(CUTS):
        pages = Pages(target.port)
        await pages.open([events(_CROWDED)] * streams)
        pages.close()
        await target.until(streams=0)
        before, began = await target.counted(_READS), time.monotonic()
        name = next(called)
        await writing.write(bar_id(_CROWDED), name)
        again = Pages(target.port)
        right = again.expect(name.rpartition(" ")[2].encode(), streams)
        await again.connect([events(_CROWDED)] * streams, spread_s=5.0)
        async with asyncio.timeout(GIVE_UP_S):
            took.append(await right - began)
        queries.append((await target.counted(_READS) - before) / streams)
        again.close()
        await target.until(streams=0)
    what = f"{streams:,} streams cut at once, back within 5 s at random"
    return [
        Row(f"{what}: all right, worst of {CUTS}", f"{max(took):.1f} s", "10 s", max(took) / 10, "≤ 1"),
        Row(f"{what}: reads a stream", f"{max(queries):.4f}", "0.01", max(queries) / 0.01, "≤ 1"),
    ]


async def _samples(writing: Writer, page: Pages) -> list[float]:
    """Return the milliseconds of commits to the only stream of another bar, one every 20 ms."""
    found = []
    for name in itertools.islice(names(), SAMPLES):
        found.append(await to_page(writing, page, _OTHER, name) * 1e3)
        await asyncio.sleep(SAMPLE_EVERY_S)
    return found


async def _flip(url: str, bar: int, done: asyncio.Event, made: list[str]) -> None:
    """Give a bar a thousand names a second, until told to stop; keep the last."""
    async with plain(url) as connection:
        await connection.execute("set synchronous_commit = off")  # for the rate: what is measured comes after it
        began = time.monotonic()
        for number in itertools.count(1):
            if done.is_set():
                return
            made[:] = [f"Flip #{number:06d}"]
            await connection.execute("update public.bars set name = $2 where id = $1", bar_id(bar), made[0])
            await asyncio.sleep(max(0.0, began + number / FLIPS_PER_S - time.monotonic()))


def _p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


@asynccontextmanager
async def _flipped(site: Site, bar: int) -> AsyncIterator[list[str]]:
    """Flip a bar while the block runs; give the list that holds its last name."""
    done, made = asyncio.Event(), list[str]()
    flipping = asyncio.create_task(_flip(site.url, bar, done, made))
    try:
        yield made
    finally:
        done.set()
        await flipping


async def _flips(site: Site, target: Target, writing: Writer) -> list[Row]:
    """A thousand changes a second of a bar with a thousand pages, beside the only page of another bar.

    The limit: as many changes of a bar that no page shows, which load the machine as much.
    """
    other = Pages(target.port)
    await other.open([events(_OTHER)])
    async with crowd(target.port, events(_CROWDED), CROWD) as reading:
        quiet = await _samples(writing, other)
        async with _flipped(site, _UNSEEN):
            loaded = await _samples(writing, other)
        before, began = await target.counted(_FRAMES), time.monotonic()
        async with _flipped(site, _CROWDED) as made:
            beside = await _samples(writing, other)
        elapsed, flips = time.monotonic() - began, int(made[0].partition("#")[2])
        last = f"{random.randrange(10**6):06d}"
        reading.expect(last)
        await writing.write(bar_id(_CROWDED), f"Last #{last}")
        async with asyncio.timeout(GIVE_UP_S):
            await reading.said()
        frames = (await target.counted(_FRAMES) - before) / CROWD
    other.close()
    await target.until(streams=0)
    what = f"{flips / elapsed:.0f} flips/s of a bar with {CROWD:,} streams"
    return [
        Row(f"{what}: frames a stream of {flips:,}", f"{frames:.0f}", f"{flips:,}", frames / flips, "few"),
        Row(
            f"{what}: another bar's p50", f"{median(beside):.1f} ms",
            f"{median(loaded):.1f} ms with no page of it, quiet {median(quiet):.1f} ms",
            median(beside) / median(loaded), "≈ 1",
        ),
        Row(
            f"{what}: another bar's p99", f"{_p99(beside):.1f} ms",
            f"{_p99(loaded):.1f} ms with no page of it, quiet {_p99(quiet):.1f} ms", _p99(beside) / _p99(loaded), "≈ 1",
        ),
    ]  # fmt: skip


async def _silent(target: Target, writing: Writer) -> list[Row]:
    """One client in twenty never reads: the others of its bar, another bar's p99, and the server's memory."""
    async with AsyncExitStack() as stack:
        other, readers, deaf = Pages(target.port), Pages(target.port), Pages(target.port)
        for pages, bar, count in ((other, _OTHER, 1), (readers, _CROWDED, CROWD), (deaf, _CROWDED, CROWD // SILENT)):
            await pages.open([events(bar)] * count)
            stack.callback(pages.close)
        alone, called = list[float](), names()
        for name in itertools.islice(called, BROADCASTS):
            alone.append(await to_page(writing, readers, _CROWDED, name, CROWD) * 1e3)
        quiet = await _samples(writing, other)
        before = (await target.said())["resident"]
        for transport in deaf.transports:
            transport.pause_reading()
        beside = list[float]()
        for name in itertools.islice(called, BROADCASTS):
            beside.append(await to_page(writing, readers, _CROWDED, name, CROWD) * 1e3)
        others_p99 = _p99(await _samples(writing, other))
        grown = ((await target.said())["resident"] - before) / 2**20
    await target.until(streams=0)
    what = f"1 in {SILENT} of {CROWD:,} clients never reads"
    ours, limit = statistics.median(beside), statistics.median(alone)
    return [
        Row(f"{what}: the last of the others", f"{ours:.1f} ms", f"all read {limit:.1f} ms", ours / limit, "≈ 1"),
        Row(f"{what}: another bar's p99", f"{others_p99:.1f} ms", f"all read {_p99(quiet):.1f} ms",
            others_p99 / _p99(quiet), "≈ 1"),
        Row(f"{what}: memory", f"+ {grown:.1f} MiB", "flat", grown, "≈ 0"),
    ]  # fmt: skip


async def measure(server: embedded.Server, streams: int) -> list[Row]:
    """Measure all of it and return its rows.

    Arguments:
        streams: open pages beside the one that is timed; half as many are of one bar.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    site = await make_site(await make_fleet(server, "bench_live", FLEET, share=10))
    rows = list[Row]()
    async with writer(site.url) as writing, place("app", site) as target:
        rows += await one_stream(site, target, writing, names(), streams)
        for size in sorted({min(1_000, streams // 2), streams // 4, streams // 2}):
            rows.append(await last_of_many(site, target, writing, size, BROADCASTS))
        rows += await _cut(site, target, writing, streams // 2)
        rows += await _flips(site, target, writing)
        rows += await _silent(target, writing)
    return [*rows, await memory(site, min(streams, 5_000))]
