"""How alerts are printed: as lines for people, and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from mpesa_sync.cli import output
from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.db.deliveries import Delivery
from mpesa_sync.sync import alert_words
from mpesa_sync.sync.alert_document import Alert
from mpesa_sync.sync.alert_reading import Fate

_ID_DIGITS = 8
_NAME = 28


class AlertList(msgspec.Struct, frozen=True):
    """The object of `alerts list --json`. `more`: the limit left some out.

    `spooled`: how many wait in files of this machine; null: their folder cannot be read.
    """

    alerts: list[Alert]
    more: bool
    spooled: int | None


def lines(alerts: Sequence[StoredAlert], *, nothing: str) -> Iterator[str]:
    """Return a table of alerts; `nothing` where there is none."""
    if not alerts:
        yield nothing
        return
    rows = [("ID", "STATE", "LAST SEEN", "COUNT", "VENUE", "WHAT")]
    for one in alerts:
        what = alert_words.title_of(one.kind)
        rows.append((_short(one), one.state, output.moment(one.last_seen), f"{one.count:,}", _venue(one, _NAME), what))
    yield from output.table(rows, indent=0)


def line_of(alert: StoredAlert) -> str:
    """Return one alert in one line."""
    return f"{_short(alert)}, {alert_words.title_of(alert.kind)} ({_venue(alert, 80)})"


def shown(
    alert: StoredAlert, fate: Fate | None, deliveries: Sequence[Delivery], *, public_url: str | None
) -> Iterator[str]:
    """Return all that is known of one alert.

    Arguments:
        fate: what became of the change that it is about, None where it is about none.
        deliveries: what was sent about it, the oldest first.
        public_url: the address of `serve`, for the link into the runbook; None: the path alone.
    """
    yield f"{alert_words.title_of(alert.kind)} ({alert.kind})"
    yield from output.labelled("State", f"{alert.state}, episode {alert.episode}")
    yield from output.labelled("Venue", _venue(alert, 200))
    seen = "once" if alert.count == 1 else f"{alert.count:,} times"
    since = f"{seen}, since {output.moment(alert.first_seen)}, last {output.moment(alert.last_seen)}"
    yield from output.labelled("Seen", since)
    yield from output.labelled("Cause", f"{alert_words.cause_of(alert.cause)} ({alert.cause})")
    yield from output.labelled("SQLSTATE", alert.sqlstate or "none")
    if alert.operation_id is not None:
        yield from output.labelled("Operation", str(alert.operation_id))
    if fate is not None:
        at = f", {output.moment(fate.at)}" if fate.at else ""
        yield from output.labelled("", f"{fate.outcome}{at}: {fate.text}")
    yield from output.labelled("What to do", alert.what_to_do)
    yield from output.labelled("Runbook", f"{(public_url or '').rstrip('/')}{alert_words.runbook_path(alert.kind)}")
    if alert.acknowledged_at is not None:
        taken_on_by = alert_words.who(alert.acknowledged_by)
        yield from output.labelled("Taken on", f"{output.moment(alert.acknowledged_at)} by {taken_on_by}")
    if alert.resolved_at is not None:
        resolved_by = alert_words.who(alert.resolved_by)
        yield from output.labelled("Resolved", f"{output.moment(alert.resolved_at)} by {resolved_by}")
    if alert.note:
        yield from output.labelled("Note", alert.note)
    yield from output.labelled("Id", str(alert.id))
    yield from _told(deliveries)


def _told(deliveries: Sequence[Delivery]) -> Iterator[str]:
    if not deliveries:
        yield from output.labelled("Told", "nobody yet")
        return
    rows = [("TOLD", "WHAT", "CHANNEL", "STATE", "TRIES", "FAULT")]
    for one in deliveries:
        at = output.moment(one.delivered_at or one.attempted_at or one.created_at)
        what = f"{one.notice} {one.number}" if one.notice == "reminder" else one.notice
        channel = one.channel if one.audience == "operators" else f"{one.channel} (owner)"
        rows.append((at, what, channel, one.state, str(one.attempts), one.fault or "-"))
    yield ""
    yield from output.table(rows, indent=0)


def _short(alert: StoredAlert) -> str:
    return str(alert.id)[:_ID_DIGITS]


def _venue(alert: StoredAlert, longest: int) -> str:
    if alert.bar_id is None:
        return "-"
    if alert.bar_name is None:
        return f"{alert.bar_id}, which is gone"
    return output.shortened(alert.bar_slug or alert.bar_name, longest)
