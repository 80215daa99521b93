"""`migrate status|pause|resume|cancel|undo`: runs of the migration, seen and asked from another terminal (R2)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import migration_report, output, prompt, report_file
from mpesa_sync.cli import migration_words as words
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.migrating import (
    NO_TERMINAL,
    Actor,
    AsJsonLine,
    Reason,
    ReportPath,
    Yes,
    carried_out,
    finished,
    has_terminal,
    log_level,
)
from mpesa_sync.cli.options import AsJson, DatabaseUrl, examples
from mpesa_sync.cli.session import login, on_database, require_installed
from mpesa_sync.db import migrations
from mpesa_sync.db.runs import LEASE_S, StoredRun
from mpesa_sync.migration import control
from mpesa_sync.migration.options import MAX_BATCH_SIZE, RunOptions
from mpesa_sync.migration.report import RunReport, RunState
from mpesa_sync.migration.service import MpesaMigrationService
from mpesa_sync.refusals import RunUnderWay

_PAUSES_WITHIN_S: Final = 10.0
_KINDS: Final = {"migrate": "migration", "retry": "retry of the quarantine", "undo": "undo"}
_EVERY_S: Final = 0.5

RunId = Annotated[
    str,
    typer.Argument(metavar="RUN", help="The run's id, or as much of its beginning as is unique.", show_default=False),
]
_AS_BEGUN: Final = "as the run was begun with"
SameBatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        min=1,
        max=MAX_BATCH_SIZE,
        help="Bars in one transaction.",
        show_default=_AS_BEGUN,
    ),
]
SameMaxErrors = Annotated[
    int | None,
    typer.Option(
        "--max-errors",
        metavar="N",
        min=0,
        help="Stop once more records than this have failed, from the run's beginning.",
        show_default=_AS_BEGUN,
    ),
]
MaybeRunId = Annotated[str | None, typer.Argument(metavar="RUN", help="Only this run.", show_default=False)]


class RunDocument(msgspec.Struct, kw_only=True):
    """One run, as `--json` says it. `state` is `interrupted` where its process is gone."""

    run: UUID
    kind: str
    of_run: UUID | None
    state: str
    actor: str
    reason: str
    started_at: datetime
    finished_at: datetime | None
    limit: str | None
    fault: str | None
    report: RunReport


class RunList(msgspec.Struct):
    """The last runs."""

    runs: list[RunDocument]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `migrate`."""
    commands: tuple[tuple[str, Any, tuple[str, str]], ...] = (
        ("status", status, ("mpesa-sync migrate status", "The last runs, and how far they are.")),
        ("pause", pause, ("mpesa-sync migrate pause 6f7d8a52", "After the batch in hand; 'resume' goes on.")),
        ("resume", resume, ("mpesa-sync migrate resume 6f7d8a52", "Go on, also after a crash.")),
        ("cancel", cancel, ("mpesa-sync migrate cancel 6f7d8a52", "End it; what it has corrected stays.")),
        ("undo", undo, ("mpesa-sync migrate undo 6f7d8a52 --dry-run", "How many bars would be as before?")),
    )
    for name, command, example in commands:
        app.command(name, epilog=examples(example))(command)


def status(
    context: typer.Context, run: MaybeRunId = None, as_json: AsJson = False, database_url: DatabaseUrl = None
) -> int:
    """Show the last runs of the migration, or one. Changes nothing."""

    async def work(opened: Opened) -> ExitCode:
        found = await _runs(opened, run)
        if as_json:
            output.json_result(RunList([_document(one) for one in found]))
        elif not found:
            output.result("There has been no run here.")
        for one in [] if as_json else found:
            output.results(_lines(one))
        return ExitCode.OK

    return on_database(context, database_url, work)


def pause(context: typer.Context, run: RunId, database_url: DatabaseUrl = None) -> int:
    """Pause a run after the batch in hand, from any terminal."""

    async def work(opened: Opened) -> ExitCode:
        found = await _named(opened, run)
        await control.pause(opened.database, found.id)
        return await _tell_end(opened, found.id, "pause")

    return on_database(context, database_url, work)


def cancel(context: typer.Context, run: RunId, database_url: DatabaseUrl = None) -> int:
    """End a run for good, after the batch in hand. What it has corrected stays; 'undo' takes it back."""

    async def work(opened: Opened) -> ExitCode:
        found = await _named(opened, run)
        await control.cancel(opened.database, found.id)
        return await _tell_end(opened, found.id, "cancel")

    return on_database(context, database_url, work)


def resume(
    context: typer.Context,
    run: RunId,
    batch_size: SameBatchSize = None,
    max_errors: SameMaxErrors = None,
    report: ReportPath = None,
    as_json: AsJsonLine = False,
    database_url: DatabaseUrl = None,
) -> int:
    """Go on with a run that was paused, interrupted or killed, from its last committed batch.

    It was agreed to when it began, so nothing is asked. A process that is gone without a word keeps its run for ten
    seconds, unless it was on this machine.
    """
    with report_file.reserved(report) as file:

        async def work(opened: Opened) -> ExitCode:
            found = await _named(opened, run)
            await _wait_for_lease(opened, found)
            service = MpesaMigrationService(opened.database)
            ended = await carried_out(
                lambda tell, stop: service.resume(
                    found.id, batch_size=batch_size, max_errors=max_errors, progress=tell, stop=stop
                ),
                reads_only=False,
            )
            return finished(opened, ended, options=None, file=file, as_json=as_json)

        return on_database(context, database_url, work, log_level=log_level())


def undo(
    context: typer.Context,
    run: RunId,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how many bars; write nothing.")] = False,
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJsonLine = False,
    actor: Actor = None,
    database_url: DatabaseUrl = None,
) -> int:
    """Give bars the flag that they had before a run, where nobody has changed it since. They drift again by it."""
    options = RunOptions(dry_run=dry_run, reason=reason, actor=login() if actor is None else actor).checked()
    if not (dry_run or yes or has_terminal()):
        output.note(NO_TERMINAL, "red")
        return ExitCode.USAGE

    async def work(opened: Opened) -> ExitCode:
        found = await _named(opened, run)
        service = MpesaMigrationService(opened.database)
        if not (dry_run or yes):
            planned = await service.undo(found.id, msgspec.structs.replace(options, dry_run=True))
            bars = output.count(migration_report.planned_changes(planned), "bar")
            output.note(f"Would give {bars} the flag from before the run {found.id}. They will be drifted again.")
            if not await prompt.asked("Go on? [y/N] "):
                output.note("Nothing was changed.")
                return ExitCode.OK
        ended = await carried_out(
            lambda tell, stop: service.undo(found.id, options, progress=tell, stop=stop), reads_only=dry_run
        )
        return finished(opened, ended, options=options, file=None, as_json=as_json)

    return on_database(context, database_url, work, log_level=log_level())


async def _runs(opened: Opened, run: str | None) -> list[StoredRun]:
    """Return the run that is named, or the last ones: none before the first, which makes what they are kept in."""
    if run is not None:
        return [await _named(opened, run)]
    async with opened.database.reading() as connection:
        if (await migrations.state(connection)).applied is None:
            return []
    await _require_installed(opened)
    return await control.latest(opened.database)


async def _require_installed(opened: Opened) -> None:
    async with opened.database.reading() as connection:
        await require_installed(connection)


async def _named(opened: Opened, text: str) -> StoredRun:
    await _require_installed(opened)
    return await control.named(opened.database, text)


async def _wait_for_lease(opened: Opened, run: StoredRun) -> None:
    """Wait until a process that may be gone has lost its run; one that gives signs of life keeps it."""
    heard, seen = run.heartbeat_at, run
    while seen.is_active and control.state_of(seen) is not RunState.INTERRUPTED:
        if seen.heartbeat_at != heard:
            raise RunUnderWay("This run is under way.", run_id=run.id)
        if seen is run:
            output.note(f"Another process holds this run. Waiting up to {LEASE_S:.0f} s for a sign of life …")
        await asyncio.sleep(_EVERY_S)
        seen = await control.named(opened.database, str(run.id))


async def _tell_end(opened: Opened, run_id: UUID, asked: str) -> ExitCode:
    run = await control.settled(opened.database, run_id, within_s=_PAUSES_WITHIN_S)
    state = control.state_of(run)
    if run.is_active and state is not RunState.INTERRUPTED:
        output.note(f"Asked to {asked}. It does so after the batch in hand.")
    output.results(_lines(run))
    return ExitCode.OK


def _document(run: StoredRun) -> RunDocument:
    report = _report(run)
    report.state, report.deferred = control.state_of(run), report.drifted - report.settled
    return RunDocument(
        run=run.id,
        kind=run.kind,
        of_run=run.of_run,
        state=report.state.value,
        actor=run.actor,
        reason=run.reason,
        started_at=run.started_at,
        finished_at=run.finished_at,
        limit=run.stopped_by,
        fault=run.fault,
        report=report,
    )


def _report(run: StoredRun) -> RunReport:
    """Return the counters of a run; those of one from before runs were kept are not known, and nought."""
    if run.report == "{}":
        return RunReport(run=run.id, state=RunState(run.state), dry_run=False)
    return msgspec.json.decode(run.report, type=RunReport)


def _lines(run: StoredRun) -> list[str]:
    report, state = _report(run), control.state_of(run)
    kind = f"{_KINDS.get(run.kind, run.kind)}{f' of {run.of_run}' if run.of_run else ''}"
    lines = [
        f"{run.id}  {state.value}",
        f"  {kind}, by {run.actor}, begun {run.started_at:%Y-%m-%d %H:%M:%S} UTC"
        + (f": {run.reason}" if run.reason else ""),
        _settled(report, run.kind),
    ]
    if run.stopped_by or run.fault:
        lines += output.labelled("  Stopped: ", run.fault or f"by {run.stopped_by}", indent=4)
    if state in (RunState.PAUSED, RunState.INTERRUPTED) or (state is RunState.FAILED and run.stopped_by):
        lines.append(f"  Go on: {words.resume_command(run.id, run.stopped_by)}")
    return lines


def _settled(report: RunReport, kind: str) -> str:
    settled = f"  {report.settled:,} of {report.drifted:,}"
    if kind != words.UNDO:
        return f"{settled} drifted bars settled: {report.fixed:,} fixed, {report.quarantined:,} quarantined"
    counted = "; ".join(f"{number:,} {text}" for number, text in words.outcomes(report, kind))
    return f"{settled} bars settled: {counted or 'none yet'}"
