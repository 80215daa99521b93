"""`Delivery`: sends what is due over one channel, one message after the other, and writes down what became of it.

At least once: a message counts as delivered only after its channel has taken it; where a program dies between the two
it is sent again, once the claim on it has ended. Nothing that it meets leaves it, and so nothing of a channel gets into
the queue's log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from mpesa_sync.crypto import cipher
from mpesa_sync.db import alerts, deliveries, history, session, transaction, venue_channels
from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.db.deliveries import FAILING_FROM, Pending
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.availability import Reason
from mpesa_sync.errors import KmsKeyError
from mpesa_sync.jobs import failing, owner_words, words
from mpesa_sync.jobs.channels import UNREADABLE, VENUE_GONE, Message, Sender
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.live import offers
from mpesa_sync.live.offers import Judge, Known
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.secret import Secret
from mpesa_sync.sync.alert_kinds import AlertKind

_log: Final = logs.get("jobs")


@dataclass(frozen=True, slots=True)
class Delivery:
    """Sends messages about alerts.

    What it writes down, it locks in this order: a channel, alerts, messages; as `look` does.

    Arguments:
        channels: the operators' channels, by name.
        public_url: the address of `serve` as people reach it; None: messages hold no links.
        is_stopping: whether the program is about to end, so that no further message is begun.
    """

    database: Database
    sender: Sender
    channels: Mapping[str, Secret]
    public_url: str | None
    pace: Pace
    is_stopping: Callable[[], bool]
    judge: Judge = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "judge", Judge(self.database.keys, self.database.allow_sandbox))

    async def over(self, audience: str, channel: str) -> None:
        """Send what is due over a channel until nothing is, or a message fails.

        Raises:
            DatabaseFault, SchemaError: what was not written down is sent again later.
        """
        if audience == "operators" and channel not in self.channels:
            return  # a job of a program with other channels, whose next look makes it anew
        within = timedelta(seconds=self.pace.send_limit_s + self.pace.claim_margin_s)

        async def claim(connection: Any) -> tuple[Pending, StoredAlert] | None:
            pending = await deliveries.claim(connection, audience, channel, within=within)
            alert = None if pending is None else await alerts.find(connection, pending.alert_id)
            return None if pending is None or alert is None else (pending, alert)

        while not self.is_stopping():
            claimed = await self._write(claim)
            if claimed is None or not await self._one(*claimed):
                return

    async def _one(self, pending: Pending, alert: StoredAlert) -> bool:
        """Deal with one message; return whether another may follow."""
        if _is_pointless(pending, alert):
            await self._write(lambda connection: deliveries.drop(connection, pending))
            return True
        url: Secret | str
        if pending.audience == "operators":
            url = self.channels[pending.channel]
            message = words.for_operators(alert, pending.notice, pending.number, self.public_url)
        else:
            found = await self._owners(pending, alert)
            if found is None:
                await self._write(lambda connection: deliveries.drop(connection, pending))
                return True
            url, message = found
        began = self.database.clock.monotonic()
        fault = url if isinstance(url, str) else await self.sender.send(pending.channel, url, message)
        if fault is not None and self.sender.is_closed:
            await self._write(lambda connection: deliveries.release(connection, pending))
            return False  # the program ends; whether it was taken nobody knows, so it is sent again
        metrics.alert_delivery_seconds.observe(self.database.clock.monotonic() - began)
        if fault is None:
            await self._delivered(pending, alert)
            return True
        await self._failed(pending, fault)
        return False

    async def _owners(self, pending: Pending, alert: StoredAlert) -> tuple[Secret | str, Message] | None:
        """Return the URL, or a fault, and the text for a venue's owner; None: it need not be sent this way any more."""
        assert alert.bar_id is not None
        async with self.database.reading() as connection:
            set_ = await venue_channels.read(connection, alert.bar_id)
            last = await history.last_change(connection, alert.bar_id)
        known = (await offers.read(self.database, self.judge, [alert.bar_id])).get(alert.bar_id)
        if known is None:  # kept as failed, so that no look makes it anew
            await self._write(lambda connection: deliveries.abandon(connection, pending, VENUE_GONE))
        if set_ is None or set_.channel != pending.channel or known is None:
            return None
        now = self.database.clock.now()
        if pending.notice == "resolved":
            message = owner_words.resolved(alert, known.reason, now=now, public_url=self.public_url)
        else:
            since = last.at if last is not None and _is_by_switch(known) else alert.first_seen
            message = owner_words.raised(alert, known.reason, since=since, now=now, public_url=self.public_url)
        try:
            return cipher.open_stored(self.database.keys, set_.url).secret, message
        except KmsKeyError:
            return UNREADABLE, message

    async def _delivered(self, pending: Pending, alert: StoredAlert) -> None:
        is_end = alert.state == "resolved"

        async def work(connection: Any) -> None:
            failures = await deliveries.channel_did(connection, pending.audience, pending.channel)
            if failures >= FAILING_FROM:
                await failing.settle(connection, by=f"channel:{pending.channel}")
            await deliveries.delivered(
                connection, pending, end_is_told=is_end and pending.notice == "raised", works_again=failures > 0
            )

        await self._write(work)
        metrics.alert_deliveries.labels("delivered").inc()
        _log.info(Event.ALERT_DELIVERED, **_facts(pending))

    async def _failed(self, pending: Pending, fault: str) -> None:
        again_in = self.pace.again_in(pending.attempts + 1)
        give_up_after = timedelta(seconds=self.pace.give_up_after_s)

        async def work(connection: Any) -> int:
            failures = await deliveries.channel_failed(connection, pending.audience, pending.channel, fault)
            if failures >= FAILING_FROM:
                await failing.count(connection, now=self.database.clock.now())
            await deliveries.failed(connection, pending, fault, again_in=again_in, give_up_after=give_up_after)
            return failures

        failures = await self._write(work)
        metrics.alert_deliveries.labels(fault).inc()
        _log.warning(
            Event.ALERT_DELIVERY_FAILED, fault=fault, again_in_s=round(again_in.total_seconds(), 1), **_facts(pending)
        )
        if failures == FAILING_FROM:
            metrics.alerts.labels(AlertKind.CHANNEL_FAILING).inc()
            _log.error(Event.ALERT_RAISED, kind=AlertKind.CHANNEL_FAILING, cause=fault, channel=pending.channel)

    async def _write(self, work: Callable[[Any], Awaitable[Any]]) -> Any:
        return await transaction.once(self.database, session.WRITE, work)


def _is_pointless(pending: Pending, alert: StoredAlert) -> bool:
    """Return whether nobody needs this message any more: it has been overtaken by what people did."""
    if pending.notice == "reminder":
        return alert.state != "firing"
    # An owner who tried again and succeeded needs no message about what went wrong before.
    return pending.notice == "raised" and pending.audience == "owner" and alert.state == "resolved"


def _is_by_switch(known: Known) -> bool:
    """Return whether it was a change through us that made customers not see M-Pesa, so that its time is known."""
    return known.reason is Reason.SWITCHED_OFF


def _facts(pending: Pending) -> dict[str, str | int | UUID]:
    return {
        "channel": pending.channel,
        "audience": pending.audience,
        "alert_id": str(pending.alert_id),
        "notice": pending.notice,
        "attempt": pending.attempts + 1,
    }
