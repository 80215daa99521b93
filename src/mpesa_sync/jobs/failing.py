"""The one alert about channels that fail: it names all of them, and ends when none fails any more (R5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from mpesa_sync.db import alerts, failing_channels
from mpesa_sync.db.alerts import Occurrence
from mpesa_sync.db.failing_channels import FailingChannel
from mpesa_sync.settings import ALERT_URLS
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alert_words import SEVERAL

_MOST: Final = 40
"""Channels that a text names: there may be one for every venue, and all of them fail where the way out is cut."""


async def count(connection: Any, *, now: datetime) -> None:
    """Open the alert, or count once more, in the transaction that writes down the failure of a channel."""
    cause, what_to_do = await _words(connection)
    seen = Occurrence(
        id=uuid4(),
        bar_id=None,
        kind=AlertKind.CHANNEL_FAILING,
        cause=cause,
        sqlstate=None,
        what_to_do=what_to_do,
        operation_id=None,
        first_seen=now,
        last_seen=now,
    )
    await alerts.count_occurrence(connection, seen)


async def settle(connection: Any, *, by: str) -> None:
    """Resolve the alert where no channel fails any more; else have it name those that do.

    An alert that somebody holds stays as it is: every look does it again.

    Arguments:
        by: what resolves it.
    """
    if await failing_channels.count(connection):
        cause, what_to_do = await _words(connection)
        await failing_channels.some_fail(connection, what_to_do, cause)
    else:
        await failing_channels.none_fails(connection, by=by)


async def _words(connection: Any) -> tuple[str, str]:
    found = await failing_channels.read(connection, limit=_MOST)
    more = await failing_channels.count(connection) - len(found)
    causes = {channel.fault for channel in found}
    return (causes.pop() if len(causes) == 1 else SEVERAL), what_to_do(found, more=max(0, more))


def what_to_do(failing: Sequence[FailingChannel], *, more: int = 0) -> str:
    """Return what stands in the alert: every channel by its short name, and what mends it.

    Arguments:
        failing: the channels, those of the operators first.
        more: how many fail beside them.
    """
    ours = [channel for channel in failing if channel.audience == "operators"]
    said = [_failed(channel) for channel in ours]
    if ours:
        which = "its URL" if len(ours) == 1 else "their URLs"
        said.append(f"Check {which} in {ALERT_URLS}: 'mpesa-sync alerts test' tries every channel.")
    for channel in failing:
        if channel.audience == "owner":
            said.append(_failed(channel))
            bars = ", ".join(f"'mpesa-sync alerts channel {bar} --set'" for bar in channel.bars)
            said.append(f"Have the venue check it, and set it anew: {bars}." if bars else "It is set no more.")
    if more:
        said.append(f"And {more} more: /operator/alerts shows how the channels fare.")
    return " ".join(said)


def _failed(channel: FailingChannel) -> str:
    whose = " of a venue's owner" if channel.audience == "owner" else ""
    fault = f" ({channel.fault})" if channel.fault else ""
    return f"The channel {channel.channel}{whose} has failed {channel.failures} times in a row{fault}."
