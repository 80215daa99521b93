"""`demo`: its options. What it does stands in `demo_playing`, which is loaded only when it is called for."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Final

import typer

from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import examples
from mpesa_sync.errors import ConfigurationError

PACE_S: Final = 1.5
"""Seconds between two steps where a person watches."""


def register(app: typer.Typer) -> None:
    """Add `demo` to the app."""
    epilog = examples(
        ("mpesa-sync demo", "Serve the sample venues to a browser, and print where to begin."),
        ("mpesa-sync demo --story", "Tell it in the terminal instead, step by step, and check every claim."),
        ("mpesa-sync demo --check", "The same fast, in a temporary folder; exit code 0 or 1."),
        ("mpesa-sync demo --check --json", "The same for a program."),
    )
    app.command("demo", epilog=epilog)(demo)


def demo(
    context: typer.Context,
    as_story: Annotated[
        bool,
        typer.Option("--story", help="Tell it step by step, here in the terminal, and end.", show_default=False),
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Play it fast, in a temporary folder, and check every claim.", show_default=False),
    ] = False,
    pace: Annotated[
        float | None,
        typer.Option(
            "--pace",
            metavar="SECONDS",
            min=0,
            max=60,
            help="With --story: wait this long after each step.",
            show_default=f"{PACE_S} on a terminal, else 0",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="With --check: print one JSON object.", show_default=False)
    ] = False,
) -> int:
    """Show the problem and its solution on a real PostgreSQL.

    Starts a PostgreSQL of its own, fills it with sample venues in every state, some of them drifted, and serves the
    staff's and the customers' pages side by side at /demo, with ways to break and to mend, until Ctrl-C. Listens on
    this machine only, on the port of MPESA_SYNC_HTTP_PORT or any free one. Uses no database of yours, whatever the
    settings name; the data of the last demo in this folder is replaced.
    """
    from mpesa_sync.cli import demo_playing  # here: no other command waits for a web server to be loaded

    _refuse_mixtures(as_story=as_story, check=check, pace=pace, as_json=as_json)
    if not (as_story or check):
        return asyncio.run(demo_playing.serve())
    if pace is None:
        pace = PACE_S if sys.stdout.isatty() and not check else 0.0
    play = demo_playing.in_temporary_folder if check else demo_playing.here
    report = asyncio.run(play(pace_s=pace, silent=as_json, debug=context.obj.debug))
    if as_json:
        output.json_result(report)
    return ExitCode.OK if report.ok else ExitCode.ERROR


def _refuse_mixtures(*, as_story: bool, check: bool, pace: float | None, as_json: bool) -> None:
    faults = []
    if as_story and check:
        faults.append("--story and --check exclude each other: the second is the first without a person")
    if pace is not None and not (as_story or check):
        faults.append("--pace goes with --story")
    if as_json and not check:
        faults.append("--json goes with --check")
    if faults:
        raise ConfigurationError(faults)
