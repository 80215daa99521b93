"""What the commands that run a migration share: their options, the run with its progress and its Ctrl-C, its end."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final
from uuid import uuid4

import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import interrupts, migration_report, output, progress
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import Authority
from mpesa_sync.cli.report_file import ReportFile
from mpesa_sync.migration.options import MAX_BATCH_SIZE, RunOptions
from mpesa_sync.migration.report import Progress, Run, RunReport, RunState

NO_TERMINAL: Final = (
    "Error: this writes, and there is no terminal to ask on. Give --yes to migrate, or --dry-run to look first."
)
NO_TERMINAL_TO_RETRY: Final = (
    "Error: this writes, and there is no terminal to ask on. Give --yes to retry; "
    "'mpesa-sync migrate quarantine list' shows what it is about."
)
_FINISHING: Final = "Finishing the batch in hand; Ctrl-C again stops at once."

BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        max=MAX_BATCH_SIZE,
        help="Bars in one transaction.",
        show_default="as many as take 150 ms",
    ),
]
MaxErrors = Annotated[
    int | None,
    typer.Option(
        "--max-errors", metavar="N", min=0, help="Stop once more records than this fail.", show_default="never stop"
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
ReportPath = Annotated[
    Path | None,
    typer.Option(
        "--report", metavar="FILE", help="Write the whole report to this new file (0600).", show_default=False
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Answer every question with yes.", show_default=False)]
AsJsonLine = Annotated[
    bool, typer.Option("--json", help="Print the counts as one JSON object, the last line.", show_default=False)
]
Actor = Annotated[
    str | None,
    typer.Option("--actor", metavar="NAME", help="Who does this, for the history.", show_default="your login"),
]
AuthorityChoice = Annotated[
    Authority | None,
    typer.Option(
        "--authority",
        help="Correct also bars whose M-Pesa secrets stand in bars while no credentials row holds them.",
        show_default=False,
    ),
]
MirrorLegacy = Annotated[
    bool,
    typer.Option(
        "--mirror-legacy",
        help="Keep bars.payment_mpesa_enabled equal, too, for an old customer page that reads it.",
        show_default=False,
    ),
]
Work = Callable[[Callable[[Progress], None], asyncio.Event], Awaitable[Run]]


def has_terminal() -> bool:
    """Return whether a person can be asked; otherwise `--yes` has to be given (spec 6)."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def log_level() -> int:
    """Return the lowest level that is logged: on a terminal the progress says the rest."""
    return logging.WARNING if sys.stderr.isatty() else logging.INFO


async def carried_out(work: Work, *, reads_only: bool) -> Run:
    """Run a migration with its progress on stderr; Ctrl-C finishes the batch, twice ends it at once.

    Arguments:
        work: given what shows the progress, and what says that it is to stop.
        reads_only: nothing is written, so that Ctrl-C ends it at once.
    """
    stop, task = asyncio.Event(), asyncio.current_task()

    def asked_to_stop() -> None:
        stop.set()
        if reads_only and task is not None:
            task.cancel()
        else:
            output.note(_FINISHING)

    with interrupts.orderly(asked_to_stop) as interrupted:
        try:
            async with progress.shown() as tell:
                return await work(tell, stop)
        except asyncio.CancelledError:
            if not interrupted.asked or task is None:
                raise
            task.uncancel()
            return Run(report=RunReport(run=uuid4(), state=RunState.INTERRUPTED, dry_run=reads_only))


def finished(
    opened: Opened, run: Run, *, options: RunOptions | None, file: ReportFile | None, as_json: bool
) -> ExitCode:
    """Print how a run ended, write its report file, and return the exit code."""
    if run.installed:
        output.note("The schema mpesa_sync was absent and has been made; 'mpesa-sync db uninstall' removes it.")
    code = migration_report.exit_code(run)
    if file is not None:
        code = _kept(opened, run, options, file) or code
    try:
        if as_json:
            migration_report.note_fault(run)
            output.json_result(migration_report.counters(run))
        else:
            migration_report.show(run)
    except output.ResultLost as lost:
        output.note(f"Error: {lost}", "red")
        output.note(migration_report.elsewhere(run))
        return ExitCode.ERROR
    return code


def _kept(opened: Opened, run: Run, options: RunOptions | None, file: ReportFile) -> ExitCode | None:
    """Write the report file; return an exit code where that fails, for the counts are printed all the same."""
    try:
        file.write(migration_report.whole(run, place=opened.place, options=options))
    except OSError as exc:
        output.note(f"Error: the report cannot be written to {file.path}: {exc.strerror}.", "red")
        return ExitCode.ERROR
    output.note(f"The whole report is in {file.path}.")
    return None
