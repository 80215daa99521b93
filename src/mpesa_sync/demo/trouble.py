"""Steps of the story about faults, each really made: a trigger, a cut connection, an answer that never comes."""

from __future__ import annotations

from typing import Final
from uuid import uuid4

from mpesa_sync.demo import legacy, observer, venues
from mpesa_sync.demo.proxy_link import Fault
from mpesa_sync.demo.stage import STAFF, Stage
from mpesa_sync.errors import TransientFault, TriggerRefused

_WRITE: Final = "write_status"
"""Part of the statement that writes the pair."""
_ALL_ATTEMPTS: Final = 4


async def rollback(stage: Stage) -> None:
    """R1.1, R5.3: a database error in the middle leaves neither field changed."""
    venue = venues.NYALI
    before = await stage.see(venue)
    stage.say(
        f"A trigger of the platform refuses to change the bars row of {venue.name}. When it speaks, the credentials "
        "row has been changed already, in the same transaction."
    )
    async with legacy.stock_taking(stage.plain):
        error = await stage.refused(
            TriggerRefused, stage.manager.sync_mpesa_status(venue.id, False, actor=STAFF, reason="closing")
        )
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("all of it was rolled back, the credentials too", after == before)
    stage.check("not retried, because trying again cannot help", error.attempts == 1)
    alert = (await stage.alerts(venue))[0]
    stage.check(
        f"an alert is open for a person: {alert['kind']}, SQLSTATE {alert['sqlstate']}",
        (alert["kind"], alert["state"]) == ("database_refused", "firing"),
    )
    stage.narrator.say(alert["what_to_do"], indent=6, first="what to do: ")
    stage.say("The trigger goes; staff switch off again, and on.")
    for on in (False, True):
        await stage.manager.sync_mpesa_status(venue.id, on, actor=STAFF)
    states = {found["state"] for found in await stage.alerts(venue)}
    stage.check("the verified success resolved the alert by itself", states == {"resolved"})


async def retried(stage: Stage) -> None:
    """R5.1: a transient fault is logged and retried, and nothing is half done in between."""
    venue = venues.NJERI
    before = await stage.see(venue)
    stage.say("The network drops the connection after both rows were written, before the commit. Three times.")
    heard = len(stage.events)
    async with stage.breakable() as (proxy, manager):
        proxy.cut_statement(_WRITE, after=True, times=_ALL_ATTEMPTS - 1)
        result = await manager.sync_mpesa_status(venue.id, True, actor=STAFF)
        cuts = proxy.fired[Fault.CUT_AFTER_STATEMENT]
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check(f"it was really cut {cuts} times, and the call succeeded", cuts == _ALL_ATTEMPTS - 1 and result.success)
    stage.check(f"in {result.attempts} attempts, three of which left nothing", result.attempts == _ALL_ATTEMPTS)
    logged = [event for event in stage.events[heard:] if event.get("operation_id") == str(result.operation_id)]
    names = [str(event["event"]) for event in logged]
    stage.check(
        f"logged: {names.count('sync.attempt')} attempts and one operation",
        names == ["sync.attempt"] * _ALL_ATTEMPTS + ["sync.operation"],
    )


async def answer_lost(stage: Stage) -> None:
    """R5.3: a commit whose answer is lost is settled by the operation id, and applied once."""
    venue, operation_id = venues.NJERI, uuid4()
    before = await stage.see(venue)
    stage.say("The commit reaches the server, and its answer gets lost on the way back. Done, or not done?")
    async with stage.breakable() as (proxy, manager):
        proxy.cut_after_commit()
        result = await manager.sync_mpesa_status(venue.id, False, actor=STAFF, operation_id=operation_id)
        cuts = proxy.fired[Fault.CUT_AFTER_COMMIT]
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check(f"the answer was really lost ({cuts} time)", cuts == 1)
    stage.say(f"The second attempt asks by the operation id, {operation_id}:")
    found = await stage.plain.fetchrow(observer.OPERATION, operation_id)
    stage.check(
        "it found it done, and did not do it again: applied once, by one transaction",
        (found["times"], found["outcome"]) == (1, "applied") and after.transaction == found["transaction"],
    )
    stage.check("the caller got the answer that was lost", result.success and result.changed and result.attempts == 2)
    digests = await stage.digests()
    await stage.manager.sync_mpesa_status(venue.id, False, actor=STAFF, operation_id=operation_id)
    stage.check("asked once more under the same id: same answer, nothing written", await stage.digests() == digests)


async def exhausted(stage: Stage) -> None:
    """R5.1, R5.2: when every retry fails, nothing is changed and a person is called."""
    venue = venues.NJERI
    before = await stage.see(venue)
    stage.say(f"Now the connection drops every time: the first attempt and all {_ALL_ATTEMPTS - 1} retries.")
    async with stage.breakable() as (proxy, manager):
        proxy.cut_statement(_WRITE, after=True, times=_ALL_ATTEMPTS)
        error = await stage.refused(TransientFault, manager.sync_mpesa_status(venue.id, True, actor=STAFF))
        cuts = proxy.fired[Fault.CUT_AFTER_STATEMENT]
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check(f"{error.attempts} attempts, {cuts} cuts, and no more", error.attempts == cuts == _ALL_ATTEMPTS)
    stage.check("nothing was changed", after == before)
    alert = (await stage.alerts(venue))[0]
    stage.check(
        f"an alert is open for a person: {alert['kind']}", (alert["kind"], alert["state"]) == ("sync_failed", "firing")
    )
    await stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF)
    states = {found["state"] for found in await stage.alerts(venue)}
    stage.check("with the network back, the next success resolved it", states == {"resolved"})
