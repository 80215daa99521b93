"""Steps of the story about the fleet: drift found, a dry run, one bar repaired, the migration, its proof."""

from __future__ import annotations

import json
from typing import Any, Final

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
    code, lines = await stage.command("--dry-run")
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
        code, lines = await stage.command("--yes", "--json", "--reason", _REASON)
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
    journal = await stage.plain.fetchval(observer.JOURNAL, report["run"])
    stage.check(f"the journal holds {journal} changes, one for each", journal == report["fixed"])


def _adds_up(report: dict[str, Any]) -> bool:
    outcomes = ("fixed", "already_consistent", "stale", "vanished", "quarantined", "deferred")
    drifted = sum(report[name] for name in outcomes)
    return bool(report["drifted"] == drifted and report["scanned"] == report["consistent"] + drifted)


def _corrected(before: observer.Fields, after: observer.Fields) -> bool:
    if before.drift is None:
        return after == before
    untouched = (after.is_active, after.credentials_transactions) == (before.is_active, before.credentials_transactions)
    return untouched and after.mpesa_enabled is bool(before.active)


async def verified(stage: Stage) -> None:
    """R2.3: done means a full pass over all bars that repaired nothing."""
    stage.say("The check is gone. The migration once more, for what was left:")
    code, lines = await stage.command("--yes", "--reason", _REASON)
    stage.check("exit code 0: every bar is in sync, verified", code == 0 and lines[0].startswith("Done"))
    seen = await observer.see_all(stage.plain)
    drifted = [fields for fields in seen.values() if fields.drift]
    stage.check(f"our own reading of all {len(seen)} bars, of one moment, agrees", seen and not drifted)
    summary = await MpesaMigrationService(stage.database).validate_migration()
    stage.check("so does validate_migration", summary.is_consistent and summary.bars == len(seen))
    digests = await stage.digests()
    _, lines = await stage.command("--yes", "--json")
    stage.check("run again: nothing left to do", json.loads(lines[-1])["drifted"] == 0)
    stage.check("and nothing was written, in any table", await stage.digests() == digests)
