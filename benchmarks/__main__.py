"""`make bench`: measures, and at its end holds it all to the contract in one table; half an hour on two cores.

`--only PART`, `--bars N,N`, `--streams N`: a part, or smaller sizes, in minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path
from typing import Final

import uvloop

from benchmarks import (
    beside,
    contract,
    costs,
    faults,
    fleet,
    guards,
    live,
    overview,
    reconciler,
    servers,
    sync_status,
    web,
)
from benchmarks.place import Row, machine
from mpesa_sync.db import embedded


class Printed:
    """Prints rows as they are measured, so that a run that is stopped has said what it knows; keeps them."""

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, rows: list[Row]) -> None:
        """Print some rows."""
        self.rows += rows
        print("| what | ours | limit | ratio | goal |\n|---|---|---|---|---|")
        for row in rows:
            print(f"| {row.what} | {row.ours} | {row.limit} | {row.ratio:.2f} | {row.goal} |", flush=True)


async def _measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with embedded.running(Path(folder) / "postgres") as server:
            print(machine(server), flush=True)
            printed = Printed()
            await _measure_parts(server, options, printed)
    print("\n" + "\n".join(contract.table(printed.rows)))


async def _measure_parts(server: embedded.Server, options: argparse.Namespace, printed: Printed) -> None:
    sizes = [int(bars) for bars in options.bars.split(",")]
    if options.only in ("", "sync"):
        printed.add(await sync_status.measure(server))
    if options.only in ("", "costs"):
        printed.add(await costs.measure(server))
    if options.only in ("", "faults"):
        printed.add(await faults.measure(server))
    if options.only in ("", "guards"):
        printed.add(await guards.measure(server))
    if options.only in ("", "web"):
        printed.add(await web.measure(server))
    if options.only in ("", "live"):
        printed.add(await live.measure(server, options.streams))
    if options.only in ("", "reconciler"):
        for bars in (10_000, 100_000):
            printed.add(await reconciler.measure(server, bars))
    if options.only in ("", "fleet"):
        for bars in sizes:
            printed.add(await fleet.measure(server, bars))
    if options.only in ("", "overview"):
        printed.add(await overview.measure(server, 100_000))
    if options.only in ("", "beside"):
        printed.add(await beside.measure(server, max(sizes)))


PARTS: Final = (
    *("", "beside", "sync", "costs", "faults", "guards", "fleet", "live", "overview", "reconciler", "web"),
    "servers",  # not with the rest: a choice once made (decision 11)
)


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, default="")
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--bars", default="10000,100000,1000000")
    options = parser.parse_args()
    if options.only == "servers":
        head, *rows = uvloop.run(servers.measure())
        print("\n".join("| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)))
    else:
        asyncio.run(_measure(options))


if __name__ == "__main__":
    main()
