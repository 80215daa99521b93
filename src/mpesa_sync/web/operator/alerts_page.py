"""Reads what the pages about alerts show, and puts it together. Writes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

from mpesa_sync.db import alerts, deliveries
from mpesa_sync.db.deliveries import ChannelHealth
from mpesa_sync.domain.inputs import bar_uuid
from mpesa_sync.identity.sessions import Session
from mpesa_sync.refusals import AlertNotFound
from mpesa_sync.sync import spool
from mpesa_sync.sync.alert_reading import Which, fate_of
from mpesa_sync.web import alert_view, cursor
from mpesa_sync.web.alert_view import AlertsView, AlertView, Choice
from mpesa_sync.web.context import Context
from mpesa_sync.web.operator_texts import text
from mpesa_sync.web.staff import session as staff

PAGE: Final = 25
"""How many alerts a page shows."""
_DONE: Final = {"acknowledged": "done.acknowledged", "resolved": "done.resolved"}


async def read(context: Context, session: Session, *, chosen: Which, bar: str = "", after: str = "") -> AlertsView:
    """Return a page of the list.

    Arguments:
        chosen: which alerts.
        bar: the id of a bar whose alerts are meant, "" for all.
        after: where the page begins, "" for the newest.
    Raises:
        InvalidInput: `bar` or `after` is not what a page of ours links to.
        DatabaseFault: it cannot be read.
    """
    bar_id = bar_uuid(bar, "bar") if bar else None
    before = cursor.position(after)
    async with context.database.reading() as connection:
        found = await alerts.page(connection, states=chosen.states, bar_id=bar_id, before=before, limit=PAGE + 1)
        counts = await alerts.counts(connection)
        channels = await deliveries.channels(connection)
    spooled = _spooled(await asyncio.to_thread(spool.waiting, context.database))
    following = cursor.after(found, limit=PAGE)
    return AlertsView(
        person=staff.signed_in(session),
        alerts=tuple(alert_view.line(alert) for alert in found[:PAGE]),
        choices=tuple(_choice(name, chosen, bar, counts) for name in Which),
        chosen=chosen,
        channels=tuple(alert_view.channel(channel) for channel in channels if _is_shown(channel)),
        older=_path(chosen, bar, following) if following else "",
        newest=_path(chosen, bar) if after else "",
        one_bar=_path(chosen) if bar else "",
        spooled=spooled,
    )


async def one(
    context: Context, session: Session, alert_id: UUID, *, done: str = "", error: str = "", note: str = ""
) -> AlertView:
    """Return the page of one alert.

    Arguments:
        done: the state that it was brought into, said where that is still so.
        error: why something could not be done.
        note: what was typed, to be shown again.
    Raises:
        AlertNotFound: there is none of this id.
        DatabaseFault: it cannot be read.
    """
    async with context.database.reading() as connection:
        alert = await alerts.find(connection, alert_id)
        if alert is None:
            raise AlertNotFound("There is no alert with this id.")
        fate, told = await fate_of(connection, alert), await deliveries.of_alert(connection, alert_id)
    return AlertView(
        person=staff.signed_in(session),
        alert=alert_view.line(alert),
        fate=alert_view.fate(fate),
        deliveries=tuple(alert_view.delivery(delivery) for delivery in told),
        notice=text(_DONE[done]) if done in _DONE and alert.state == done else "",
        error=error,
        note=note,
    )


def _is_shown(channel: ChannelHealth) -> bool:
    """Return whether the list shows a channel: of the owners' many, those that fail."""
    return channel.audience == "operators" or channel.failures > 0


def _spooled(waiting: int | None) -> str:
    if waiting is None:
        return text("alerts.spool_unread")
    return text("alerts.spooled", count=waiting) if waiting else ""


def _choice(name: Which, chosen: Which, bar: str, counts: Mapping[tuple[str, str], int]) -> Choice:
    """Return one choice of the filter; counted where all venues are shown."""
    count = sum(number for (_, state), number in counts.items() if state in name.states)
    return Choice(text(f"alerts.{name}"), _path(name, bar), name is chosen, None if bar else count)


def _path(chosen: str, bar: str = "", after: str = "") -> str:
    asked = {"state": chosen, "bar": bar, "after": after}
    return f"{alert_view.LIST}?{urlencode({name: value for name, value in asked.items() if value})}"
