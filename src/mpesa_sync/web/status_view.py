"""What customers of a venue see and why, and its switch, as values for its staff: decided by the rule, in its words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Final

from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import BarWarning, Direction, Reason
from mpesa_sync.domain.bars import BarFacts, CredentialsRow, SecretsState
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.web.texts import text


class Tone(StrEnum):
    """How a state is coloured: seen, not seen on purpose, not seen by a fault, not known."""

    SHOWN = "shown"
    OFF = "off"
    TROUBLE = "trouble"
    UNKNOWN = "unknown"


_ON_PURPOSE: Final = frozenset({Reason.SWITCHED_OFF, Reason.PAUSED, Reason.NO_CREDENTIALS, Reason.BAR_INACTIVE})
_FOR_OPERATORS: Final = frozenset({BarWarning.ENVIRONMENT_DIFFERS})
"""Warnings that a venue can do nothing about, and that change nothing for it."""
_SECRET_REASONS: Final = {
    SecretsState.UNREADABLE: Reason.SECRETS_UNREADABLE,
    SecretsState.MALFORMED: Reason.SECRETS_MALFORMED,
    SecretsState.MISSING: Reason.SECRETS_MALFORMED,
}


@dataclass(frozen=True, slots=True)
class RawField:
    """One of both fields, by its name in the database, and its value as stored."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class StatusView:
    """What customers see now, in one word and one sentence; why, and what the venue can do, where it is hidden."""

    tone: Tone
    word: str
    sentence: str
    reason: str = ""
    meaning: str = ""
    remedy: str = ""
    besides: tuple[str, ...] = ()
    fields: tuple[RawField, ...] = ()
    is_on: bool = False
    version: str = ""


def status(
    facts: BarFacts, reason: Reason | None, warnings: Sequence[BarWarning] = (), *, version: str = ""
) -> StatusView:
    """Return what customers of a bar see, for its staff.

    Arguments:
        reason: why M-Pesa is hidden, as the rule decided; None where it is offered.
        version: `epoch:n` of the answer that this was decided from.
    """
    drift = availability.direction(facts)
    besides = [text(f"warning.{warning}") for warning in warnings if warning not in _FOR_OPERATORS]
    if drift is not None and reason not in (Reason.DRIFT_EXPOSED, Reason.DRIFT_HIDDEN):
        other = Reason.DRIFT_HIDDEN if drift is Direction.HIDDEN else Reason.DRIFT_EXPOSED
        besides.insert(0, f"{text(f'reason.{other}')} {text(f'remedy.{other}')}")
    kind = "shown" if reason is None else "hidden"
    return StatusView(
        tone=tone_of(reason),
        word=text(f"now.{kind}.word"),
        sentence=text(f"now.{kind}"),
        reason=reason or "",
        meaning=text(f"reason.{reason}") if reason else "",
        remedy=_remedy(facts, reason) if reason else "",
        besides=tuple(besides),
        fields=raw_fields(facts),
        is_on=availability.authority(facts),
        version=version,
    )


def tone_of(reason: Reason | None) -> Tone:
    """Return how a state is coloured; a reason of None means that M-Pesa is offered."""
    return Tone.SHOWN if reason is None else Tone.OFF if reason in _ON_PURPOSE else Tone.TROUBLE


def status_unknown() -> StatusView:
    """Return the status where the answer cannot be had; M-Pesa is not offered then (spec 2, fail closed)."""
    return StatusView(Tone.UNKNOWN, text("now.unknown.word"), text("now.unknown"))


def status_json(view: StatusView) -> dict[str, Any]:
    """Return the status as the staff page's script reads it; for members only, since it holds the reason."""
    return asdict(view)


def _remedy(facts: BarFacts, reason: Reason) -> str:
    row = availability.judged_row(facts)
    if reason is Reason.DRIFT_HIDDEN and row is not None and row.secrets in _SECRET_REASONS:
        # To switch on once more would be refused: the secrets come first.
        return text(f"remedy.{_SECRET_REASONS[row.secrets]}")
    return text(f"remedy.{reason}")


def raw_fields(facts: BarFacts) -> tuple[RawField, RawField]:
    """Return both fields as stored: `is_active` of every credentials row, and the customer-facing flag."""
    flags = [f"{row.environment}: {_flag(row.is_active)}" for row in facts.rows]
    return (
        RawField("mpesa_credentials.is_active", ", ".join(flags) or text("now.no_rows")),
        RawField("bars.mpesa_enabled", _flag(facts.mpesa_enabled)),
    )


def _flag(flag: bool | None) -> str:
    return text("value.null") if flag is None else text("value.true" if flag else "value.false")


@dataclass(frozen=True, slots=True)
class SwitchAction:
    """One button of the switch: what it posts (`is_active`), and what it will do, said before.

    `environments`: those to choose from, where there is a choice; posted as `environment`.
    """

    on: bool
    button: str
    consequence: str
    environments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SwitchView:
    """The switch: its buttons, the one that is meant first; and why it cannot be switched on, "" where it can."""

    actions: tuple[SwitchAction, ...]
    blocked: str = ""


def switch(facts: BarFacts, *, allow_sandbox: bool, paused: bool = False) -> SwitchView:
    """Return what can be switched at a bar, and what each button would do, by the rule itself.

    A drifted bar gets the button first that makes both fields what the staff have set, as R5.4 says.
    """
    usable = sorted(
        (row for row in facts.rows if _may_be_switched_on(row, allow_sandbox)),
        key=lambda row: row.environment is not Environment.PRODUCTION,
    )
    is_on, drift = availability.authority(facts), availability.direction(facts)
    wants_choice = len(facts.rows) > 1 and len(usable) > 1
    off = SwitchAction(on=False, button=text("switch.off"), consequence=_off(facts, drift, allow_sandbox, paused))
    actions: list[SwitchAction] = []
    if usable and (not is_on or drift is Direction.HIDDEN or wants_choice):
        actions.append(
            SwitchAction(
                on=True,
                button=text("switch.on"),
                consequence=_on(facts, usable[0], allow_sandbox, paused),
                environments=tuple(row.environment.value for row in usable) if wants_choice else (),
            )
        )
    if is_on or drift is not None:
        actions.append(off)
    if drift is Direction.EXPOSED or (is_on and drift is None):
        actions.sort(key=lambda action: action.on)
    blocked = "" if usable or is_on else text("switch.blocked", reason=text(f"reason.{_why_not(facts)}"))
    return SwitchView(tuple(actions), blocked)


def _may_be_switched_on(row: CredentialsRow, allow_sandbox: bool) -> bool:
    return row.secrets is SecretsState.USABLE and (allow_sandbox or row.environment is not Environment.SANDBOX)


def _why_not(facts: BarFacts) -> Reason:
    reasons = [_SECRET_REASONS.get(row.secrets, Reason.SANDBOX_NOT_ALLOWED) for row in facts.rows]
    return reasons[0] if reasons else Reason.NO_CREDENTIALS


def _on(facts: BarFacts, chosen: CredentialsRow, allow_sandbox: bool, paused: bool) -> str:
    rows = tuple(replace(row, is_active=row is chosen) for row in facts.rows)
    then = replace(facts, rows=rows, mpesa_enabled=True)
    reason = availability.hidden_reason(then, allow_sandbox=allow_sandbox, paused=paused)
    if reason is None:
        return text("switch.on.then")
    return text("switch.on.but", reason=text(f"reason.{reason}"))


def _off(facts: BarFacts, drift: Direction | None, allow_sandbox: bool, paused: bool) -> str:
    if drift is Direction.EXPOSED:
        return text("switch.mend.off")
    is_offered = availability.hidden_reason(facts, allow_sandbox=allow_sandbox, paused=paused) is None
    return text("switch.off.then" if is_offered else "switch.off.hidden")
