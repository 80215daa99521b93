"""The web application beside its limits: saves, streams, memory, and what customers may pay with."""

from __future__ import annotations

import resource
from typing import Final

from benchmarks import web_save, web_streams
from benchmarks.place import Row, make_fleet, median
from benchmarks.web_app import CONSTANT
from benchmarks.web_clients import CLIENTS, Load, Loaded
from benchmarks.web_place import Site, load, make_site, place
from mpesa_sync.db import embedded

ROUNDS: Final = 5
SECONDS: Final = 2.0
_OFFER: Final = "/api/bars/{bar}/payment-methods"


async def _reading(site: Site) -> Row:
    """Ask what a bar offers, and for a constant of the same application, in turn."""
    ours, limit = list[Loaded](), list[Loaded]()
    async with place("app", site) as target:
        for _ in range(ROUNDS):
            for path, found in ((_OFFER, ours), (CONSTANT, limit)):
                spec = Load(target.port, target.pid, SECONDS, path=path, bars=web_streams.BARS)
                found.append(await load(spec))
    mine, theirs = (median([one.rate for one in found]) for found in (ours, limit))
    share, client = median([one.server_share for one in ours]), median([one.client_share for one in limit])
    print(f"GET: server {share:.0%} of a core; client of the constant {client:.0%}", flush=True)
    what = f"GET payment-methods, {CLIENTS} connections"
    return Row(what, f"{mine:.0f}/s", f"constant {theirs:.0f}/s", mine / theirs, "≥ 0.7")


async def measure(server: embedded.Server) -> list[Row]:
    """Measure everything of the web and return its rows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two thousand sockets here
    url = await make_fleet(server, "bench_web", web_save.BARS, share=10)
    site = await make_site(url)
    rows = await web_save.measure(server, url, site)
    rows.append(await _reading(site))
    return rows + await web_streams.measure(site)
