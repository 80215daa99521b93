"""Steps of the story about telling people: alerts delivered, acknowledged and resolved, and owners who hear of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from mpesa_sync.demo import legacy, venues
from mpesa_sync.demo.mailbox import Mailbox
from mpesa_sync.demo.stage import STAFF, Stage
from mpesa_sync.demo.venues import Venue
from mpesa_sync.errors import TransientFault, TriggerRefused
from mpesa_sync.jobs import worker
from mpesa_sync.jobs.pace import Pace
from mpesa_sync.settings import Settings
from mpesa_sync.sync import alert_actions, alert_words, venue_channels
from mpesa_sync.sync.alert_kinds import AlertKind

_OPERATOR: Final = "operator:odhiambo"
_WRITE: Final = "write_status"
_ALL_ATTEMPTS: Final = 4
_OFTEN: Final = Pace(look_every_s=0.5)


async def called(stage: Stage) -> None:
    """R5.1, R5.2: retries exhausted, an alert, delivered, acknowledged, and resolved by a verified success."""
    venue = venues.NJERI
    before = await stage.see(venue)
    stage.say("The operators' channel is a small HTTP server of this demo. A worker delivers, from the queue.")
    async with delivering(stage) as mailbox:
        async with stage.breakable() as (proxy, manager):
            proxy.cut_statement(_WRITE, after=True, times=_ALL_ATTEMPTS)
            error = await stage.refused(TransientFault, manager.sync_mpesa_status(venue.id, False, actor=STAFF))
        stage.check(
            f"{error.attempts} attempts failed, and nothing was changed",
            error.attempts == _ALL_ATTEMPTS and await stage.see(venue) == before,
        )
        alert_title = f"{alert_words.title_of(AlertKind.SYNC_FAILED)}: {venue.name}"
        await _shown(stage, mailbox, f"Alert: {alert_title}")
        alert = await _alert(stage, venue)
        stage.check(f"delivered once: the alert {alert['kind']} is {alert['state']}", alert["state"] == "firing")
        await alert_actions.acknowledge(stage.database, alert["id"], actor=_OPERATOR)
        stage.check(
            "an operator acknowledges it: it stays open, and has somebody who looks after it",
            (await _alert(stage, venue))["state"] == "acknowledged",
        )
        await stage.manager.sync_mpesa_status(venue.id, False, actor=STAFF)
        await stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF)
        stage.check(
            "the next success, read back from the database, resolved it",
            (await _alert(stage, venue))["state"] == "resolved",
        )
        await _shown(stage, mailbox, f"Resolved: {alert_title}")
        words = [message["title"].partition(":")[0] for message in mailbox.about(f": {alert_title}")]
        told = [word for word in words if word != "Raised and resolved since"]  # of an earlier step, with no worker
        stage.check("it was told exactly twice: that it began, and that it is over", told == ["Alert", "Resolved"])


async def called_at_once(stage: Stage) -> None:
    """R5.2: what trying again cannot mend alerts at once; the venue's owner hears of it in plain words."""
    venue = venues.NYALI
    stage.say(f"Now a fault that no retry can mend. The owner of {venue.name} has a channel of their own, too.")
    async with Mailbox() as owner, delivering(stage) as mailbox:
        await venue_channels.set_channel(stage.database, venue.id, owner.url, actor=_OPERATOR)
        await stage.manager.sync_mpesa_status(venue.id, False, actor=STAFF, reason="closed for the day")
        try:
            async with legacy.stock_taking(stage.plain):
                error = await stage.refused(
                    TriggerRefused, stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF)
                )
            stage.check("one attempt, and the alert at once", error.attempts == 1)
            stage.say("To the operators:")
            await _shown(stage, mailbox, f"Alert: The database refuses a change: {venue.name}")
            stage.say("To the owner:")
            told = await _shown(stage, owner, venue.name)
            stage.check(
                "the owner reads what customers see, since when, why, and what to do; and no code",
                "customers cannot see M-Pesa since" in told["message"]
                and "Do this:" in told["message"]
                and "P0001" not in told["message"],
            )
            await stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF)
            over = await _shown(stage, owner, "solved")
            stage.check("and hears when it is over", "is over" in over["message"])
        finally:
            await venue_channels.remove(stage.database, venue.id)


@asynccontextmanager
async def delivering(
    stage: Stage, *, show: Callable[[Mapping[str, str]], None] = lambda _message: None
) -> AsyncIterator[Mailbox]:
    """Run a worker whose one channel is the mailbox that is given; `show` is called with each message."""
    async with Mailbox(show=show) as mailbox:
        jobs = await worker.prepared(stage.database, stage.url, Settings(alert_urls=(mailbox.url,)), _OFTEN)
        async with worker.running(jobs):
            yield mailbox


async def _shown(stage: Stage, mailbox: Mailbox, title: str) -> Mapping[str, str]:
    """Wait for a message and show it as its reader gets it; those about earlier steps are passed over."""
    message = await mailbox.take(title)
    stage.narrator.say(message["title"], indent=6, first="> ", style="bold")
    for line in message["message"].splitlines():
        stage.narrator.say(line, indent=6, first="> ")
    return message


async def _alert(stage: Stage, venue: Venue) -> dict[str, Any]:
    return (await stage.alerts(venue))[0]
