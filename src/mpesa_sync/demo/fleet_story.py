"""Steps of the story about a fleet: a migration planned and saved, killed in the middle, gone on with, verified."""

from __future__ import annotations

import signal
import stat
from typing import Final
from uuid import UUID

from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.demo import fleet, observer
from mpesa_sync.demo.fleet import Planned
from mpesa_sync.demo.stage import Stage, StoryBroken
from mpesa_sync.migration.service import MpesaMigrationService

_FILE: Final = "friday.plan"
_CHANGED: Final = "changed.plan"
_BATCH: Final = 50
_CREDENTIALS: Final = "public.mpesa_credentials"


async def planned(stage: Stage) -> None:
    """R2: what a migration would do is found out and saved, and nothing is written."""
    await fleet.add(stage.plain, KeyRing.from_texts([stage.key]))
    before, digests = await observer.see_all(stage.plain), await stage.digests()
    drifted = {bar_id: fields for bar_id, fields in before.items() if fields.drift}
    stage.say(
        f"A chain of {fleet.SIZE} bars joins the platform, with years of drift: {len(before)} bars now. An operator "
        "wants to know what a migration would do, and to have that looked over before anything is written: a plan."
    )
    code, _ = await stage.command("migrate", "--plan-out", _FILE)
    path = stage.folder / _FILE
    found = fleet.read(path)
    stage.planned = Planned(found.bars, before, digests[_CREDENTIALS])
    totals = found.totals
    stage.narrator.line(f"      {_FILE}: {found.count} bars, {totals['hidden']} hidden, {totals['exposed']} exposed")
    stage.narrator.line(f"      for this database alone, until {found.expires_at[:16].replace('T', ' ')} UTC")
    stage.narrator.line(f"      digest {found.digest}", "dim")
    stage.check("exit code 2: there is something to do", code == 2)
    stage.check("and nothing was written, in any table", await stage.digests() == digests)
    stage.check(
        f"the file names exactly the {len(drifted)} bars that our own reading finds drifted, each with its direction",
        found.directions == {bar_id: fields.drift for bar_id, fields in drifted.items()},
    )
    stage.check(
        "and what customers will be shown: what staff have switched",
        found.bars == {bar_id: bool(fields.active) for bar_id, fields in drifted.items()},
    )
    stage.check(
        "its last line has their number, and a digest (SHA-256) of all before it: computed anew, it is the same",
        (found.count, found.digest) == (len(drifted), found.computed),
    )
    stage.check("only its owner may read it", stat.S_IMODE(path.stat().st_mode) == 0o600)
    stage.say("Somebody changes one value in a copy of it, and applies that:")
    (stage.folder / _CHANGED).write_bytes(_flipped(path.read_bytes()))
    code, _ = await stage.command("migrate", "--plan", _CHANGED, "--yes")
    stage.check("refused, and nothing was written", code == 64 and await stage.digests() == digests)


def _flipped(plan: bytes) -> bytes:
    return plan.replace(b'"authority":true', b'"authority":false', 1)


async def killed(stage: Stage) -> None:
    """R2: kill -9 in the middle of a batch leaves whole batches, and nothing half done."""
    plan = _of(stage)
    in_the_way = list(plan.bars)[len(plan.bars) * 2 // 3]
    name = next((bar.name for bar in fleet.chain() if bar.id == in_the_way), "one bar")
    stage.say(
        f"The plan is applied, {_BATCH} bars in a transaction. Another program holds the row of {name}, far down in "
        "the plan. The moment the migration waits for that row, in the middle of a batch, its process is killed."
    )
    async with fleet.row_held(stage.url, in_the_way) as holder:
        process = await stage.started("migrate", "--plan", _FILE, "--yes", "--batch-size", str(_BATCH))
        try:
            waiter = await fleet.waiting_for(stage.plain, holder, process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()
    stage.narrator.line("    killed: SIGKILL, which no program can catch", "dim")
    stage.check("it was killed while it waited for that row", waiter and process.returncode == -signal.SIGKILL)
    await fleet.gone(stage.plain, waiter)
    seen = await observer.see_all(stage.plain)
    done = [bar_id for bar_id in plan.bars if seen[bar_id].mpesa_enabled is not plan.before[bar_id].mpesa_enabled]
    stage.check(
        f"{len(done)} of the {len(plan.bars)} bars are corrected, the other {len(plan.bars) - len(done)} are as they "
        "were: the batch in hand was rolled back",
        0 < len(done) < len(plan.bars) and all(seen[bar_id].mpesa_enabled is plan.bars[bar_id] for bar_id in done),
    )
    run, journal = await _run_and_journal(stage)
    stage.check("the journal of the run names just the corrected ones", sorted(journal) == sorted(done))
    stage.check("no credentials were touched", (await stage.digests())[_CREDENTIALS] == plan.credentials)
    _, lines = await stage.command("migrate", "status", run)
    stage.check(
        "asked for it, mpesa-sync says: interrupted, and how to go on",
        lines[0].endswith("interrupted") and f"mpesa-sync migrate resume {run}" in lines[-1],
    )


async def resumed(stage: Stage) -> None:
    """R2: gone on with, the run ends as one that was never killed."""
    plan = _of(stage)
    run, journal = await _run_and_journal(stage)
    stage.say(f"The row is free again. The run goes on where it was: {len(plan.bars) - len(journal)} bars are left.")
    code, lines = await stage.command("migrate", "resume", run)
    seen = await observer.see_all(stage.plain)
    _, journal = await _run_and_journal(stage)
    stage.check("exit code 0: every bar of the plan is in sync, verified", code == 0 and lines[0].startswith("Done"))
    stage.check(
        f"counted as one run that nobody killed: {len(plan.bars)} fixed", f"  {len(plan.bars):>9,}    fixed" in lines
    )
    stage.check(
        f"all {len(plan.bars)} bars are what the plan has said, by our own reading",
        all(seen[bar_id].mpesa_enabled is shown for bar_id, shown in plan.bars.items()),
    )
    stage.check(
        f"each was changed once, before the kill or after it: {len(journal)} changes in the journal",
        sorted(journal) == sorted(plan.bars),
    )
    others = seen.keys() - plan.bars.keys()
    stage.check(
        f"the {len(others)} bars that are not in the plan were not written at all",
        seen.keys() == plan.before.keys() and all(seen[bar_id] == plan.before[bar_id] for bar_id in others),
    )
    stage.check(
        "no credentials were touched, from the plan until now: every row is the same, and of the same transaction",
        (await stage.digests())[_CREDENTIALS] == plan.credentials,
    )


async def verified(stage: Stage) -> None:
    """R2.3: done means a full pass over all bars that repaired nothing, both directions."""
    digests = await stage.digests()
    stage.say("Done means: one more pass over all bars, in both directions, finds nothing to repair.")
    code, lines = await stage.command("migrate", "--yes")
    seen = await observer.see_all(stage.plain)
    stage.check(
        "exit code 0: nothing was left to do, verified",
        code == 0 and lines[0].startswith("Done") and f"  {0:>9}  drifted" in lines,
    )
    stage.check("and nothing was written, in any table", await stage.digests() == digests)
    directions = [fields.drift for fields in seen.values()]
    hidden, exposed = directions.count("hidden"), directions.count("exposed")
    stage.check(
        f"our own reading of all {len(seen)} bars, of one moment: {hidden} hidden, {exposed} exposed",
        seen and not hidden and not exposed,
    )
    summary = await MpesaMigrationService(stage.database).validate_migration()
    stage.check(
        f"validate_migration says the same: {summary.hidden} hidden, {summary.exposed} exposed",
        (summary.bars, summary.hidden, summary.exposed) == (len(seen), 0, 0),
    )


def _of(stage: Stage) -> Planned:
    if stage.planned is None:
        raise StoryBroken("not so: a migration is planned")
    return stage.planned


async def _run_and_journal(stage: Stage) -> tuple[str, list[UUID]]:
    """Return the last run, and the bars that it has changed, once for each change."""
    run = await stage.plain.fetchval(observer.LAST_RUN)
    return str(run), [record["bar_id"] for record in await stage.plain.fetch(observer.CHANGED, run)]
