"""`make bench`: measures, and prints one table; `--only PART`, `--bars N,N`, `--streams N`."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Final

import uvloop

from benchmarks import beside, costs, faults, fleet, guards, live, overview, reconciler, servers, sync_status, web
from benchmarks.place import Row, machine
from mpesa_sync.db import embedded


def _print(rows: list[Row]) -> None:
    print("| what | ours | limit | ratio | goal |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.ours} | {row.limit} | {row.ratio:.2f} | {row.goal} |", flush=True)


async def _measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with embedded.running(Path(folder) / "postgres") as server:
            print(machine(server), flush=True)
            if options.only in ("", "sync"):
                _print(await sync_status.measure(server))
            if options.only in ("", "costs"):
                _print(await costs.measure(server))
            if options.only in ("", "faults"):
                _print(await faults.measure(server))
            if options.only in ("", "guards"):
                _print(await guards.measure(server))
            if options.only in ("", "web"):
                _print(await web.measure(server))
            if options.only in ("", "live"):
                _print(await live.measure(server, options.streams))
            if options.only in ("", "reconciler"):
                for bars in (10_000, 100_000):
                    _print(await reconciler.measure(server, bars))
            if options.only in ("", "fleet"):
                for bars in options.bars.split(","):
                    _print(await fleet.measure(server, int(bars)))
            if options.only in ("", "overview"):
                _print(await overview.measure(server, 100_000))
            if options.only in ("", "beside"):
                for bars in options.bars.split(","):
                    _print(await beside.measure(server, int(bars)))


PARTS: Final = (
    *("", "beside", "sync", "costs", "faults", "guards", "fleet", "live", "overview", "reconciler", "web"),
    "servers",  # not with the rest: a choice once made (decision 11)
)


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, default="")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--bars", default="100000,1000000")
    options = parser.parse_args()
    if options.only == "servers":
        head, *rows = uvloop.run(servers.measure())
        print("\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)))
    else:
        asyncio.run(_measure(options))


if __name__ == "__main__":
    main()
