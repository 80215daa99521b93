"""What `demo` does: serve its venues until a signal, or play the story here or in a temporary folder."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from mpesa_sync.bootstrap import HOME, configure_logging
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.demo import alarm_story, claims, first_view, opening, scene, site, story
from mpesa_sync.demo.claims import Claim
from mpesa_sync.demo.narrator import Narrator
from mpesa_sync.demo.story import Played
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.settings import DATABASE_URL, KMS_KEY, Settings

PROGRAM: Final = "mpesa-sync"


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The object of `demo --json`."""

    ok: bool
    server: str
    duration_s: float
    steps: list[Played]
    items: list[Claim]


async def serve() -> ExitCode:
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
        async with alarm_story.delivering(stage, show=first_view.message(stage)):
            await stop.wait()
        output.note("Stopping: open pages are told to come back.")
    return ExitCode.OK


def _settings() -> Settings:
    """Return the settings; their defaults where something in them is wrong, which is no matter of the demo's."""
    try:
        return Settings.load()
    except ConfigurationError:
        return Settings()


async def in_temporary_folder(*, pace_s: float, silent: bool, debug: bool) -> Report:
    """Play the story in a folder that is gone afterwards; return what became of it."""
    narrator = Narrator(pace_s=pace_s, silent=silent)
    with tempfile.TemporaryDirectory(prefix="mpesa-sync-demo-") as folder:
        return await _play(Path(folder), narrator, keep=False, debug=debug)


async def here(*, pace_s: float, silent: bool, debug: bool) -> Report:
    """Play the story in this folder, and keep its venues; return what became of it."""
    return await _play(HOME, Narrator(pace_s=pace_s, silent=silent), keep=True, debug=debug)


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
