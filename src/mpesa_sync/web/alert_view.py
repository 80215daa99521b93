"""What the pages about alerts get: frozen values and the pure functions that make them. Nothing is read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.db.deliveries import ChannelHealth, Delivery
from mpesa_sync.sync import alert_words
from mpesa_sync.sync.alert_reading import Fate
from mpesa_sync.web.operator_texts import text
from mpesa_sync.web.views import SignedIn

LIST: Final = "/operator/alerts"
_TONES: Final = {"firing": "trouble", "acknowledged": "off", "resolved": "shown"}


@dataclass(frozen=True, slots=True)
class Moment:
    """A time: ISO 8601 for programs, and in words."""

    iso: str
    words: str


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did with an alert: a sentence, and when."""

    words: str
    at: Moment


@dataclass(frozen=True, slots=True)
class AlertLine:
    """One alert, in words. `venue` "" where it is about no single one."""

    id: str
    title: str
    meaning: str
    state: str
    tone: str
    venue: str
    bar_id: str
    cause: str
    sqlstate: str
    what_to_do: str
    seen: str
    since: Moment
    last: Moment
    episode: int
    operation_id: str
    acts: tuple[Act, ...]
    note: str
    runbook: str

    @property
    def path(self) -> str:
        """Return the address of its page."""
        return f"{LIST}/{self.id}"

    @property
    def is_firing(self) -> bool:
        """Return whether it can be acknowledged."""
        return self.state == "firing"

    @property
    def is_open(self) -> bool:
        """Return whether it can be resolved."""
        return self.state != "resolved"


@dataclass(frozen=True, slots=True)
class FateLine:
    """What became of the change that an alert is about: a sentence, and when that was written down, if it was."""

    words: str
    at: Moment | None


@dataclass(frozen=True, slots=True)
class ChannelLine:
    """How a channel fares. `since` is None for one that works, `last` where it never delivered anything."""

    name: str
    audience: str
    word: str
    tone: str
    fault: str
    since: Moment | None
    last: Moment | None


@dataclass(frozen=True, slots=True)
class DeliveryLine:
    """One message over one channel."""

    channel: str
    audience: str
    what: str
    word: str
    tone: str
    fault: str
    tries: str
    at: Moment


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of the filter. `count` None where it is not counted."""

    label: str
    path: str
    is_chosen: bool
    count: int | None


@dataclass(frozen=True, slots=True)
class AlertsView:
    """The list. `older` is the address of the next page, "" on the last; `is_first` whether this is the newest."""

    person: SignedIn
    alerts: tuple[AlertLine, ...]
    choices: tuple[Choice, ...]
    chosen: str
    channels: tuple[ChannelLine, ...]
    older: str = ""
    newest: str = ""
    one_bar: str = ""
    spooled: str = ""


@dataclass(frozen=True, slots=True)
class AlertView:
    """One alert with what was sent about it. `note`: what was typed and could not be kept.

    `fate` None: it is about no change.
    """

    person: SignedIn
    alert: AlertLine
    fate: FateLine | None
    deliveries: tuple[DeliveryLine, ...]
    notice: str = ""
    error: str = ""
    note: str = ""


def line(alert: StoredAlert) -> AlertLine:
    """Return one alert in words."""
    words = alert_words.KINDS.get(alert.kind)
    return AlertLine(
        id=str(alert.id),
        title=alert_words.title_of(alert.kind),
        meaning="" if words is None else words.meaning,
        state=alert.state,
        tone=_TONES[alert.state],
        venue=_venue(alert),
        bar_id="" if alert.bar_id is None else str(alert.bar_id),
        cause=alert_words.cause_of(alert.cause),
        sqlstate=alert.sqlstate or "",
        what_to_do=alert.what_to_do,
        seen=text("alerts.once") if alert.count == 1 else text("alerts.times", count=f"{alert.count:,}"),
        since=moment(alert.first_seen),
        last=moment(alert.last_seen),
        episode=alert.episode,
        operation_id="" if alert.operation_id is None else str(alert.operation_id),
        acts=tuple(_acts(alert)),
        note=text("note", note=alert.note) if alert.note else "",
        runbook=alert_words.runbook_path(alert.kind) if words is not None else "",
    )


def fate(found: Fate | None) -> FateLine | None:
    """Return what became of the change that an alert is about, in words."""
    return None if found is None else FateLine(found.text, None if found.at is None else moment(found.at))


def channel(found: ChannelHealth) -> ChannelLine:
    """Return how a channel fares, in words."""
    fails = found.failures > 0
    kind = "fails" if fails else "works" if found.delivered_at else "waiting"
    return ChannelLine(
        name=found.channel,
        audience=text(f"deliveries.{found.audience}"),
        word=text(f"channels.{kind}"),
        tone={"fails": "trouble", "works": "shown", "waiting": "off"}[kind],
        fault=alert_words.cause_of(found.fault) if fails and found.fault else "",
        since=None if found.failing_since is None else moment(found.failing_since),
        last=None if found.delivered_at is None else moment(found.delivered_at),
    )


def delivery(found: Delivery) -> DeliveryLine:
    """Return one message in words."""
    tries = text("deliveries.attempt") if found.attempts == 1 else text("deliveries.attempts", count=found.attempts)
    return DeliveryLine(
        channel=found.channel,
        audience=text(f"deliveries.{found.audience}"),
        what=text(f"deliveries.{found.notice}", number=found.number),
        word=text(f"deliveries.{found.state}"),
        tone={"delivered": "shown", "failed": "trouble"}.get(found.state, "trouble" if found.fault else "off"),
        fault="" if found.state == "delivered" or not found.fault else alert_words.cause_of(found.fault),
        tries=tries if found.attempts else "",
        at=moment(found.delivered_at or found.attempted_at or found.created_at),
    )


def moment(at: datetime) -> Moment:
    """Return a time for a page, in UTC."""
    at = at.astimezone(UTC)
    return Moment(at.isoformat(timespec="seconds"), f"{at:%d %b %Y, %H:%M} UTC")


def _venue(alert: StoredAlert) -> str:
    if alert.bar_id is None:
        return ""
    return alert.bar_name or text("alerts.gone", id=alert.bar_id)


def _acts(alert: StoredAlert) -> Sequence[Act]:
    acts = []
    if alert.acknowledged_at is not None:
        acts.append(
            Act(text("acknowledged", who=alert_words.who(alert.acknowledged_by)), moment(alert.acknowledged_at))
        )
    if alert.resolved_at is not None:
        acts.append(Act(text("resolved", who=alert_words.who(alert.resolved_by)), moment(alert.resolved_at)))
    return acts
