"""Steps of the story about one bar: switching on and off, environments, refusals, saving with a status."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final

from mpesa_sync.db import detection
from mpesa_sync.demo import legacy, observer, venues
from mpesa_sync.demo.stage import STAFF, Stage
from mpesa_sync.demo.venues import Sealed, Venue
from mpesa_sync.domain import availability
from mpesa_sync.domain.availability import Reason
from mpesa_sync.errors import (
    AmbiguousEnvironment,
    CredentialsMissing,
    CredentialsUnusable,
    MpesaSyncError,
)

_CLIENTS: Final = 4
_SWITCHES: Final = 10


async def switch_on(stage: Stage) -> None:
    """R1.2: one call sets both fields true."""
    venue = venues.NJERI
    before = await stage.see(venue)
    stage.say(f"Staff of {venue.name} switch M-Pesa on: one call of sync_mpesa_status.")
    result = await stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF)
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("both fields say: on", after.mpesa_enabled is True and after.active == ["production"])
    same = {after.transaction, *after.credentials_transactions}
    stage.check(f"one transaction, number {after.transaction}, wrote both rows", len(same) == 1)
    stage.check(
        "the answer was read back from the database: stored in both places",
        result.credentials_updated and result.bar_status_updated and result.changed,
    )
    found = await stage.plain.fetchrow(observer.OPERATION, result.operation_id)
    stage.check(
        f"written down in that same transaction: who ({found['actor']}), before, after",
        (found["actor"], found["before"], found["after"]) == (STAFF, "false", "true")
        and found["transaction"] == after.transaction,
    )


async def switch_off(stage: Stage) -> None:
    """R1.3: one call sets both fields false."""
    venue = venues.NJERI
    before = await stage.see(venue)
    stage.say("And off again. Switching off needs no secrets and no key.")
    await stage.manager.sync_mpesa_status(venue.id, False, actor=STAFF)
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("both fields say: off", after.mpesa_enabled is False and not after.active)
    stage.check("one transaction wrote both rows", {after.transaction} == set(after.credentials_transactions))
    digests = await stage.digests()
    again = await stage.manager.sync_mpesa_status(venue.id, False, actor=STAFF)
    unchanged = (await stage.digests())["public.bars"] == digests["public.bars"]
    stage.check("off once more: nothing is written, and the answer is still read back", not again.changed and unchanged)


async def two_environments(stage: Stage) -> None:
    """R1: exactly one environment is active after a switch-on."""
    venue, manager = venues.KISUMU, stage.manager
    before = await stage.see(venue)
    stage.say(f"{venue.name} has sandbox and production credentials. Nothing says which of them is meant:")
    await stage.refused(AmbiguousEnvironment, manager.sync_mpesa_status(venue.id, True, actor=STAFF))
    stage.say("With the environment named:")
    await manager.sync_mpesa_status(venue.id, True, environment="production", actor=STAFF)
    production = await stage.see(venue)
    stage.show(venue, before, production)
    await manager.sync_mpesa_status(venue.id, True, environment="sandbox", actor=STAFF)
    sandbox = await stage.see(venue)
    stage.show(venue, production, sandbox)
    stage.check(
        "exactly the named environment is active, the other is cleared",
        (production.active, sandbox.active) == (["production"], ["sandbox"]),
    )
    await manager.sync_mpesa_status(venue.id, False, actor=STAFF)
    off = await stage.see(venue)
    stage.check("switching off clears every environment", not off.active and off.mpesa_enabled is False)
    back = await manager.sync_mpesa_status(venue.id, True, actor=STAFF)
    stage.check("on again, unnamed: the one that was active last", back.environment == "sandbox")
    await manager.sync_mpesa_status(venue.id, True, environment="production", actor=STAFF)


async def refused(stage: Stage) -> None:
    """R1: without usable credentials a switch-on is refused, never "successful"."""
    before = await stage.digests()
    cases: tuple[tuple[Venue, type[MpesaSyncError]], ...] = (
        (venues.MAASAI, CredentialsMissing),
        (venues.RIFT, CredentialsUnusable),
        (venues.LAMU, CredentialsUnusable),
        (venues.KENYA, CredentialsUnusable),
    )
    for venue, expected in cases:
        stage.say(f"{venue.name} ({venue.state}):")
        await stage.refused(expected, stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF))
    after = await stage.digests()
    stage.check(
        "both tables are untouched (digest of every row, before and after)",
        all(before[name] == after[name] for name in ("public.bars", "public.mpesa_credentials")),
    )
    stage.check(
        "no alert for a missing or a mistyped secret: that is the caller's to mend",
        not await stage.alerts(venues.MAASAI) and not await stage.alerts(venues.KENYA),
    )
    alert = (await stage.alerts(venues.RIFT))[0]
    stage.check("but an alert where no key opens the secrets", alert["kind"] == "secrets_unreadable")


async def credentials_while_off(stage: Stage) -> None:
    """R3.4: credentials that exist while the status is off do not show M-Pesa."""
    venue = venues.NJERI
    before = await stage.see(venue)
    stage.say(f"{venue.name} has good credentials and is switched off. Is that drift?")
    found = await stage.manager.validate_sync(venue.id)
    stage.check("no: both fields agree", found.is_consistent and not found.credentials_active)
    repaired = await stage.manager.repair_inconsistency(venue.id, actor=STAFF)
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("a repair leaves it off", not repaired.repaired and after == before)
    async with stage.database.reading() as connection:
        named = await detection.facts_of(connection, venue.id)
    reason = availability.hidden_reason(named.facts, allow_sandbox=True) if named else None
    stage.check(f"the rule offers customers no M-Pesa; the reason for staff: {reason}", reason is Reason.SWITCHED_OFF)


async def save_with_status(stage: Stage) -> None:
    """R1.4: saving credentials with a status is one transaction, the caller's."""
    venue, plain = venues.NJERI, stage.plain
    before = await stage.see(venue)
    blobs = venues.stored_secrets(stage.database.keys, Sealed.GOOD)
    stage.say("A settings service saves new secrets and switches on, all in a transaction of its own.")
    transaction = plain.transaction(isolation="read_committed")
    await transaction.start()
    try:
        await _save_and_switch(stage, venue, blobs)
    finally:
        await transaction.rollback()
    after = await stage.see(venue)
    stage.check("rolled back by the caller: nothing is left of either", after == before)
    async with plain.transaction(isolation="read_committed"):
        await _save_and_switch(stage, venue, blobs)
        async with stage.database.reading() as outside:
            seen = await observer.see(outside, venue.id)
        stage.check("before the commit nobody else sees any of it", seen == before)
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("after the commit: new secrets, and both fields on", after.mpesa_enabled is True and after.active)
    await stage.manager.sync_mpesa_status(venue.id, False, actor=STAFF)


async def _save_and_switch(stage: Stage, venue: Venue, blobs: list[bytes]) -> None:
    await stage.plain.execute(legacy.NEW_SECRETS, venue.id, *blobs)
    await stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF, connection=stage.plain)


async def many_at_once(stage: Stage) -> None:
    """R1.1, R5.3: under concurrent switches no reader ever sees one field without the other."""
    venue = venues.NYALI
    stage.say(
        f"{_CLIENTS} people switch {venue.name} on and off at the same time, {_CLIENTS * _SWITCHES} times in all."
    )
    before, seen = await stage.see(venue), Counter[str]()

    async def person(number: int) -> None:
        for turn in range(_SWITCHES):
            await stage.manager.sync_mpesa_status(venue.id, (number + turn) % 2 == 0, actor=f"staff:{number}")

    people = asyncio.gather(*(person(number) for number in range(_CLIENTS)))
    while not people.done():
        fields = await stage.see(venue)
        seen["torn" if fields.drift else "on" if fields.active else "off"] += 1
        await asyncio.sleep(0)
    await people
    stage.check(
        f"{seen.total()} reads meanwhile, each of one moment: {_times(seen)}", seen.total() and not seen["torn"]
    )
    await stage.manager.sync_mpesa_status(venue.id, True, actor=STAFF)
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("in the end both fields say: on", after.mpesa_enabled is True and after.active == ["production"])


def _times(seen: Counter[str]) -> str:
    counted: dict[str, Any] = {"on": seen["on"], "off": seen["off"], "in between": seen["torn"]}
    return ", ".join(f"{number} {word}" for word, number in counted.items())
