"""The operators' overview over a fleet, over HTTP, beside the same statements through a bare driver; and how many."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from uuid import UUID

import httpx

from benchmarks.place import KEY, Row, make_fleet, median, plain
from benchmarks.web_place import Site, make_site, place
from mpesa_sync.bootstrap import Opened, Place, Serving
from mpesa_sync.db import embedded
from mpesa_sync.db.accounts import Account
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.identity import accounts, passwords, sessions
from mpesa_sync.identity.sessions import Session
from mpesa_sync.secret import Secret
from mpesa_sync.settings import Settings
from mpesa_sync.web import composition
from mpesa_sync.web.auth import COOKIE
from mpesa_sync.web.operator import bar_page, fleet_page
from mpesa_sync.web.operator.fleet_counts import StoredCounts

ROUNDS: Final = 7
_MIDDLE: Final = "00000000-0000-4000-8000-00000000c350"
_ASKED: Final[dict[str, dict[str, str]]] = {
    "first page": {},
    "a page from the middle": {"after": _MIDDLE},
    "filter that few pass": {"which": "bar_inactive"},
    "search that finds one": {"words": "bar 99999"},
    "search that finds none": {"words": "zanzibar"},
}
Statement = tuple[str, tuple[Any, ...]]


async def _statements(database: Database, work: Any) -> list[Statement]:
    """Return the statements that `work` sends over the one connection of the pool."""
    found: list[Statement] = []
    connection = await database.acquire()

    def heard(said: Any) -> None:
        found.append((said.query, said.args))

    connection.add_query_logger(heard)
    await database.release(connection)
    await work()
    await asyncio.sleep(0)  # the driver tells of the last one only now
    connection = await database.acquire()
    connection.remove_query_logger(heard)
    await database.release(connection)
    return found


async def _replayed(connection: Any, statements: list[Statement]) -> float:
    """Run the same statements through a bare driver; return the milliseconds that took."""
    begun = time.perf_counter()
    for query, arguments in statements:
        await (connection.fetch(query, *arguments) if arguments else connection.execute(query))
    return (time.perf_counter() - begun) * 1_000


def _selects(statements: list[Statement]) -> int:
    return sum(query.lstrip().lower().startswith(("select", "with")) for query, _ in statements)


async def _asked(site: Site, session: Session, paths: dict[str, str]) -> dict[str, float]:
    """Return the median milliseconds of each page over HTTP; for "counts anew" that of a first look."""
    times: dict[str, list[float]] = {name: [] for name in paths}
    async with (
        place("app", site) as target,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{target.port}", timeout=30) as client,
    ):
        for _ in range(ROUNDS):
            for name, path in paths.items():
                begun = time.perf_counter()
                answer = await client.get(path, headers={"cookie": f"{COOKIE}={session.token.reveal()}"})
                times[name].append((time.perf_counter() - begun) * 1_000)
                assert answer.status_code == 200, answer.status_code
    return {name: median(found) for name, found in times.items()}


async def measure(server: embedded.Server, bars: int) -> list[Row]:
    """Measure each way to look at a fleet and return its rows."""
    site = await make_site(await make_fleet(server, "bench_overview", bars))
    async with connect(site.url, kms_keys=[KEY], pool_size=1) as database, plain(site.url) as bare:
        account: Account = await accounts.add(
            database, "operator", passwords.generate(), is_operator=True, memberships={}
        )
        session = await sessions.create(database, account)
        opened = Opened(database, Place(Secret(site.url), "a benchmark", ()))
        async with composition.started(Serving(opened, None), Settings()) as context:
            counts = StoredCounts(database)
            await fleet_page.read(context, session, StoredCounts(database))  # what a process asks once is not of a page
            sent = {"counts anew": await _statements(database, counts.read)}
            for name, asked in _ASKED.items():
                sent[name] = await _statements(
                    database, lambda asked=asked: fleet_page.read(context, session, counts, **asked)
                )
            sent["one venue explained"] = await _statements(
                database, lambda: bar_page.read(context, session, UUID(_MIDDLE))
            )
        limits = {name: median([await _replayed(bare, found) for _ in range(ROUNDS)]) for name, found in sent.items()}
    paths = {
        "first page": "/operator",
        "a page from the middle": f"/operator?after={_MIDDLE}",
        "filter that few pass": "/operator?state=bar_inactive",
        "search that finds one": "/operator?q=bar+99999",
        "search that finds none": "/operator?q=zanzibar",
        "one venue explained": f"/operator/bars/{_MIDDLE}",
    }
    ours = await _asked(site, session, paths)
    anew = _selects(sent["counts anew"])
    print(f"counts anew, every 10 s at most: {limits['counts anew']:.0f} ms, {anew} queries", flush=True)
    return [
        Row(
            f"/operator, {bars:,} bars: {name}, {_selects(sent[name])} queries",
            f"{ours[name]:.1f} ms",
            f"same statements {limits[name]:.1f} ms",
            ours[name] / limits[name],
            "–",
        )
        for name in paths
    ]
