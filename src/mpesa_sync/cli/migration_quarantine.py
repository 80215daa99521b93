"""`migrate quarantine list|retry`: bars that could not be corrected, and trying them once more (R2.4)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

import msgspec
import typer

from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output, prompt, report_file
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.migrating import (
    NO_TERMINAL_TO_RETRY,
    Actor,
    AsJsonLine,
    AuthorityChoice,
    MirrorLegacy,
    Reason,
    ReportPath,
    Yes,
    carried_out,
    finished,
    has_terminal,
    log_level,
)
from mpesa_sync.cli.options import AsJson, DatabaseUrl, examples, group
from mpesa_sync.cli.session import login, on_database, require_installed
from mpesa_sync.db import quarantine
from mpesa_sync.db.quarantine import SetAside
from mpesa_sync.migration import control
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.service import MpesaMigrationService

OfRun = Annotated[
    str | None,
    typer.Option("--run", metavar="RUN", help="Only what this run met last.", show_default=False),
]


LISTED: Final = 50
_PAGE: Final = 1_000
Limit = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, metavar="N", help="How many at most.", show_default=f"{LISTED}, with --json all of them"
    ),
]


class QuarantinedBar(msgspec.Struct, kw_only=True):
    """One bar in the quarantine, as `--json` says it."""

    bar_id: UUID
    run: UUID
    code: str
    sqlstate: str | None
    message: str
    attempts: int
    first_seen: datetime
    last_seen: datetime


class QuarantineList(msgspec.Struct):
    """A part of the quarantine, the oldest first, and how many bars are in it."""

    total: int
    records: list[QuarantinedBar]


def add_to(app: typer.Typer) -> None:
    """Add the group to `migrate`."""
    found = group("Bars that could not be corrected: why, and once more.")
    found.command("list", epilog=examples(("mpesa-sync migrate quarantine list", "Which bars, since when, and why.")))(
        list_
    )
    found.command(
        "retry",
        epilog=examples(("mpesa-sync migrate quarantine retry", "Once more, after the cause has been removed.")),
    )(retry)
    app.add_typer(
        found,
        name="quarantine",
        epilog=examples(("mpesa-sync migrate quarantine list", "What is in it; 'retry' empties it where it can.")),
    )


def list_(
    context: typer.Context,
    run: OfRun = None,
    limit: Limit = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> int:
    """List the bars in the quarantine, the oldest first. Exit code 3 where there are any, else 0. Changes nothing."""

    async def work(opened: Opened) -> ExitCode:
        run_id = await _run_of(opened, run)
        async with opened.database.reading() as connection:
            total = await quarantine.count(connection, run_id=run_id)
        most = total if as_json else LISTED
        found = await _first(opened, run_id, most if limit is None else limit)
        if as_json:
            output.json_result(QuarantineList(total, [_document(one) for one in found]))
        elif not found:
            output.result("The quarantine is empty.", "green")
        for one in [] if as_json else found:
            output.results(_lines(one))
        if total > len(found):
            output.note(f"There are {total:,}; these are the oldest {len(found):,}. --limit {total} lists all of them.")
        return ExitCode.QUARANTINED if total else ExitCode.OK

    return on_database(context, database_url, work)


def retry(
    context: typer.Context,
    run: OfRun = None,
    authority: AuthorityChoice = None,
    mirror_legacy: MirrorLegacy = False,
    reason: Reason = "",
    report: ReportPath = None,
    yes: Yes = False,
    as_json: AsJsonLine = False,
    actor: Actor = None,
    database_url: DatabaseUrl = None,
) -> int:
    """Try the bars in the quarantine once more; those that are in sync by now leave it."""
    options = RunOptions(
        reason=reason,
        actor=login() if actor is None else actor,
        accept_stale_authority=authority is not None,
        mirror_legacy=mirror_legacy,
    ).checked()
    if not (yes or has_terminal()):
        output.note(NO_TERMINAL_TO_RETRY, "red")
        return ExitCode.USAGE
    with report_file.reserved(report) as file:

        async def work(opened: Opened) -> ExitCode:
            run_id = await _run_of(opened, run)
            service = MpesaMigrationService(opened.database)
            if not (yes or await _agreed(opened, run_id)):
                output.note("Nothing was changed.")
                return ExitCode.QUARANTINED
            ended = await carried_out(
                lambda tell, stop: service.retry_quarantined(options, run_id=run_id, progress=tell, stop=stop),
                reads_only=False,
            )
            return finished(opened, ended, options=options, file=file, as_json=as_json)

        return on_database(context, database_url, work, log_level=log_level())


async def _run_of(opened: Opened, text: str | None) -> UUID | None:
    async with opened.database.reading() as connection:
        await require_installed(connection)
    return None if text is None else (await control.named(opened.database, text)).id


async def _agreed(opened: Opened, run_id: UUID | None) -> bool:
    """Ask a person, having said how many bars it is about; nothing to ask where it is about none."""
    async with opened.database.reading() as connection:
        bars = await quarantine.count(connection, run_id=run_id)
    if not bars:
        return True
    output.note(f"Would try {output.count(bars, 'bar')} of the quarantine once more; credentials stay as they are.")
    return await prompt.asked("Go on? [y/N] ")


async def _first(opened: Opened, run_id: UUID | None, most: int) -> list[SetAside]:
    """Return the oldest entries, at most `most`; each page is a short look of its own."""
    found: list[SetAside] = []
    while len(found) < most:
        async with opened.database.reading() as connection:
            page = await quarantine.page(
                connection, run_id=run_id, after=found[-1].id if found else 0, limit=min(_PAGE, most - len(found))
            )
        if not page:
            break
        found += page
    return found


def _document(one: SetAside) -> QuarantinedBar:
    return QuarantinedBar(
        bar_id=one.bar_id,
        run=one.run_id,
        code=one.code,
        sqlstate=one.sqlstate,
        message=one.message,
        attempts=one.attempts,
        first_seen=one.first_seen,
        last_seen=one.last_seen,
    )


def _lines(one: SetAside) -> list[str]:
    state = f"SQLSTATE {one.sqlstate}" if one.sqlstate else one.code
    seen = f"since {one.first_seen:%Y-%m-%d %H:%M} UTC"
    if one.last_seen != one.first_seen:
        seen += f", last {one.last_seen:%Y-%m-%d %H:%M}"
    return [
        f"{one.bar_id}  {state}, attempts: {one.attempts}, {seen}",
        *output.labelled("", one.message, indent=4),
    ]
