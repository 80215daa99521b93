"""The plan's items against what was just played: what is claimed must have been shown, or the demo is red.

What is claimed stands in `docs/traceability.toml`; `plan.json` beside this module is its extract, written by
`tools/traceability.py`, so that an installed package has it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from importlib import resources
from typing import Final

import msgspec

from mpesa_sync.demo.narrator import Narrator
from mpesa_sync.demo.story import Played

TITLE: Final = 47
"""Columns for the title of an item."""
_FILE: Final = "plan.json"
_KINDS: Final = {"T": "Tasks of the plan", "R": "Requirements", "P": "Properties"}


class State(StrEnum):
    """How far an item of the plan is."""

    DONE = "done"
    PART = "part"
    NOT_YET = "not yet"


class Item(msgspec.Struct, frozen=True):
    """An item of the plan. `issue` brings what is missing; `steps` of the demo show what is there."""

    id: str
    title: str
    state: State
    issue: int | None = None
    steps: tuple[str, ...] = ()
    tests: int = 0


class Shown(StrEnum):
    """What the demo can say of an item."""

    SEEN = "seen"
    """Every step that shows it was played and held."""
    TESTED = "tested"
    """It cannot be played; tests prove it."""
    NOT_YET = "not yet"
    WRONG = "wrong"
    """A step that shows it failed, or was not played; or nothing shows it at all."""


class Claim(msgspec.Struct, frozen=True):
    """An item, and what was just seen of it."""

    id: str
    title: str
    state: State
    shown: Shown
    steps: tuple[str, ...]
    issue: int | None = None


def plan() -> list[Item]:
    """Return every item of the plan."""
    text = (resources.files("mpesa_sync.demo") / _FILE).read_bytes()
    return msgspec.json.decode(text, type=list[Item])


def judged(items: Sequence[Item], played: Sequence[Played]) -> list[Claim]:
    """Return what was seen of every item."""
    held = {step.id: step.ok for step in played}
    return [Claim(item.id, item.title, item.state, _shown(item, held), item.steps, item.issue) for item in items]


def _shown(item: Item, held: dict[str, bool]) -> Shown:
    if item.state is State.NOT_YET:
        return Shown.NOT_YET
    if item.steps:
        return Shown.SEEN if all(held.get(step) for step in item.steps) else Shown.WRONG
    return Shown.TESTED if item.tests else Shown.WRONG


def all_hold(claims: Sequence[Claim], played: Sequence[Played]) -> bool:
    """Return whether every step held and every claim was shown."""
    return bool(played) and all(step.ok for step in played) and all(claim.shown is not Shown.WRONG for claim in claims)


def show(claims: Sequence[Claim], narrator: Narrator) -> None:
    """Print the table of the plan's items."""
    narrator.line()
    narrator.line("The plan, item by item", "bold")
    narrator.say(
        f"{narrator.tick} played just now; tests: 'make test' proves it; not yet: that issue brings it",
        indent=2,
    )
    for letter, heading in _KINDS.items():
        narrator.line()
        narrator.line(f"  {heading}", "bold")
        for claim in (claim for claim in claims if claim.id.startswith(letter)):
            mark, style = _mark(claim, narrator)
            narrator.line(f"  {claim.id:<5} {claim.title:<{TITLE}} {mark}", style)


def _mark(claim: Claim, narrator: Narrator) -> tuple[str, str | None]:
    if claim.shown is Shown.WRONG:
        return f"{narrator.cross} claimed, not shown", "bold red"
    if claim.shown is Shown.NOT_YET:
        return f"not yet: issue {claim.issue}", "dim"
    mark = narrator.tick if claim.shown is Shown.SEEN else "tests"
    if claim.state is State.PART:
        return f"{mark} in part; issue {claim.issue}", None
    return mark, "green" if claim.shown is Shown.SEEN else None
