"""Steps of the story about what keeps the fields alike afterwards: guards, and below them the reconciler."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from mpesa_sync.demo import fleet, legacy, observer, venues
from mpesa_sync.demo.observer import Fields
from mpesa_sync.demo.stage import Stage
from mpesa_sync.demo.venues import Venue
from mpesa_sync.sync import guards
from mpesa_sync.sync.reconciler import Policy, Reconciler

_SCRIPT: Final = "old support script"
_STAFF_APP: Final = "old staff app"
_SWEEPER: Final = "reconciler"


async def guarded(stage: Stage) -> None:
    """G1, G2, G4: what an old program writes alone is put right in its own transaction, and it is known who wrote."""
    venue, standing = venues.NYALI, await _triggers(stage)
    stage.say(
        "So much for the past. Guards are triggers that keep the two fields alike from now on, whoever writes them. "
        "The demo has left them off, so that drift could be seen; an operator installs them:"
    )
    try:
        code, _ = await stage.command("guard", "install", "--yes")
        stage.check("exit code 0: they stand, and no bar had drifted before", code == 0)
        added = [trigger for trigger in await _triggers(stage) if trigger not in standing]
        stage.check(
            f"they are {len(added)} triggers, on both tables",
            {trigger.partition(".")[0] for trigger in added} == {"bars", "mpesa_credentials"},
        )
        await _healed(stage, venue)
        await _carried(stage, venue)
        stage.say("And they can go again, at any time:")
        await stage.command("guard", "remove", "--yes")
        stage.check("both tables have the triggers of before, and no other", await _triggers(stage) == standing)
        stage.check(
            "what they had written down is gone, too: nothing of them is left",
            not await stage.plain.fetchval(observer.GUARD_ROWS),
        )
    finally:
        await guards.remove(stage.database)


async def _healed(stage: Stage, venue: Venue) -> None:
    stage.say(f"A program that calls itself '{_SCRIPT}' hides M-Pesa at {venue.name}, which is on:")
    before = await stage.see(venue)
    async with legacy.program(stage.url, _SCRIPT) as script:
        transaction = await _in_one(script, legacy.support_script_sets(script, venue, False))
        user = await script.fetchval("select session_user")
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check(
        f"healed before anybody could see it: the script's own transaction, number {transaction}, left true",
        before.mpesa_enabled is True
        and after.values() == before.values()
        and after.transaction == transaction != before.transaction,
    )
    hit = (await stage.plain.fetch(observer.HITS, venue.id))[-1]
    stage.check(
        f"written down: {hit['kind']}, {hit['deed']} by the user {hit['who']}, program '{hit['program']}'",
        (hit["kind"], hit["deed"], hit["who"], hit["program"]) == ("healed", "UPDATE of bars", user, _SCRIPT)
        and (hit["previous"], hit["current"], hit["transaction"]) == (False, True, transaction),
    )


async def _carried(stage: Stage, venue: Venue) -> None:
    stage.say(f"The '{_STAFF_APP}' switches {venue.name} off, and writes is_active alone, as ever:")
    before = await stage.see(venue)
    async with legacy.program(stage.url, _STAFF_APP) as app:
        transaction = await _in_one(app, legacy.staff_app_switches(app, venue, False))
        after = await stage.see(venue)
        stage.show(venue, before, after)
        stage.check(
            "its decision was carried to the other field, in its own transaction: both say off",
            (after.mpesa_enabled, after.active, after.transaction) == (False, [], transaction)
            and after.credentials_transactions == (transaction,),
        )
        hit = (await stage.plain.fetch(observer.HITS, venue.id))[-1]
        stage.check(
            f"written down: {hit['kind']}, {hit['deed']}, program '{hit['program']}'",
            (hit["kind"], hit["program"], hit["transaction"]) == ("carried", _STAFF_APP, transaction),
        )
        await legacy.staff_app_switches(app, venue, True)
    again = await stage.see(venue)
    stage.check("on again, by the same program: both say on", again.mpesa_enabled is True and bool(again.active))


async def _in_one(program: Any, write: Awaitable[None]) -> str:
    """Do a write in a transaction of its own, and return which one that was."""
    async with program.transaction():
        await write
        return str(await program.fetchval(observer.THIS_TRANSACTION))


async def _triggers(stage: Stage) -> list[str]:
    return [record["trigger"] for record in await stage.plain.fetch(observer.TRIGGERS)]


async def reconciled(stage: Stage) -> None:
    """C: drift that no guard saw is found by a sweep over all bars, repaired, and written down."""
    hidden, exposed = venues.NYALI, venues.NJERI
    stage.say(
        "No guard stands now, as after a restore, or while somebody has switched the triggers off. A support script "
        "writes the customers' flag of two venues, and nothing heals it:"
    )
    try:
        before = {venue: await stage.see(venue) for venue in (hidden, exposed)}
        await legacy.support_script_sets(stage.plain, hidden, False)
        await legacy.support_script_sets(stage.plain, exposed, True)
        drifted = {venue: await stage.see(venue) for venue in before}
        for venue, fields in drifted.items():
            stage.show(venue, before[venue], fields)
        stage.check(
            "both have drifted, one in each direction",
            (drifted[hidden].drift, drifted[exposed].drift) == ("hidden", "exposed"),
        )
        await _swept(stage, drifted)
    finally:
        await fleet.remove(stage.plain)


async def _swept(stage: Stage, drifted: dict[Venue, Fields]) -> None:
    """Let the reconciler look at all bars, and see what it has found, repaired and written down."""
    stage.say(
        "Every mpesa-sync serve and worker looks at all bars again and again, in small slices: the reconciler. "
        "Told to repair, it makes one round now:"
    )
    bars = len(await observer.see_all(stage.plain))
    cycle = await Reconciler(stage.database).sweep(as_policy=Policy.REPAIR)
    stage.check(
        f"{bars} bars looked at, 1 hidden and 1 exposed found, 2 repaired",
        cycle is not None and (cycle.bars, cycle.hidden, cycle.exposed, cycle.repaired) == (bars, 1, 1, 2),
    )
    for venue, before in drifted.items():
        after = await stage.see(venue)
        stage.show(venue, before, after)
        stage.check(
            "mpesa_enabled follows is_active; credentials untouched",
            after.drift is None
            and (after.is_active, after.credentials_transactions)
            == (before.is_active, before.credentials_transactions),
        )
        audit = await stage.plain.fetchrow(observer.LAST_REPAIR, venue.id)
        stage.check(
            f"in the audit, by the same transaction: {audit['actor']}, '{audit['reason']}', "
            f"{audit['before']} {stage.narrator.arrow} {audit['after']}",
            (audit["actor"], audit["outcome"], audit["transaction"]) == (_SWEEPER, "applied", after.transaction)
            and audit["before"] != audit["after"],
        )
    left = [fields for fields in (await observer.see_all(stage.plain)).values() if fields.drift]
    again = await Reconciler(stage.database).sweep(as_policy=Policy.REPAIR)
    stage.check(
        f"one more round: {bars} bars, nothing to repair; and our own reading agrees",
        not left and again is not None and (again.bars, again.hidden + again.exposed) == (bars, 0),
    )
