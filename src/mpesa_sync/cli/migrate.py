"""`migrate` (T5.1): correct every drifted bar and prove it; `--dry-run` looks and cannot write (R2, spec 6)."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated, Final
from uuid import uuid4

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import interrupts, migration_report, output, progress, prompt, report_file
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.options import Authority, DatabaseUrl, examples
from mpesa_sync.cli.report_file import ReportFile
from mpesa_sync.cli.session import login, on_database
from mpesa_sync.db import migrations
from mpesa_sync.migration.report import Run, RunReport, RunState
from mpesa_sync.migration.run import DEFAULT_BATCH_SIZE, MAX_BATCH_SIZE, RunOptions
from mpesa_sync.migration.service import MpesaMigrationService

MANY_BARS: Final = 1_000
MANY_CHANGES: Final = 0.05
"""Where more than this part of more than `MANY_BARS` bars would change, a second question is asked."""

_NO_TERMINAL: Final = (
    "Error: this writes, and there is no terminal to ask on. Give --yes to migrate, or --dry-run to look first."
)
_FINISHING: Final = "Finishing the batch in hand; Ctrl-C again stops at once."


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Find and report only; the database forbids it to write.", show_default=False)
]
BatchSize = Annotated[
    int, typer.Option("--batch-size", metavar="N", min=1, max=MAX_BATCH_SIZE, help="Bars in one transaction.")
]
MaxChanges = Annotated[
    int | None,
    typer.Option(
        "--max-changes", metavar="N", min=0, help="Write nothing where more would change.", show_default=False
    ),
]
MaxErrors = Annotated[
    int | None,
    typer.Option(
        "--max-errors", metavar="N", min=0, help="Stop once more records than this fail.", show_default="never stop"
    ),
]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the history.")]
AuthorityChoice = Annotated[
    Authority | None,
    typer.Option(
        "--authority",
        help="Correct also bars whose M-Pesa secrets stand in bars while they have no credentials row.",
        show_default=False,
    ),
]
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


def register(app: typer.Typer) -> None:
    """Add `migrate` to the app."""
    epilog = examples(
        ("mpesa-sync migrate --dry-run", "What would change? Writes nothing, and cannot."),
        ("mpesa-sync migrate", "Show what would change, ask, correct, verify."),
        ("mpesa-sync migrate --yes --json --reason 'ticket 512'", "The same from a script; the last line is JSON."),
        ("mpesa-sync migrate --max-changes 100 --report run.json", "Refuse surprises; keep the whole report."),
    )
    app.command("migrate", epilog=epilog)(migrate)


def migrate(
    context: typer.Context,
    dry_run: DryRun = False,
    batch_size: BatchSize = DEFAULT_BATCH_SIZE,
    max_changes: MaxChanges = None,
    max_errors: MaxErrors = None,
    reason: Reason = "",
    authority: AuthorityChoice = None,
    report: ReportPath = None,
    yes: Yes = False,
    as_json: AsJsonLine = False,
    actor: Actor = None,
    database_url: DatabaseUrl = None,
) -> int:
    """Correct every drifted bar: bars.mpesa_enabled becomes what its staff switched, never the other way.

    Finds what has drifted, corrects it in batches that live writers do not notice, and passes over all bars again
    until nothing is left. A record that fails is set aside and listed; the others go on. Ctrl-C finishes the batch;
    running it again goes on. Needs no key and no 'db init': what it keeps for itself, the schema mpesa_sync,
    is made where it is absent.
    """
    options = RunOptions(
        dry_run=dry_run,
        batch_size=batch_size,
        max_changes=max_changes,
        max_errors=max_errors,
        actor=login() if actor is None else actor,
        reason=reason,
        accept_stale_authority=authority is not None,
    ).checked()
    asks = not (dry_run or yes)
    if asks and not (sys.stdin.isatty() and sys.stderr.isatty()):
        output.note(_NO_TERMINAL, "red")
        return ExitCode.USAGE
    with report_file.reserved(report) as file:
        command = _Command(options, asks=asks, as_json=as_json, file=file)
        level = logging.WARNING if sys.stderr.isatty() else logging.INFO
        return on_database(context, database_url, command.work, log_level=level)


class _Command:
    """One `migrate`: the question, the run, the report."""

    def __init__(self, options: RunOptions, *, asks: bool, as_json: bool, file: ReportFile | None) -> None:
        self._options = options
        self._asks = asks
        self._as_json = as_json
        self._file = file

    async def work(self, opened: Opened) -> ExitCode:
        """Do it on an open database and return the exit code."""
        options = self._options
        if self._asks:
            planned = await self._run(opened, _as_dry_run(options))
            stopped = migration_report.exit_code(planned) not in (ExitCode.OK, ExitCode.DRIFT)
            if stopped:
                return await self._finish(opened, planned)
            if not await _agreed(opened, planned):
                output.note("Nothing was changed.")
                return ExitCode.DRIFT if planned.report.drifted else ExitCode.OK
        run = await self._run(opened, options)
        if run.installed:
            output.note("The schema mpesa_sync was absent and has been made; 'mpesa-sync db uninstall' removes it.")
        return await self._finish(opened, run)

    async def _run(self, opened: Opened, options: RunOptions) -> Run:
        stop, task = asyncio.Event(), asyncio.current_task()

        def asked_to_stop() -> None:
            stop.set()
            if options.dry_run and task is not None:
                task.cancel()
            else:
                output.note(_FINISHING)

        with interrupts.orderly(asked_to_stop) as interrupted:
            try:
                async with progress.shown() as tell:
                    return await MpesaMigrationService(opened.database).run(options, progress=tell, stop=stop)
            except asyncio.CancelledError:
                if not interrupted.asked or task is None:
                    raise
                task.uncancel()
                report = RunReport(run=uuid4(), state=RunState.INTERRUPTED, dry_run=options.dry_run)
                return Run(report=report)

    async def _finish(self, opened: Opened, run: Run) -> ExitCode:
        code = migration_report.exit_code(run)
        if self._file is not None:
            code = await self._keep(opened, run, self._file) or code
        if self._as_json:
            migration_report.note_fault(run)
            output.json_result(run.report)
        else:
            migration_report.show(run)
        return code

    async def _keep(self, opened: Opened, run: Run, file: ReportFile) -> ExitCode | None:
        """Write the report file; return an exit code where that fails, for the counts are printed all the same."""
        try:
            file.write(migration_report.whole(run, place=opened.place, options=self._options))
        except OSError as exc:
            output.note(f"Error: the report cannot be written to {file.path}: {exc.strerror}.", "red")
            return ExitCode.ERROR
        output.note(f"The whole report is in {file.path}.")
        return None


def _as_dry_run(options: RunOptions) -> RunOptions:
    return msgspec.structs.replace(options, dry_run=True)


async def _agreed(opened: Opened, planned: Run) -> bool:
    """Ask a person, having shown what would change; nothing to ask where nothing would."""
    changes, bars = migration_report.planned_changes(planned), planned.report.scanned
    if not changes:
        return True
    async with opened.database.reading() as connection:
        absent = (await migrations.state(connection)).applied is None
    migration_report.note_plan(planned, makes_schema=absent)
    if not await prompt.asked("Go on? [y/N] "):
        return False
    if bars > MANY_BARS and changes > bars * MANY_CHANGES:
        output.note(f"These are {changes / bars:.0%} of all {bars:,} bars, more than is usual.", "yellow")
        return await prompt.asked(f"Really correct {output.count(changes, 'bar')}? [y/N] ")
    return True
