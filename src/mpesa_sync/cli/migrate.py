"""`migrate` (T5.1): correct every drifted bar and prove it; `--dry-run` looks and cannot write (R2, spec 6)."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import migration_plan, migration_quarantine, migration_report, migration_runs, output, prompt
from mpesa_sync.cli import report_file as reports
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.migrating import (
    NO_TERMINAL,
    Actor,
    AsJsonLine,
    AuthorityChoice,
    BatchSize,
    MaxErrors,
    MirrorLegacy,
    Reason,
    ReportPath,
    Yes,
    carried_out,
    finished,
    has_terminal,
    log_level,
)
from mpesa_sync.cli.options import DatabaseUrl, examples
from mpesa_sync.cli.report_file import ReportFile
from mpesa_sync.cli.session import login, on_database
from mpesa_sync.db import migrations
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.plan_file import Plan
from mpesa_sync.migration.report import Run
from mpesa_sync.migration.service import MpesaMigrationService

MANY_BARS: Final = 1_000
MANY_CHANGES: Final = 0.05
"""Where more than this part of more than `MANY_BARS` bars would change, a second question is asked."""

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Find and report only; the database forbids it to write.", show_default=False)
]
MaxChanges = Annotated[
    int | None,
    typer.Option(
        "--max-changes", metavar="N", min=0, help="Write nothing where more would change.", show_default=False
    ),
]
PlanOut = Annotated[
    Path | None,
    typer.Option(
        "--plan-out",
        metavar="FILE",
        help="Look only, and write what would be done to this new file; it lasts for a day.",
        show_default=False,
    ),
]
PlanIn = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="Do what such a file says, and nothing else.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add `migrate` and what belongs to it to the app."""
    found = typer.Typer(
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        subcommand_metavar="[COMMAND]",
    )
    found.callback(
        epilog=examples(
            ("mpesa-sync migrate --dry-run", "What would change? Writes nothing, and cannot."),
            ("mpesa-sync migrate", "Show what would change, ask, correct, verify."),
            ("mpesa-sync migrate --yes --json --reason 'ticket 512'", "The same from a script; the last line is JSON."),
            ("mpesa-sync migrate --plan-out friday.plan", "Have it looked over; 'migrate --plan friday.plan' does it."),
            ("mpesa-sync migrate status", "How far are they? Runs can be paused, resumed, cancelled, undone."),
        )
    )(migrate)
    migration_runs.add_to(found)
    migration_quarantine.add_to(found)
    app.add_typer(found, name="migrate")


def migrate(
    context: typer.Context,
    dry_run: DryRun = False,
    batch_size: BatchSize = None,
    max_changes: MaxChanges = None,
    max_errors: MaxErrors = None,
    reason: Reason = "",
    authority: AuthorityChoice = None,
    mirror_legacy: MirrorLegacy = False,
    plan_out: PlanOut = None,
    plan: PlanIn = None,
    report: ReportPath = None,
    yes: Yes = False,
    as_json: AsJsonLine = False,
    actor: Actor = None,
    database_url: DatabaseUrl = None,
) -> int:
    """Correct every drifted bar: bars.mpesa_enabled becomes what its staff switched, never the other way.

    Finds what has drifted, corrects it in batches that live writers do not notice, and passes over all bars again
    until nothing is left. A record that fails is set aside and listed; the others go on. Ctrl-C finishes the batch
    and says how to resume. Needs no key and no 'db init': what it keeps for itself, the schema mpesa_sync, is made
    where it is absent.
    """
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    if plan is not None and (plan_out is not None or authority is not None or mirror_legacy):
        raise ConfigurationError(
            ["--plan says itself what is done: give neither --plan-out nor --authority nor --mirror-legacy with it"]
        )
    migration_plan.require_apart(plan_out, report)
    options = RunOptions(
        dry_run=dry_run or plan_out is not None,
        batch_size=batch_size,
        max_changes=max_changes,
        max_errors=max_errors,
        actor=login() if actor is None else actor,
        reason=reason,
        accept_stale_authority=authority is not None,
        mirror_legacy=mirror_legacy,
    ).checked()
    asks = not (options.dry_run or yes)
    if asks and not has_terminal():
        output.note(NO_TERMINAL, "red")
        return ExitCode.USAGE
    with reports.reserved(report) as file:
        command = _Command(options, asks=asks, as_json=as_json, file=file, plan_out=plan_out, plan=plan)
        return on_database(context, database_url, command.work, log_level=log_level())


class _Command:
    """One `migrate`: the question, the run, the report."""

    def __init__(
        self,
        options: RunOptions,
        *,
        asks: bool,
        as_json: bool,
        file: ReportFile | None,
        plan_out: Path | None,
        plan: Path | None,
    ) -> None:
        self._options = options
        self._asks = asks
        self._as_json = as_json
        self._file = file
        self._plan_out = plan_out
        self._plan_in = plan
        self._plan: Plan | None = None

    async def work(self, opened: Opened) -> ExitCode:
        """Do it on an open database and return the exit code."""
        with contextlib.ExitStack() as held:
            if self._plan_in is not None:
                self._plan = held.enter_context(await migration_plan.read(opened, self._plan_in, now=datetime.now(UTC)))
                header = self._plan.header
                self._options = msgspec.structs.replace(
                    self._options,
                    accept_stale_authority=header.accept_stale_authority,
                    mirror_legacy=header.mirror_legacy,
                )
            return await self._work(opened)

    async def _work(self, opened: Opened) -> ExitCode:
        options = self._options
        if self._plan_out is not None:
            run = await migration_plan.write(opened, options, self._plan_out)
            return self._finish(opened, run)
        if self._asks:
            planned = await self._run(opened, msgspec.structs.replace(options, dry_run=True))
            stopped = migration_report.exit_code(planned) not in (ExitCode.OK, ExitCode.DRIFT)
            if stopped:
                return self._finish(opened, planned)
            bars = planned.report.scanned if self._plan is None else self._plan.header.scanned
            if not await _agreed(opened, planned, bars=bars, mirrors=options.mirror_legacy):
                output.note("Nothing was changed.")
                return ExitCode.DRIFT if planned.report.drifted else ExitCode.OK
        return self._finish(opened, await self._run(opened, options))

    async def _run(self, opened: Opened, options: RunOptions) -> Run:
        service = MpesaMigrationService(opened.database)
        plan = None if self._plan is None else self._plan.pairs()
        return await carried_out(
            lambda tell, stop: service.run(options, plan=plan, progress=tell, stop=stop), reads_only=options.dry_run
        )

    def _finish(self, opened: Opened, run: Run) -> ExitCode:
        return finished(opened, run, options=self._options, file=self._file, as_json=self._as_json)


async def _agreed(opened: Opened, planned: Run, *, bars: int, mirrors: bool) -> bool:
    """Ask a person, having shown what would change; nothing to ask where nothing would.

    Arguments:
        bars: how many there are: also where a plan names but a few of them.
    """
    changes = migration_report.planned_changes(planned)
    if not changes:
        return True
    async with opened.database.reading() as connection:
        absent = (await migrations.state(connection)).applied is None
    migration_report.note_plan(planned, makes_schema=absent, mirrors=mirrors)
    if not await prompt.asked("Go on? [y/N] "):
        return False
    if bars > MANY_BARS and changes > bars * MANY_CHANGES:
        output.note(f"These are {changes / bars:.0%} of all {bars:,} bars, more than is usual.", "yellow")
        return await prompt.asked(f"Really correct {output.count(changes, 'bar')}? [y/N] ")
    return True
