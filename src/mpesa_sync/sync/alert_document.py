"""An alert as programs read it, over HTTP and from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.db.deliveries import Delivery
from mpesa_sync.sync import alert_words
from mpesa_sync.sync.alert_reading import Fate


class Venue(msgspec.Struct, frozen=True):
    """The bar that an alert is about. `name` and `slug` are null for one that is gone."""

    id: UUID
    name: str | None
    slug: str | None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One episode of an alert. `bar` null: it is about no single one.

    `state`: `firing`, `acknowledged` or `resolved`. `cause` is a code, `cause_text` the same in words. `runbook` is a
    path on the site that `serve` serves.
    """

    id: UUID
    bar: Venue | None
    kind: str
    title: str
    state: str
    cause: str
    cause_text: str
    sqlstate: str | None
    what_to_do: str
    runbook: str
    operation_id: UUID | None
    count: int
    episode: int
    first_seen: datetime
    last_seen: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    resolved_at: datetime | None
    resolved_by: str | None
    note: str


class AlertDetail(Alert, frozen=True, kw_only=True):
    """One alert with what became of the change that it is about, and the messages sent about it, the oldest first.

    `operation` null: it is about no change.
    """

    operation: Fate | None
    deliveries: list[Delivery]


def document(alert: StoredAlert) -> Alert:
    """Return an alert."""
    return Alert(**_members(alert))


def detail(alert: StoredAlert, fate: Fate | None, told: Sequence[Delivery]) -> AlertDetail:
    """Return an alert with what became of its change and what was sent about it."""
    return AlertDetail(**_members(alert), operation=fate, deliveries=list(told))


def _members(alert: StoredAlert) -> dict[str, Any]:
    words = {
        "bar": None if alert.bar_id is None else Venue(alert.bar_id, alert.bar_name, alert.bar_slug),
        "title": alert_words.title_of(alert.kind),
        "cause_text": alert_words.cause_of(alert.cause),
        "runbook": alert_words.runbook_path(alert.kind),
    }
    return words | {name: getattr(alert, name) for name in Alert.__struct_fields__ if name not in words}
