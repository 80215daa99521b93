"""`demo`: the problem and its solution on a real PostgreSQL of its own, served to a browser or told as a story."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from mpesa_sync.bootstrap import HOME, configure_logging
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import examples
from mpesa_sync.demo import claims, first_view, opening, scene, site, story
from mpesa_sync.demo.claims import Claim
from mpesa_sync.demo.narrator import Narrator
from mpesa_sync.demo.story import Played
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.settings import DATABASE_URL, KMS_KEY, Settings

PROGRAM: Final = "mpesa-sync"
PACE_S: Final = 1.5
"""Seconds between two steps where a person watches."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The object of `demo --json`."""

    ok: bool
    server: str
    duration_s: float
    steps: list[Played]
    items: list[Claim]


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
    _refuse_mixtures(as_story=as_story, check=check, pace=pace, as_json=as_json)
    if not (as_story or check):
        return asyncio.run(_serve())
    if pace is None:
        pace = PACE_S if sys.stdout.isatty() and not check else 0.0
    narrator = Narrator(pace_s=pace, silent=as_json)
    play = _in_temporary_folder if check else _here
    report = asyncio.run(play(narrator, debug=context.obj.debug))
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


async def _serve() -> ExitCode:
    """Serve the demo of this folder until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    settings = _settings()
    configure_logging(settings, level=logging.WARNING)
    output.note("Starting a PostgreSQL of the demo's own; other databases are not touched.")
    async with (
        scene.prepared(HOME, Narrator(), quiet=False) as stage,
        site.served(stage, port=settings.http_port) as served,
    ):
        await first_view.show(stage, served, program=_program(), unset=_misleading())
        await stop.wait()
        output.note("Stopping: open pages are told to come back.")
    return ExitCode.OK


def _settings() -> Settings:
    """Return the settings; their defaults where something in them is wrong, which is no matter of the demo's."""
    try:
        return Settings.load()
    except ConfigurationError:
        return Settings()


async def _in_temporary_folder(narrator: Narrator, *, debug: bool) -> Report:
    with tempfile.TemporaryDirectory(prefix="mpesa-sync-demo-") as folder:
        return await _play(Path(folder), narrator, keep=False, debug=debug)


async def _here(narrator: Narrator, *, debug: bool) -> Report:
    return await _play(HOME, narrator, keep=True, debug=debug)


async def _play(home: Path, narrator: Narrator, *, keep: bool, debug: bool) -> Report:
    started = time.monotonic()
    output.note("Starting a PostgreSQL of the demo's own; other databases are not touched.")
    async with scene.prepared(home, narrator) as stage, site.served(stage) as stage.site:
        await opening.problem(stage)
        played = await story.play(stage, story.STEPS, debug=debug)
        judged = claims.judged(claims.plan(), played)
        claims.show(judged, narrator)
        ok = claims.all_hold(judged, played)
        duration_s = round(time.monotonic() - started, 1)
        _conclude(narrator, played, ok=ok, duration_s=duration_s)
        if keep:
            await opening.explore(stage, program=_program(), unset=_misleading())
        return Report(ok=ok, server=stage.server, duration_s=duration_s, steps=played, items=judged)


def _conclude(narrator: Narrator, played: list[Played], *, ok: bool, duration_s: float) -> None:
    narrator.line()
    if ok:
        narrator.line(f"All {len(played)} steps held, in {duration_s} s.", "bold green")
        return
    failed = [step.id for step in played if not step.ok]
    narrator.line(f"{len(failed)} of {len(played)} steps did not hold: {', '.join(failed) or '-'}", "bold red")
    narrator.line("What is claimed and was not shown is marked in the table above.", "red")


def _program() -> str:
    """Return how this program is called from here: by its name where the shell finds it, else by its path."""
    called = Path(sys.argv[0])
    if called.name != PROGRAM:
        return f"python -m {__package__.partition('.')[0]}"
    found = shutil.which(PROGRAM)
    if found and Path(found).resolve() == called.resolve():
        return PROGRAM
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)


def _misleading() -> list[str]:
    """Return the variables that are set and would lead the other commands away from the demo's database or key."""
    try:
        settings = Settings.load()
    except ConfigurationError as exc:
        return [name for name in (DATABASE_URL, KMS_KEY) if any(fault.startswith(name) for fault in exc.faults)]
    found = {DATABASE_URL: settings.database_url, KMS_KEY: settings.kms_key}
    return [name for name, value in found.items() if value is not None]
