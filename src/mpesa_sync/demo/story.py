"""The story: its steps as data, and playing them one after the other, whatever happens to one of them."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec

from mpesa_sync.demo import alarm_story, fleet_story, guard_story, history, live_story, switching, trouble, web_story
from mpesa_sync.demo.stage import Stage, StoryBroken
from mpesa_sync.errors import MpesaSyncError


class Step(msgspec.Struct, frozen=True):
    """One step. `ids` are the plan's tasks, requirements and properties that it shows."""

    id: str
    title: str
    ids: tuple[str, ...]
    play: Callable[[Stage], Awaitable[None]]


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a step. `error` says what was wrong; `changes` are both fields before and after, by bar."""

    id: str
    title: str
    ids: tuple[str, ...]
    ok: bool
    duration_ms: int
    changes: list[dict[str, Any]]
    error: str | None = None


STEPS: Final = (
    Step("switch-on", "Switch on: both fields, one transaction", ("T1.1", "R1.1", "R1.2", "P1"), switching.switch_on),
    Step("switch-off", "Switch off: both fields again", ("T1.1", "R1.1", "R1.3", "P1"), switching.switch_off),
    Step(
        "two-environments",
        "Two environments, one of them active",
        ("T1.1", "R1.1", "R1.2", "P1"),
        switching.two_environments,
    ),
    Step("refused", "Switch-ons that are refused", ("T1.1", "R1.2", "R5.3"), switching.refused),
    Step(
        "credentials-while-off",
        "Credentials there, status off",
        ("T7.1", "R1.3", "R3.4"),
        switching.credentials_while_off,
    ),
    Step(
        "save-with-status",
        "Saving credentials and status together",
        ("R1.1", "R1.4", "R4.1", "R4.3", "P6"),
        switching.save_with_status,
    ),
    Step("many-at-once", "Many at once, nothing in between seen", ("R1.1", "R5.3", "P1"), switching.many_at_once),
    Step(
        "rollback",
        "A database error rolls back all of it",
        ("T6.1", "R1.1", "R4.2", "R5.2", "R5.3", "P6"),
        trouble.rollback,
    ),
    Step("retried", "Three connections cut, three retries, done", ("T6.1", "R5.1", "R5.3"), trouble.retried),
    Step("answer-lost", "A commit whose answer is lost", ("T6.1", "R5.1", "R5.3"), trouble.answer_lost),
    Step("exhausted", "All retries fail: an alert", ("T6.1", "R5.1", "R5.2"), trouble.exhausted),
    Step(
        "called",
        "An alert: delivered, acknowledged, resolved",
        ("T6.1", "R5.1", "R5.2", "P8"),
        alarm_story.called,
    ),
    Step(
        "called-at-once",
        "No retry can mend it: people hear at once",
        ("T6.1", "R5.2", "P8"),
        alarm_story.called_at_once,
    ),
    Step("drift-found", "Drift, found in both directions", ("T1.1", "T4.1", "R2.1", "P2"), history.drift_found),
    Step("dry-run", "A dry run that changes nothing", ("T5.1", "R2.1", "P2"), history.dry_run),
    Step("one-repair", "One bar repaired: is_active wins", ("T1.1", "R5.4", "P9"), history.one_repair),
    Step(
        "poisoned", "Migration with a poisoned record", ("T4.1", "T5.1", "R2.2", "R2.4", "P3", "P4"), history.poisoned
    ),
    Step(
        "quarantine-retried",
        "The cause removed, the quarantine retried",
        ("T4.1", "T5.1", "R2.2", "R2.4", "P4"),
        history.quarantine_retried,
    ),
    Step("planned", "A fleet: the migration planned, the plan saved", ("T5.1", "R2.1", "P2"), fleet_story.planned),
    Step("killed", "The plan applied, and kill -9 in the middle", ("T4.1", "T5.1", "R5.3"), fleet_story.killed),
    Step(
        "resumed",
        "Resumed: exactly what the plan has said",
        ("T4.1", "T5.1", "R2.2", "R2.3", "P3"),
        fleet_story.resumed,
    ),
    Step(
        "verified",
        "Verified: a pass that repairs nothing",
        ("T4.1", "T5.1", "R2.2", "R2.3", "P3"),
        fleet_story.verified,
    ),
    Step("guarded", "Guards: an old program is put right as it writes", ("R5.4", "P9"), guard_story.guarded),
    Step("reconciled", "Drift that no guard saw: the reconciler", ("R5.4", "P9"), guard_story.reconciled),
    Step("sign-in", "Signing in, over HTTP from here on", ("T2.1",), web_story.sign_in),
    Step("save-form", "Saving through the staff's form", ("T2.1", "R1.4", "R4.1", "P6"), web_story.save_form),
    Step("save-api", "Saving through the API", ("T2.1", "R4.1", "R4.3", "P6"), web_story.save_api),
    Step("save-rejected", "A rejected save changes nothing", ("T2.1", "R4.4", "P7"), web_story.save_rejected),
    Step("rollback-http", "A database error, seen over HTTP", ("T2.1", "R4.2", "P6"), web_story.rollback),
    Step("streamed", "Changes on an open page, whoever made them", ("T7.1", "R3.2", "P5"), live_story.streamed),
    Step(
        "without-script",
        "The page without JavaScript",
        ("T7.1", "R3.1", "R3.3", "R3.4", "P5"),
        live_story.without_script,
    ),
    Step("foreign-bar", "A bar of others looks like none", ("T2.1",), web_story.foreign_bar),
)
"""In the order in which they are told: each leaves the venues as the next one expects them."""


async def play(stage: Stage, steps: Sequence[Step], *, debug: bool = False) -> list[Played]:
    """Play every step and return what became of each; one that fails is shown, the others go on.

    Arguments:
        debug: print where an unexpected error came from, on stderr.
    """
    played = []
    for number, step in enumerate(steps, start=1):
        stage.narrator.title(number, step.title, step.ids)
        stage.changes = []
        started = time.monotonic()
        error = await _error_of(step, stage, debug=debug)
        duration_ms = round((time.monotonic() - started) * 1000)
        if error is not None:
            stage.narrator.failed(error)
        stage.narrator.line(f"    {duration_ms:,} ms", "dim")
        played.append(
            Played(
                id=step.id,
                title=step.title,
                ids=step.ids,
                ok=error is None,
                duration_ms=duration_ms,
                changes=stage.changes,
                error=error,
            )
        )
        await stage.narrator.pause()
    return played


async def _error_of(step: Step, stage: Stage, *, debug: bool) -> str | None:
    try:
        await step.play(stage)
    except StoryBroken as exc:
        return str(exc)
    except Exception as exc:  # noqa: BLE001 - whatever goes wrong in a step is shown, and the others go on
        if debug:
            traceback.print_tb(exc.__traceback__, file=sys.stderr)
        words = exc.message if isinstance(exc, MpesaSyncError) else f"SQLSTATE {getattr(exc, 'sqlstate', 'none')}"
        return f"unexpected {type(exc).__name__}: {words}"
    return None
