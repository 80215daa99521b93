"""Steps of the story about history: drift found, a dry run, one bar repaired, a migration and what it could not do."""

from __future__ import annotations

import json
from typing import Any, Final
from uuid import UUID

from mpesa_sync.demo import legacy, observer, venues
from mpesa_sync.demo.stage import STAFF, Stage
from mpesa_sync.migration.service import MpesaMigrationService

_REASON: Final = "sample migration"


async def drift_found(stage: Stage) -> None:
    """R2.1: every drifted bar is found, in both directions, and nothing else."""
    plain = stage.plain
    stage.say(f"Other programs write one field alone. The old staff app switches {venues.NJERI.name} off:")
    njeri, kisumu = await stage.see(venues.NJERI), await stage.see(venues.KISUMU)
    await legacy.staff_app_switches(plain, venues.NJERI, False)
    stage.show(venues.NJERI, njeri, await stage.see(venues.NJERI))
    stage.say(f"A support script hides M-Pesa at {venues.KISUMU.name}, which is on:")
    await legacy.support_script_sets(plain, venues.KISUMU, False)
    stage.show(venues.KISUMU, kisumu, await stage.see(venues.KISUMU))
    found = await stage.manager.validate_sync(venues.NJERI.id)
    stage.check("validate_sync calls the first exposed: a dead button", found.direction == "exposed")
    found = await stage.manager.validate_sync(venues.KISUMU.id)
    stage.check("and the second hidden: lost sales", found.direction == "hidden")
    stage.say("All bars, by find_inconsistent_records:")
    service = MpesaMigrationService(stage.database)
    listed = {record.bar_id: record.direction async for record in service.find_inconsistent_records()}
    seen = await observer.see_all(plain)
    expected = {bar_id: fields.drift for bar_id, fields in seen.items() if fields.drift}
    names = {venue.id: venue.name for venue in venues.VENUES}
    for bar_id, direction in sorted(listed.items(), key=lambda item: names[item[0]]):
        stage.narrator.line(f"      {direction:<9}{names[bar_id]}")
    both = set(listed.values()) == {"hidden", "exposed"}
    stage.check(f"of {len(seen)} bars exactly the {len(listed)} drifted ones were found", listed == expected and both)


async def dry_run(stage: Stage) -> None:
    """R2.1, T5.1: a dry run finds the same and changes nothing; the database forbids it to."""
    before = await stage.digests()
    drifted = sum(fields.drift is not None for fields in (await observer.see_all(stage.plain)).values())
    code, lines = await stage.command("migrate", "--dry-run")
    after = await stage.digests()
    for name, digest in after.items():
        stage.narrator.line(f"      {name:<28}{before[name][:12]}  {digest[:12]}", "dim")
    stage.check("every table of both schemas is the same, before and after (digests above)", before == after)
    stage.check("exit code 2: there is drift", code == 2)
    stage.check(f"it announced {drifted} corrections", f"{drifted} bars would be corrected" in lines[0])


async def one_repair(stage: Stage) -> None:
    """R5.4: where the two fields disagree, is_active wins."""
    venue = venues.BARAKA
    before = await stage.see(venue)
    stage.say(f"One bar by hand: {venue.name} is switched on, and its customers do not see it.")
    result = await stage.manager.repair_inconsistency(venue.id, actor=STAFF)
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("mpesa_enabled was corrected to is_active", result.repaired and after.mpesa_enabled is True)
    stage.check(
        "is_active was not touched: same value, same transaction as before",
        (after.is_active, after.credentials_transactions) == (before.is_active, before.credentials_transactions),
    )


async def poisoned(stage: Stage) -> None:
    """R2.4: one bad record never stops the others."""
    venue = venues.JUA_KALI
    stage.say(
        f"A check of the platform's wants one payment method for every bar. {venue.name} takes nothing but M-Pesa, "
        "so switching its flag off is refused: a poisoned record."
    )
    before = await observer.see_all(stage.plain)
    drifted = [bar_id for bar_id, fields in before.items() if fields.drift]
    async with legacy.at_least_one_method(stage.plain):
        code, lines = await stage.command("migrate", "--yes", "--json", "--reason", _REASON)
    report, after = json.loads(lines[-1]), await observer.see_all(stage.plain)
    for other in venues.VENUES:
        if before[other.id].drift:
            stage.show(other, before[other.id], after[other.id])
    stage.check("exit code 3: finished, with quarantined records", code == 3)
    stage.check(
        f"{report['fixed']} corrected and verified, {report['quarantined']} quarantined",
        (report["fixed"], report["quarantined"], report["verified"]) == (len(drifted) - 1, 1, True),
    )
    stage.check("the counts add up", _adds_up(report))
    stage.check(f"{venue.name} is as it was", after[venue.id] == before[venue.id])
    stage.check(
        "every other bar: mpesa_enabled is what is_active was; credentials untouched",
        all(_corrected(before[bar_id], after[bar_id]) for bar_id in before if bar_id != venue.id),
    )
    journal = await stage.plain.fetch(observer.CHANGED, UUID(report["run"]))
    stage.check(f"the journal holds {len(journal)} changes, one for each", len(journal) == report["fixed"])
    kept = await stage.plain.fetch(observer.QUARANTINE)
    stage.say(f"Kept in the quarantine, until its cause is removed: {venue.name}, SQLSTATE {kept[0]['sqlstate']}:")
    stage.narrator.say(f'"{kept[0]["message"]}"', indent=6, style="yellow")
    stage.check("nothing else is in it", [record["bar_id"] for record in kept] == [venue.id])


async def quarantine_retried(stage: Stage) -> None:
    """R2.4: once the cause is removed, what was set aside is corrected, too."""
    venue, before = venues.JUA_KALI, await stage.see(venues.JUA_KALI)
    stage.check(f"{venue.name} is {before.drift} still: a dead button", before.drift == "exposed")
    stage.say("The cause is removed: the platform drops its check. What stands in the quarantine, once more:")
    code, lines = await stage.command("migrate", "quarantine", "retry", "--yes", "--reason", _REASON)
    after = await stage.see(venue)
    stage.show(venue, before, after)
    stage.check("exit code 0: corrected, verified", code == 0 and lines[0].startswith("Done"))
    stage.check("mpesa_enabled is what is_active was; credentials untouched", _corrected(before, after))
    stage.check("the quarantine is empty", not await stage.plain.fetch(observer.QUARANTINE))


def _adds_up(report: dict[str, Any]) -> bool:
    outcomes = ("fixed", "already_consistent", "stale", "vanished", "quarantined", "deferred")
    drifted = sum(report[name] for name in outcomes)
    return bool(report["drifted"] == drifted and report["scanned"] == report["consistent"] + drifted)


def _corrected(before: observer.Fields, after: observer.Fields) -> bool:
    if before.drift is None:
        return after == before
    untouched = (after.is_active, after.credentials_transactions) == (before.is_active, before.credentials_transactions)
    return untouched and after.mpesa_enabled is bool(before.active)
