"""Runs on the command line: killed and resumed, paused, planned, taken back, the quarantine (R2, spec 6)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.cli import cli, environment
from tests.support.faults import until
from tests.support.migrate_cli import OUTCOMES, add_drift, counts, drifted, refuse, slow_down
from tests.support.observer import database_hash
from tests.support.venues import add_bar

_FIXED: Final = "select count(*) from mpesa_sync.migration_journal"
_RUN: Final = "select id::text from mpesa_sync.migration_runs"


@asynccontextmanager
async def migrating(url: str, sql: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Give a `migrate` with slow batches of one bar, which has corrected one."""
    await slow_down(sql, 1.5)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mpesa_sync", "migrate", "--yes", "--json", "--batch-size", "1"),
        env=environment(url),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        await until(lambda: sql.fetchval(_FIXED))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_run_that_was_killed_is_resumed_at_once(database_url: str, sql: Any) -> None:
    """R2: kill -9 in the middle of a batch; status says interrupted; resumed it ends as one that never was."""
    await add_drift(sql, hidden=14, exposed=1)
    async with migrating(database_url, sql) as process:
        run = await sql.fetchval(_RUN)
        busy = cli("migrate", "--yes", url=database_url)
        assert (busy.code, run in busy.err) == (4, True)
        process.kill()
        await process.wait()
    await sql.execute("drop trigger slow on public.bars")
    shown = cli("migrate", "status", "--json", url=database_url)
    (one,) = json.loads(shown.out)["runs"]
    assert (one["state"], one["report"]["state"]) == ("interrupted", "interrupted")
    assert one["report"]["drifted"] == sum(one["report"][name] for name in OUTCOMES) == 15
    assert f"Go on: mpesa-sync migrate resume {run}" in cli("migrate", "status", run[:8], url=database_url).out
    resumed = cli("migrate", "resume", run[:8], "--json", "--batch-size", "3", url=database_url)
    assert resumed.code == 0, resumed.err
    report = counts(resumed)
    assert (report["run"], report["state"], report["fixed"], report["verified"]) == (run, "done", 15, True)
    assert await sql.fetchval(_FIXED) == 15
    assert await drifted(sql) == []
    again = cli("migrate", "resume", run, url=database_url)
    assert (again.code, "nothing left to resume" in again.err) == (1, True)


async def test_a_run_is_paused_from_another_terminal_and_goes_on(database_url: str, sql: Any) -> None:
    """R2: after the batch in hand; the run itself ends with 2, for changes are pending."""
    await add_drift(sql, hidden=20)
    async with migrating(database_url, sql) as process:
        paused = cli("migrate", "pause", (await sql.fetchval(_RUN))[:8], url=database_url)
        out, _ = await process.communicate()
    assert (paused.code, process.returncode) == (0, 2), paused.err
    assert "  paused\n" in paused.out
    assert json.loads(out)["state"] == "paused"
    assert "Go on: mpesa-sync migrate resume" in paused.out
    assert cli("migrate", "pause", await sql.fetchval(_RUN), url=database_url).code == 1
    await sql.execute("drop trigger slow on public.bars")
    resumed = cli("migrate", "resume", await sql.fetchval(_RUN), "--json", url=database_url)
    assert counts(resumed)["fixed"] == 20


async def test_once_interrupted_it_says_how_to_resume(database_url: str, sql: Any) -> None:
    """Section 6: Ctrl-C finishes the batch and says how to resume."""
    await add_drift(sql, hidden=6)
    async with migrating(database_url, sql) as process:
        process.send_signal(signal.SIGINT)
        await process.communicate()
    assert process.returncode == 130
    await sql.execute("drop trigger slow on public.bars")
    cancelled = cli("migrate", "cancel", await sql.fetchval(_RUN), url=database_url)
    assert (cancelled.code, "  cancelled\n" in cancelled.out) == (0, True)
    assert await sql.fetchval("select count(*) from mpesa_sync.migration_candidates") == 0


async def test_a_plan_is_written_looked_at_and_applied(database_url: str, sql: Any, tmp_path: Path) -> None:
    """R2: writing one changes nothing; a changed one is refused; what drifted since is left alone and said."""
    await add_drift(sql, hidden=2, exposed=1, consistent=1)
    plan = tmp_path / "friday.plan"
    before = await database_hash(sql)
    written = cli("migrate", "--plan-out", str(plan), url=database_url)
    assert written.code == 2, written.err
    assert (str(plan) in written.err, plan.stat().st_mode & 0o777) == (True, 0o600)
    assert f"migrate --plan {plan}' applies the plan" in " ".join(written.out.split()), written.out
    assert await database_hash(sql) == before
    in_the_way = cli("migrate", "--plan-out", str(plan), url=database_url)
    assert (in_the_way.code, "exists already" in in_the_way.err) == (64, True)
    later = await add_bar(sql, mpesa_enabled=True)
    changed = tmp_path / "changed.plan"
    changed.write_bytes(plan.read_bytes().replace(b"true", b"null", 1))
    refused = cli("migrate", "--plan", str(changed), "--yes", url=database_url)
    assert (refused.code, "--plan" in refused.err) == (64, True)
    applied = cli("migrate", "--plan", str(plan), "--yes", url=database_url)
    assert applied.code == 0, applied.err
    assert "1 bar outside of it" in applied.out
    assert "found nothing but what is outside of the plan" in " ".join(applied.out.split())
    assert "Next: 'mpesa-sync migrate' corrects what is outside of the plan." in applied.out
    again = cli("migrate", "--plan", str(plan), "--yes", "--json", url=database_url)
    assert (counts(again)["already_consistent"], counts(again)["outside"]) == (3, 1)
    nothing = cli("migrate", "--plan", str(plan), "--dry-run", "--json", url=database_url)
    assert (nothing.code, counts(nothing)["drifted"]) == (0, 0)
    assert await drifted(sql) == [later]
    assert cli("migrate", "--plan", str(plan), "--plan-out", "x", url=database_url).code == 64


async def test_the_quarantine_is_listed_and_retried(database_url: str, sql: Any) -> None:
    """R2.4: with its reason, exit code 3 while there is any; a retry after the cause is gone empties it."""
    stuck = await add_bar(sql, mpesa_enabled=True)
    await refuse(sql, stuck)
    assert cli("migrate", "--yes", url=database_url).code == 3
    listed = cli("migrate", "quarantine", "list", url=database_url)
    assert (listed.code, str(stuck) in listed.out, "SQLSTATE P0001" in listed.out) == (3, True, True)
    (record,) = json.loads(cli("migrate", "quarantine", "list", "--json", url=database_url).out)["records"]
    assert (record["bar_id"], record["sqlstate"], record["attempts"]) == (str(stuck), "P0001", 1)
    assert cli("migrate", "quarantine", "retry", url=database_url).code == 64
    assert cli("migrate", "quarantine", "retry", "--yes", url=database_url).code == 3
    seen = await sql.fetchrow("select first_seen, last_seen from mpesa_sync.migration_quarantine")
    said = f"attempts: 2, since {seen[0]:%Y-%m-%d %H:%M} UTC, last {seen[1]:%Y-%m-%d %H:%M}\n"
    assert said in cli("migrate", "quarantine", "list", url=database_url).out
    await sql.execute("drop trigger poison on public.bars")
    retried = cli("migrate", "quarantine", "retry", "--yes", "--json", url=database_url)
    assert (retried.code, counts(retried)["fixed"]) == (0, 1), retried.err
    assert cli("migrate", "quarantine", "list", url=database_url).code == 0


async def test_a_run_over_no_bars_tells_what_has_drifted_all_the_same(
    database_url: str, sql: Any, tmp_path: Path
) -> None:
    """R2.3: an empty plan or quarantine is no empty database; what has drifted outside of it is counted and named."""
    plan = tmp_path / "empty.plan"
    assert "There are no bars" in cli("migrate", "--plan-out", str(plan), url=database_url).out
    assert "There are no bars" in cli("migrate", "--yes", url=database_url).out
    await add_drift(sql, hidden=2, consistent=1)
    for arguments, headline, whose in (
        (("quarantine", "retry"), "The quarantine is empty: nothing to retry.", "quarantine"),
        (("--plan", str(plan)), "The plan is empty: nothing to correct.", "plan"),
    ):
        ended = cli("migrate", *arguments, "--yes", url=database_url)
        assert (ended.code, ended.out.splitlines()[0]) == (0, f"{headline} 2 bars outside of it drifted.")
        assert f"found nothing but what is outside of the {whose}" in " ".join(ended.out.split())
        assert f"Next: 'mpesa-sync migrate' corrects what is outside of the {whose}." in ended.out
        assert counts(cli("migrate", *arguments, "--yes", "--json", url=database_url))["outside"] == 2
    assert len(await drifted(sql)) == 2
    assert cli("migrate", "--yes", url=database_url).code == 0
    run = await sql.fetchval(_RUN)
    of_run = cli("migrate", "quarantine", "retry", "--run", run, "--yes", url=database_url)
    assert f"No bar of the run {run} is quarantined: nothing to retry." in " ".join(of_run.out.split())
    assert "found nothing\n" in of_run.out


async def test_an_undo_speaks_of_what_it_takes_back(database_url: str, sql: Any) -> None:
    """R2: each bar is as before, was so already, or was changed since; nothing is called drifted, fixed, corrected."""
    await add_drift(sql, hidden=2, exposed=1, consistent=1)
    assert cli("migrate", "--yes", url=database_url).code == 0
    run = await sql.fetchval(_RUN)

    def undo(*options: str) -> str:
        ended = cli("migrate", "undo", run, *options, url=database_url, MPESA_SYNC_RECONCILE="observe")
        assert ended.code == (2 if "--dry-run" in options else 0), ended.err
        return " ".join(ended.out.split())

    looked = undo("--dry-run")
    assert "3 bars would be as before the run, unless changed since. Nothing was written." in looked
    assert f"3 changed by the run {run} 3 would be as before the run, unless changed since" in looked
    assert f"Next: 'mpesa-sync migrate undo {run}' takes them back." in looked
    changed = await sql.fetchval("select bar_id from mpesa_sync.migration_journal order by bar_id limit 1")
    await sql.execute("update bars set mpesa_enabled = null where id = $1", changed)
    done = undo("--yes")
    assert "Taken back: 2 bars as before." in done
    assert f"3 changed by the run {run} 2 as before the run 1 changed since, left alone" in done
    assert "Next: 'mpesa-sync check' lists what is drifted now." in done
    again = undo("--yes")
    assert "Nothing was taken back: no bar is as that run has left it." in again
    assert "2 as before already 1 changed since, left alone" in again
    for said in (looked, done, again):
        assert not any(word in said.replace("drifted now", "") for word in ("drifted", "fixed", "correct", "in sync"))
    listed = cli("migrate", "status", url=database_url).out
    assert f"undo of {run}, by " in listed
    assert "3 of 3 bars settled: 2 as before the run; 1 changed since, left alone" in listed
    assert "3 of 3 bars settled: 2 as before already; 1 changed since, left alone" in listed
    assert "3 of 3 drifted bars settled: 3 fixed, 0 quarantined" in listed


async def test_a_run_stopped_by_max_errors_goes_on_with_a_higher_limit(database_url: str, sql: Any) -> None:
    """R2.4: what it was begun with holds unless another is given, and the command that is named gives another."""
    await add_drift(sql, exposed=3)
    await sql.execute("alter table bars add constraint shown check (mpesa_enabled)")
    stopped = cli("migrate", "--yes", "--batch-size", "1", "--max-errors", "0", url=database_url)
    run = await sql.fetchval(_RUN)
    assert (stopped.code, "run " + run in stopped.out) == (6, True)
    goes_on = f"mpesa-sync migrate resume {run} --max-errors N"
    assert f"'{goes_on}' goes on, with a higher limit." in " ".join(stopped.out.split())
    assert f"Go on: {goes_on}\n" in cli("migrate", "status", url=database_url).out
    assert cli("migrate", "resume", run, url=database_url).code == 6
    resumed = cli("migrate", "resume", run, "--max-errors", "3", "--json", url=database_url)
    assert (resumed.code, counts(resumed)["quarantined"]) == (3, 3), resumed.err
    assert " ".join(cli("migrate", "resume", "--help").out.split()).count("as the run was begun with") == 2


async def test_the_whole_quarantine_can_be_listed(database_url: str, sql: Any) -> None:
    """R2.4: a person sees the oldest 50 and how to see all, a program sees all of them."""
    await add_drift(sql, exposed=3)
    await sql.execute("alter table bars add constraint shown check (mpesa_enabled)")
    assert cli("migrate", "--yes", url=database_url).code == 3
    await sql.execute(
        "insert into mpesa_sync.migration_quarantine (bar_id, run_id, code, message, attempts) "
        "select gen_random_uuid(), run_id, code, message, 1 from mpesa_sync.migration_quarantine, "
        "generate_series(1, 1000) where id = (select min(id) from mpesa_sync.migration_quarantine)"
    )
    inside = {str(row["bar_id"]) for row in await sql.fetch("select bar_id from mpesa_sync.migration_quarantine")}
    found = cli("migrate", "quarantine", "list", "--json", url=database_url)
    assert (found.json["total"], {record["bar_id"] for record in found.json["records"]}) == (1003, inside)
    assert len(found.json["records"]) == 1003
    listed = cli("migrate", "quarantine", "list", url=database_url)
    assert sum(bar in listed.out for bar in inside) == 50
    assert "There are 1,003; these are the oldest 50. --limit 1003 lists all of them." in listed.err
    everything = cli("migrate", "quarantine", "list", "--limit", "1003", url=database_url)
    assert sum(bar in everything.out for bar in inside) == 1003
    few = cli("migrate", "quarantine", "list", "--limit", "2", "--json", url=database_url)
    assert [len(few.json["records"]), few.json["total"]] == [2, 1003]


def test_before_the_first_run_there_is_none(platform_url: str) -> None:
    """R2: `migrate` makes what it keeps runs in, so its absence is no fault; a run that is named is one."""
    shown = cli("migrate", "status", url=platform_url)
    assert (shown.code, shown.out) == (0, "There has been no run here.\n"), shown.err
    assert cli("migrate", "status", "--json", url=platform_url).json == {"runs": []}
    assert cli("migrate", "status", "6f7d8a52", url=platform_url).code == 1


async def test_a_run_that_is_not_kept_is_not_named(database_url: str, sql: Any) -> None:
    """R2: `migrate status` knows nothing of a dry run or one that --max-changes refused."""
    await add_drift(sql, hidden=2)
    for option in (("--dry-run",), ("--yes", "--max-changes", "1")):
        assert " s\n" in (said := cli("migrate", *option, url=database_url).out)
        assert " s  run " not in said
    done = cli("migrate", "--yes", url=database_url).out
    assert f" s  run {await sql.fetchval(_RUN)}\n" in done


async def test_a_run_is_taken_back(database_url: str, sql: Any) -> None:
    """R2: a dry run says how many bars; without a terminal it needs --yes; the flags are as before."""
    await add_drift(sql, hidden=2, exposed=1)
    before = sorted(await drifted(sql))
    assert cli("migrate", "--yes", url=database_url).code == 0
    run = await sql.fetchval(_RUN)
    fought = cli("migrate", "undo", run, "--yes", url=database_url)
    assert (fought.code, "MPESA_SYNC_RECONCILE=observe" in fought.err) == (1, True)
    dry = cli("migrate", "undo", run, "--dry-run", "--json", url=database_url, MPESA_SYNC_RECONCILE="observe")
    assert counts(dry)["deferred"] == 3
    assert cli("migrate", "undo", run, url=database_url, MPESA_SYNC_RECONCILE="observe").code == 64
    undone = cli("migrate", "undo", run, "--yes", url=database_url, MPESA_SYNC_RECONCILE="observe")
    assert (undone.code, "Taken back: 3 bars as before." in undone.out) == (0, True), undone.err
    assert sorted(await drifted(sql)) == before


@pytest.mark.parametrize("command", ["status", "pause", "resume", "cancel", "undo"])
def test_a_run_that_is_not_there_is_said(database_url: str, command: str) -> None:
    """Bad input: what is no id is 64, an unknown one is 1; both say what to do."""
    assert cli("migrate", command, "x", url=database_url).code == 64
    unknown = cli("migrate", command, "00000000", *(["--yes"] if command == "undo" else []), url=database_url)
    assert (unknown.code, "migrate status" in unknown.err) == (1, True)
