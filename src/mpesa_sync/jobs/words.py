"""What operators are told about an alert, in plain words: the message that goes over their channels."""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime, timedelta, timezone
from typing import Final

from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.jobs.channels import Message
from mpesa_sync.sync import alert_words

NAIROBI: Final = timezone(timedelta(hours=3), "EAT")
"""East Africa Time, which knows no summer time: no database of zones is needed."""
_LONGEST_NAME: Final = 80
_LONGEST_NOTE: Final = 500
_SPACES: Final = re.compile(r"\s+")
_SLUG: Final = re.compile(r"[a-zA-Z0-9_-]{1,80}")


def moment(at: datetime) -> str:
    """Return a time as people in Nairobi write it, with its day: `24 Nov 2026, 21:40`."""
    local = at.astimezone(NAIROBI)
    return f"{local.day} {local:%b %Y, %H:%M}"


def clock_time(at: datetime, now: datetime) -> str:
    """Return `21:40`, with its day where that is not today."""
    local, today = at.astimezone(NAIROBI), now.astimezone(NAIROBI).date()
    return f"{local:%H:%M}" if local.date() == today else f"{local:%H:%M} on {local.day} {local:%b}"


def plain(text: str | None, *, longest: int = _LONGEST_NAME) -> str:
    """Return a text of others fit for a message: one line, no control characters, nothing that calls for people.

    Arguments:
        longest: how many characters are kept.
    """
    visible = "".join(
        " " if char.isspace() else char for char in text or "" if char.isspace() or unicodedata.category(char)[0] != "C"
    )
    one_line = _SPACES.sub(" ", visible).strip()[:longest]
    return re.sub(r"[@<>`*_|\[\]]", lambda found: _HARMLESS.get(found[0], ""), one_line) or "(no name)"


_HARMLESS: Final = {"@": "(at)", "<": "‹", ">": "›", "[": "(", "]": ")", "_": " "}
"""What chats read as a mention, a link or a format, and what stands in its place."""


def venue_of(alert: StoredAlert) -> str | None:
    """Return what the venue of an alert is called, None where it is about none."""
    if alert.bar_id is None:
        return None
    return plain(alert.bar_name) if alert.bar_name else f"a venue that is gone ({alert.bar_id})"


def for_operators(alert: StoredAlert, notice: str, number: int, public_url: str | None) -> Message:
    """Return the message about an alert as it is now.

    Arguments:
        notice: `raised`, `reminder` or `resolved`.
        number: of the reminder.
        public_url: the address of `serve` as people reach it; None: no links.
    """
    venue, kind = venue_of(alert), alert_words.title_of(alert.kind)
    at_venue = f"{kind}: {venue}" if venue else kind
    if alert.state == "resolved":
        title = f"Resolved: {at_venue}" if notice == "resolved" else f"Raised and resolved since: {at_venue}"
    else:
        title = f"Still open ({number}): {at_venue}" if notice == "reminder" else f"Alert: {at_venue}"
    lines = [alert_words.KINDS[alert.kind].meaning if alert.kind in alert_words.KINDS else kind]
    if venue:
        lines.append(f"Venue: {venue} ({_bar_of(alert)})")
    times = "once" if alert.count == 1 else f"{alert.count} times, last {moment(alert.last_seen)}"
    lines.append(f"Since {moment(alert.first_seen)} (Nairobi time), {times}.")
    if alert.episode > 1:
        lines.append(f"It has come up {alert.episode} times so far.")
    lines.append(
        f"Cause: {alert_words.cause_of(alert.cause)}" + (f" (SQLSTATE {alert.sqlstate})" if alert.sqlstate else "")
    )
    if alert.state == "resolved":
        lines.append(_end(alert))
    else:
        lines.append(f"What to do: {alert.what_to_do}")
    if public_url:
        base = public_url.rstrip("/")
        lines.append(f"The alert: {base}/operator/alerts/{alert.id}")
        lines.append(f"How to mend it: {base}{alert_words.runbook_path(alert.kind)}")
    else:
        lines.append(f"More: mpesa-sync alerts show {alert.id}")
    return Message(title, "\n".join(lines), is_over=alert.state == "resolved")


def _bar_of(alert: StoredAlert) -> str:
    """Return what names the venue in a command: its slug where that is an ordinary one, else its id."""
    slug = alert.bar_slug or ""
    return slug if _SLUG.fullmatch(slug) else str(alert.bar_id)


def _end(alert: StoredAlert) -> str:
    at = moment(alert.resolved_at) if alert.resolved_at else "some time ago"
    how = f" by {plain(alert_words.who(alert.resolved_by))}" if alert.resolved_by else ""
    return f"Resolved {at}{how}." + (f" Note: {plain(alert.note, longest=_LONGEST_NOTE)}" if alert.note else "")
