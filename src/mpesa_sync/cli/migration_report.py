"""What `migrate` says at the end: the counts, the quarantined records, the next command, the exit code."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import Any, Final

import msgspec

from mpesa_sync.bootstrap import Place
from mpesa_sync.cli import migration_words as words
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.domain.availability import BarWarning
from mpesa_sync.domain.remedies import WARNINGS
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.report import Quarantined, Run, RunState

LISTED: Final = 20
"""Quarantined records that are listed for a person; `--report` and the log have all of them."""
CAUSES: Final = 5
"""Causes that are counted one by one below such a list."""

THROTTLED: Final = "throttle"
"""The limit of a run that held back for others until its bound; `Run.fault` is then the reason, as shown."""

_ASKED: Final = {RunState.PAUSED: "Paused", RunState.CANCELLED: "Cancelled"}
"""How a run ends that somebody else asked to end."""


def exit_code(run: Run) -> ExitCode:
    """Return what the run comes to: 130, 6, 1, 5, 3, 0, the first that applies.

    2 for drift that a dry run found, and where somebody has paused or cancelled it: changes are pending.
    """
    report = run.report
    if report.state is RunState.INTERRUPTED:
        return ExitCode.INTERRUPTED
    if run.limit is not None:
        return ExitCode.LIMIT
    if run.fault is not None:
        return ExitCode.ERROR
    if report.dry_run:
        return ExitCode.DRIFT if report.drifted else ExitCode.OK
    if report.state in _ASKED:
        return ExitCode.DRIFT
    if report.verified is False:
        return ExitCode.UNVERIFIED
    return ExitCode.QUARANTINED if report.quarantined else ExitCode.OK


def whole(run: Run, *, place: Place, options: RunOptions | None) -> bytes:
    """Return all that is known of a run as JSON, for `--report`: every record, however many a person is shown."""
    content = msgspec.to_builtins(run) | {
        "database": {"name": place.database, "host": place.host},
        "options": msgspec.to_builtins(options),
        "exit_code": int(exit_code(run)),
        "says": _headline(run)[0],
        "next": _next(run),
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def counters(run: Run) -> dict[str, Any]:
    """Return what `--json` says of a run: its counters, and how many bars outside of a plan are drifted."""
    return {**msgspec.to_builtins(run.report), "outside": run.outside}


def show(run: Run) -> None:
    """Print the report for a person on stdout."""
    text, style = _headline(run)
    for line in output.labelled("", text, indent=0):
        output.result(line, style)
    output.result()
    output.results(_counts(run))
    _show_warnings(run)
    _show_quarantined(run)
    output.result()
    output.results(output.labelled("Next: ", _next(run), indent=6))


def elsewhere(run: Run) -> str:
    """Return where a run is to be seen whose report could not be printed."""
    if run.is_kept:
        return f"The run has ended all the same: 'mpesa-sync migrate status {run.report.run}' shows it."
    if run.report.dry_run:
        return "Nothing was changed; run it again to see what it says."
    return "'mpesa-sync migrate status' shows every run that has changed anything."


def note_plan(planned: Run, *, makes_schema: bool, mirrors: bool) -> None:
    """Print on stderr what a run would do, before a person is asked."""
    report = planned.report
    output.note(
        f"{output.count(report.scanned, 'bar')}: {report.consistent:,} in sync, {report.drifted:,} drifted"
        f"{_directions(planned)}."
    )
    if report.quarantined:
        output.note(
            f"{output.count(report.quarantined, 'bar')} will be left out: is_active may not be the truth there."
        )
    flags = "bars.mpesa_enabled and bars.payment_mpesa_enabled" if mirrors else "bars.mpesa_enabled"
    output.note(f"Would set {flags} of {output.count(planned_changes(planned), 'bar')}; credentials stay as they are.")
    if planned.legacy_left:
        output.note(_left(planned))
    if makes_schema:
        output.note("Would make the schema mpesa_sync, which is absent, for the journal of what is changed.")


def note_fault(run: Run) -> None:
    """Print on stderr why a run ended before its end, where the counts alone do not say it."""
    if exit_code(run) in (ExitCode.INTERRUPTED, ExitCode.LIMIT, ExitCode.ERROR, ExitCode.UNVERIFIED):
        output.note(_headline(run)[0], "red")


def planned_changes(run: Run) -> int:
    """Return how many bars a dry run would have corrected."""
    return run.report.deferred


def _headline(run: Run) -> tuple[str, str]:
    report, code = run.report, exit_code(run)
    if not report.scanned and code is ExitCode.OK:
        return words.nothing(run), "yellow"
    if report.dry_run and code in (ExitCode.OK, ExitCode.DRIFT):
        return words.found(run)
    so_far = f"{output.count(report.fixed, 'bar')} {words.done(run)} so far, and that stays."
    if code is ExitCode.INTERRUPTED:
        return f"Interrupted: {so_far}", "yellow"
    if report.state in _ASKED and run.fault is None and run.limit is None:
        return f"{_ASKED[report.state]}, as it was asked: {so_far}", "yellow"
    if code is ExitCode.LIMIT:
        return _limit(run, so_far), "red"
    if code is ExitCode.ERROR:
        return f"Stopped: {run.fault} {so_far}", "red"
    if code is ExitCode.UNVERIFIED:
        return (
            "Not verified: other programs make bars drift faster than they are corrected, so no pass over all "
            "bars found nothing to do.",
            "red",
        )
    return words.ended(run)


def _limit(run: Run, so_far: str) -> str:
    if run.limit == "max_errors":
        quarantined = output.count(run.report.quarantined, "record")
        done = words.done(run)
        return f"Stopped by --max-errors: {quarantined} could not be {done}. What was {done} stays."
    if run.limit == THROTTLED:
        return f"Stopped, for it has held back long enough: {run.fault}. {so_far}"
    changes = output.count(planned_changes(run), "bar")
    return f"Refused by --max-changes: {changes} would be corrected. Nothing was written."


def _counts(run: Run) -> list[str]:
    report = run.report
    if run.kind == words.UNDO:
        rows = [f"  {report.scanned:>9,}  changed by the run {run.of_run}"]
    else:
        rows = [
            f"  {report.scanned:>9,}  bars looked at",
            f"  {report.consistent:>9,}  in sync",
            f"  {report.drifted:>9,}  drifted{_directions(run)}",
        ]
    rows += [f"  {number:>9,}    {text}" for number, text in words.outcomes(report, run.kind)]
    if report.verified:
        rows += output.labelled(
            f"  {'verified':>9}  ", f"a full pass over all bars found nothing{_but(run)}", indent=13
        )
    rows.append(f"  {report.duration_s:>7.1f} s" + (f"  run {report.run}" if run.is_kept else ""))
    return rows


def _directions(run: Run) -> str:
    """Return the drift by direction, in brackets; nothing where that is not known."""
    if not (run.hidden or run.exposed or run.legacy_only):
        return ""
    legacy = f", {run.legacy_only:,} in payment_mpesa_enabled alone" if run.legacy_only else ""
    return f" ({run.hidden:,} hidden, {run.exposed:,} exposed{legacy})"


def _left(run: Run) -> str:
    bars = output.count(run.legacy_left, "bar")
    return (
        f"In {bars} of them bars.payment_mpesa_enabled differs from it then; --mirror-legacy sets it, too, for an old "
        "customer page that reads it."
    )


def _but(run: Run) -> str:
    """Return what a pass over all bars found that is no work of this run's."""
    found = ["what is set aside"] if run.report.quarantined else []
    if run.outside:
        found.append(f"what is outside of {words.bounds(run)}")
    return f" but {' and '.join(found)}" if found else ""


def _show_warnings(run: Run) -> None:
    if run.legacy_left:
        output.result()
        output.results(output.labelled("", _left(run), indent=0))
    if not run.warnings:
        return
    output.result()
    output.result("Warnings, which are not drift and change nothing here:", "bold")
    for name, number in run.warnings.items():
        output.results(output.labelled(f"  {number:>7,}  ", f"{name}: {WARNINGS[BarWarning(name)].meaning}"))


def _show_quarantined(run: Run) -> None:
    records = run.records
    if not records:
        return
    output.result()
    output.result("Quarantined; they stay as they were:", "bold")
    for record in records[:LISTED]:
        tried = f", attempts: {record.attempts}" if record.attempts else ""
        output.result(f"  {record.bar_id}  {_cause(record)}{tried}")
        output.results(output.labelled("", record.message, indent=4))
    if len(records) > LISTED:
        rest = "'mpesa-sync migrate quarantine list --json'" if run.is_kept else "--report FILE"
        more = f"… and {len(records) - LISTED:,} more; {rest} has all of them."
        output.results(output.labelled("", more, indent=2))
        causes = Counter(map(_cause, records)).most_common()
        shown = [f"{number:,} × {cause}" for cause, number in causes[:CAUSES]]
        others = sum(number for _, number in causes[CAUSES:])
        if others:
            shown.append(f"{others:,} × other causes")
        output.results(output.labelled("  Altogether: ", ", ".join(shown), indent=14))


def _cause(record: Quarantined) -> str:
    return f"SQLSTATE {record.sqlstate}" if record.sqlstate else record.code


def _next(run: Run) -> str:
    code, report = exit_code(run), run.report
    begin = f"'mpesa-sync migrate undo {run.of_run}'" if run.kind == words.UNDO else "'mpesa-sync migrate'"
    resume = f"'mpesa-sync migrate resume {report.run}' goes on; what is {words.done(run)} is not done twice."
    if code is ExitCode.OK:
        return _after(run)
    if report.state is RunState.CANCELLED and run.limit is None:
        return f"{begin} begins anew."
    if report.state is RunState.PAUSED:
        return resume if run.fault is None else f"remove what is in the way; then {resume}"
    if code is ExitCode.DRIFT:
        if run.plan_file is not None and planned_changes(run):
            return f"'mpesa-sync migrate --plan {shlex.quote(run.plan_file)}' applies the plan, and nothing beside it."
        if run.kind == words.UNDO:
            return f"{begin} takes them back."
        if run.records and not planned_changes(run):
            return f"'mpesa-sync explain {run.records[0].bar_id}' says what is in the way."
        return "'mpesa-sync migrate' corrects them; 'mpesa-sync check' lists them."
    if code is ExitCode.INTERRUPTED:
        return "run it again to go on." if report.dry_run or not report.settled else resume
    if code is ExitCode.LIMIT and run.limit == "max_changes":
        return "'mpesa-sync check' lists them; run it again with a higher --max-changes if they are right."
    if code is ExitCode.UNVERIFIED:
        return "find the program that writes one field alone ('mpesa-sync explain BAR'), then run it again."
    return _remove_cause(run, begin)


def _after(run: Run) -> str:
    if run.outside:
        return f"'mpesa-sync migrate' corrects what is outside of {words.bounds(run)}."
    if run.kind == words.UNDO:
        return "'mpesa-sync check' lists what is drifted now."
    return "'mpesa-sync check' looks again whenever you like."


def _remove_cause(run: Run, begin: str) -> str:
    explain = f"'mpesa-sync explain {run.records[0].bar_id}'" if run.records else ""
    if run.limit == "max_errors":
        why = f"{explain} says what is in the way. " if explain else ""
        if not run.is_kept:
            return f"{why}Run it again with a higher --max-errors to go on all the same."
        return f"{why}'{words.resume_command(run.report.run, run.limit)}' goes on, with a higher limit."
    if run.records:
        again = f"{begin} again" if run.kind == words.UNDO else "'mpesa-sync migrate quarantine retry'"
        return f"{explain}; remove the cause, then {again}."
    return f"remove the cause, then run it again; what is {words.done(run)} is not done twice."
