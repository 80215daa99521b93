"""What the overview of all venues gets: frozen values and the pure functions that make them. Nothing is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from mpesa_sync.db.guards import GuardStatus
from mpesa_sync.db.overview import FleetCounts, State
from mpesa_sync.db.reconciler import State as Sweeps
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import Direction, Reason
from mpesa_sync.live.offers import Known
from mpesa_sync.live.state import FeedState
from mpesa_sync.sync.reconciler_policy import Policy, Rhythm
from mpesa_sync.web.alert_view import Choice, Moment, moment
from mpesa_sync.web.operator_texts import text
from mpesa_sync.web.status_view import Tone, tone_of
from mpesa_sync.web.views import SignedIn

OVERVIEW: Final = "/operator"
BAR: Final = f"{OVERVIEW}/bars"
_MINUTE_S: Final = 60
_HOUR_S: Final = 3_600


@dataclass(frozen=True, slots=True)
class Count:
    """One number with what it counts, and the list of just those."""

    label: str
    number: str
    path: str
    tone: Tone
    is_none: bool


@dataclass(frozen=True, slots=True)
class CountsView:
    """The counts over all venues, of one moment. `note` says where they are not of now.

    `sample` says how it stands with the secrets of some that are on, "" where none was looked at.
    """

    bars: str
    at: Moment
    on: Count
    reasons: tuple[Count, ...]
    drift: tuple[Count, ...]
    sample: str
    is_sample_bad: bool
    note: str


@dataclass(frozen=True, slots=True)
class Part:
    """How one part of the machinery stands: a word for it, and lines that say more. `at` is a time with its label."""

    tone: Tone
    word: str
    lines: tuple[str, ...]
    times: tuple[tuple[str, Moment], ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """How guards and sweeps stand, and how many alerts are open."""

    guards: Part
    reconciler: Part
    open_alerts: int


@dataclass(frozen=True, slots=True)
class VenueRow:
    """One venue of the list, as its customers see it now. `drift` "" where both fields agree."""

    id: str
    name: str
    slug: str
    tone: Tone
    word: str
    reason: str
    drift: str
    path: str


@dataclass(frozen=True, slots=True)
class FleetList:
    """A page of the list. `following` and `first` are addresses, "" where there is no such page."""

    venues: tuple[VenueRow, ...]
    following: str = ""
    first: str = ""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class FleetView:
    """The overview. `counts` and `health` are None where they cannot be had; `error`: what is wrong with a search."""

    person: SignedIn
    counts: CountsView | None
    health: Health | None
    feed: Part
    choices: tuple[Choice, ...]
    words: str
    error: str
    list: FleetList

    @property
    def chosen(self) -> str:
        """Return the label of the states that are listed, "" for all."""
        return next((choice.label for choice in self.choices[1:] if choice.is_chosen), "")


def path(which: str = "", words: str = "", after: str = "") -> str:
    """Return the address of a list."""
    asked = {"state": which, "q": words, "after": after}
    query = urlencode({name: value for name, value in asked.items() if value})
    return f"{OVERVIEW}?{query}" if query else OVERVIEW


def choices(which: str) -> tuple[Choice, ...]:
    """Return the choices of the filter, "all" first; the path of each is its value in the form."""
    values = ("", *State, *Direction)
    chosen = which if which in values else ""
    return tuple(Choice(_label(value), str(value), value == chosen, None) for value in values)


def _label(value: str) -> str:
    kind = "drift" if value in tuple(Direction) else "state"
    return text(f"fleet.{kind}.{value or 'all'}")


def counts(found: FleetCounts, *, is_fresh: bool, sampled: int = 0, unusable: int = 0) -> CountsView:
    """Return the counts in words.

    Arguments:
        is_fresh: whether they are of now.
        sampled: of how many venues that are on the secrets were opened, and `unusable`: how many are hidden for theirs.
    """
    reasons = sorted((state for state in State if state is not State.ON), key=lambda state: -found.states[state])
    return CountsView(
        bars=f"{found.bars:,}",
        at=moment(found.at),
        on=_count(State.ON, found.states[State.ON]),
        reasons=tuple(_count(state, found.states[state]) for state in reasons),
        drift=(_count(Direction.HIDDEN, found.hidden), _count(Direction.EXPOSED, found.exposed)),
        sample=text("fleet.on.sample", sampled=sampled, unusable=unusable) if sampled else "",
        is_sample_bad=unusable > 0,
        note="" if is_fresh else text("fleet.counts.old"),
    )


def _count(value: State | Direction, number: int) -> Count:
    tone = Tone.TROUBLE if isinstance(value, Direction) else tone_of(_reason(value))
    return Count(_label(value), f"{number:,}", path(value), tone if number else Tone.OFF, not number)


def _reason(state: State) -> Reason | None:
    if state is State.ON:
        return None
    return Reason.SECRETS_MALFORMED if state is State.SECRETS_MISSING else Reason(state.value)


def venue(known: Known) -> VenueRow:
    """Return one venue of the list."""
    bar, direction = known.offer.bar, availability.direction(known.facts)
    return VenueRow(
        id=str(bar.id),
        name=bar.name or str(bar.id),
        slug=bar.slug or "",
        tone=tone_of(known.reason),
        word=text("fleet.shown" if known.reason is None else "fleet.hidden"),
        reason=text(f"fleet.state.{known.reason}") if known.reason else "",
        drift=text(f"fleet.drift.{direction}") if direction else "",
        path=f"{BAR}/{bar.id}",
    )


def guards(found: GuardStatus, hits: Mapping[str, int]) -> Part:
    """Return how the guards stand."""
    if found.is_broken:
        tone, word = Tone.TROUBLE, text("guards.broken", state=found.state.value)
    elif found.mode is None:
        tone, word = Tone.OFF, text("guards.off")
    else:
        tone, word = Tone.SHOWN, text("guards.on")
    lines = [text("guards.do")] if found.is_broken else [text(f"guards.mode.{found.mode}")] if found.mode else []
    lines.append(text("guards.notices" if found.notices else "guards.no_notices"))
    met = sum(hits.values())
    return Part(tone, word, (*lines, *([text("guards.hits", count=f"{met:,}")] if met else [])))


def reconciler(policy: Policy, found: Sweeps | None, rhythm: Rhythm) -> Part:
    """Return how the sweep over all venues stands."""
    if policy is Policy.OFF:
        return Part(Tone.OFF, text("sweep.off"), (text("sweep.policy.off"),))
    if found is None:
        return Part(Tone.TROUBLE, text("sweep.lost"), (text("sweep.do"),))
    is_late = found.success_age_s > rhythm.stale_after_s
    lines = [text(f"sweep.policy.{policy}")]
    if found.last_success is None:
        lines.append(text("sweep.never"))
    else:
        lines.append(text("sweep.age", age=age(found.success_age_s)))
    if found.last_bars is not None:
        drifted = (found.last_hidden or 0) + (found.last_exposed or 0)
        lines.append(text("sweep.found", bars=f"{found.last_bars:,}", drifted=f"{drifted:,}"))
    if policy is Policy.REPAIR:
        lines.append(text("sweep.spent", spent=found.spent, budget=rhythm.budget))
    if is_late:
        lines.append(text("sweep.do"))
    times = [(text("sweep.last"), moment(found.last_success))] if found.last_success else []
    if not found.is_under_way:
        times.append((text("sweep.next"), moment(found.next_run)))
    else:
        lines.append(text("sweep.under_way"))
    word = text("sweep.late" if is_late else "sweep.works")
    return Part(Tone.TROUBLE if is_late else Tone.SHOWN, word, tuple(lines), tuple(times))


def feed(found: FeedState) -> Part:
    """Return how the live feed of the process that answers stands."""
    lines = [text(f"feed.{found.mode}")]
    if found.heard_ago_s is not None:
        lines.append(text("feed.heard", age=age(found.heard_ago_s)))
    lines.append(text("feed.pages", streams=f"{found.streams:,}", watched=f"{found.watched:,}"))
    if found.is_draining:
        return Part(Tone.OFF, text("feed.draining"), tuple(lines))
    if not found.is_live:
        return Part(Tone.TROUBLE, text("feed.deaf"), (*lines, text("feed.do")))
    return Part(Tone.SHOWN, text("feed.live"), tuple(lines))


def age(seconds: float) -> str:
    """Return how long ago something was, in words."""
    if seconds < _MINUTE_S:
        return text("age.seconds", count=f"{seconds:.0f}")
    if seconds < 2 * _HOUR_S:
        return text("age.minutes", count=f"{seconds / _MINUTE_S:.0f}")
    return text("age.hours", count=f"{seconds / _HOUR_S:,.0f}")
