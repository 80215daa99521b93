"""The words that differ by the kind of a run: of all bars, of a plan, of the quarantine, or one that takes back."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from mpesa_sync.cli.output import count
from mpesa_sync.migration.report import Run, RunReport

UNDO: Final = "undo"
RETRY: Final = "retry"

_OUTCOMES: Final = {
    "fixed": "fixed",
    "already_consistent": "right already, somebody else was faster",
    "stale": "changed again meanwhile, left alone",
    "vanished": "deleted meanwhile",
    "quarantined": "quarantined: could not be corrected",
    "deferred": "not touched",
}
_PLANNED: Final = {"deferred": "would be corrected", "quarantined": "would be set aside, see below"}
_UNDONE: Final = {
    "fixed": "as before the run",
    "already_consistent": "as before already",
    "stale": "changed since, left alone",
    "vanished": "deleted since",
    "quarantined": "quarantined: could not be taken back",
    "deferred": "not touched",
}
_WOULD_BE_UNDONE: Final = {"deferred": "would be as before the run, unless changed since"}


def outcomes(report: RunReport, kind: str) -> list[tuple[int, str]]:
    """Return what became of a run's bars, or would: how many, and in words; what became of none is left out."""
    words, planned = (_UNDONE, _WOULD_BE_UNDONE) if kind == UNDO else (_OUTCOMES, _PLANNED)
    if report.dry_run:
        words = words | planned
    return [(number, text) for name, text in words.items() if (number := getattr(report, name))]


def done(run: Run) -> str:
    """Return what such a run does to a bar, as a participle."""
    return "taken back" if run.kind == UNDO else "corrected"


def bounds(run: Run) -> str:
    """Return what holds the bars that such a run is about, where these are not all."""
    return "the quarantine" if run.kind == RETRY else "the plan"


def resume_command(run_id: UUID, limit: str | None) -> str:
    """Return the command that goes on with a run; one that `limit` has stopped would stop at once by the same limit."""
    return f"mpesa-sync migrate resume {run_id}" + (" --max-errors N" if limit == "max_errors" else "")


def nothing(run: Run) -> str:
    """Return the headline of a run that had no bar to look at."""
    if run.kind == UNDO:
        return "That run has changed nothing: nothing to take back."
    if run.kind == RETRY:
        where = "The quarantine is empty" if run.of_run is None else f"No bar of the run {run.of_run} is quarantined"
        return f"{where}: nothing to retry.{_outside(run)}"
    if run.is_bound:
        return f"The plan is empty: nothing to correct.{_outside(run)}"
    return "There are no bars in this database: nothing to correct."


def found(run: Run) -> tuple[str, str]:
    """Return the headline of a dry run, and its style."""
    bars = count(run.report.deferred, "bar")
    if run.kind == UNDO:
        return f"Dry run: {bars} would be as before the run, unless changed since. Nothing was written.", "yellow"
    if not run.report.drifted:
        return "Dry run: every bar is in sync. Nothing was written.", "green"
    return f"Dry run: {bars} would be corrected. Nothing was written.", "yellow"


def ended(run: Run) -> tuple[str, str]:
    """Return the headline of a run that came to its end, and its style."""
    left = count(run.report.quarantined, "record")
    if run.kind == UNDO:
        return _taken_back(run, left)
    of = f" of {bounds(run)}" if run.outside else ""
    if run.report.quarantined:
        text = f"Done, but for {left} in quarantine. Every other bar{of} is in sync, verified.{_outside(run)}"
        return text, "yellow"
    return f"Done: every bar{of} is in sync, verified.{_outside(run)}", "yellow" if run.outside else "green"


def _taken_back(run: Run, left: str) -> tuple[str, str]:
    bars = count(run.report.fixed, "bar")
    if run.report.quarantined:
        return f"Taken back: {bars} as before; but {left} could not be, and went into quarantine.", "yellow"
    if run.report.fixed:
        return f"Taken back: {bars} as before.", "green"
    return "Nothing was taken back: no bar is as that run has left it.", "yellow"


def _outside(run: Run) -> str:
    return f" {count(run.outside, 'bar')} outside of it drifted." if run.outside else ""
