"""`demo`: the story as a real process, and the proof that it turns red when something in it is not so."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from mpesa_sync.cli import demo as command
from mpesa_sync.cli import main
from mpesa_sync.db import embedded
from mpesa_sync.demo import claims, observer, scene, story, venues
from mpesa_sync.demo.claims import Item, Shown, State
from mpesa_sync.demo.stage import Stage
from mpesa_sync.demo.story import STEPS, Played, Step
from mpesa_sync.errors import EmbeddedServerError
from mpesa_sync.sync import writer
from tests.support.cli import cli, environment
from tests.support.databases import plain
from tests.support.demo import demo, staged
from tests.support.observer import database_hash
from tests.support.venues import KEYS, add_bar

pytestmark = pytest.mark.timeout(600)  # whole stories, on a machine that has much else to do


@pytest.fixture
async def stage(database_url: str, sql: Any) -> AsyncIterator[Stage]:
    """The stage with its venues, served, on a database of the tests' server."""
    async with staged(database_url, sql) as found:
        yield found


def test_the_whole_story_holds(tmp_path: Path) -> None:
    """Issue 2: `demo --check` exits 0, names every item of the plan, and leaves nothing behind."""
    ended = demo("--check", cwd=tmp_path, TMPDIR=str(tmp_path))
    assert ended.code == 0, ended.out + ended.err
    for item in claims.plan():
        assert f"  {item.id:<5} {item.title}" in ended.out
    for step in STEPS:
        assert step.title in ended.out
        assert not step.ids or f"[{' '.join(step.ids)}]" in ended.out
    assert "claimed, not shown" not in ended.out
    assert [line for line in ended.out.splitlines() if len(line) > 80] == []
    assert "postgresql://" not in ended.out + ended.err
    assert "\x1b" not in ended.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.prove
def test_json_says_the_same(tmp_path: Path) -> None:
    """Spec 6: one object on stdout: every step with both fields before and after, every item with what was seen."""
    ended = demo("--check", "--json", cwd=tmp_path)
    report = ended.json
    assert (ended.code, report["ok"]) == (0, True)
    assert report["duration_s"] > 0
    assert [step["id"] for step in report["steps"]] == [step.id for step in STEPS]
    change = report["steps"][0]["changes"][0]
    assert change == {
        "bar": "mama-njeri",
        "before": {"is_active (production)": False, "mpesa_enabled": False},
        "after": {"is_active (production)": True, "mpesa_enabled": True},
    }
    assert {item["id"] for item in report["items"]} == {item.id for item in claims.plan()}
    assert {item["shown"] for item in report["items"]} <= {"seen", "tested", "not yet"}


@pytest.mark.prove
def test_here_its_venues_stay_for_the_other_commands(tmp_path: Path) -> None:
    """Issue 2: under ./.mpesa-sync, twice in a row; the commands that it prints work as printed.

    The second time the environment names another database, which is not touched (spec 7), and the output cannot
    show a tick.
    """
    ended = demo("--story", cwd=tmp_path)
    assert ended.code == 0, ended.out + ended.err
    for line in ("check", "explain mama-njeri", "repair mama-njeri", "migrate --dry-run"):
        assert f"mpesa_sync {line}\n" in ended.out
    elsewhere = "postgresql://nobody:geheim@127.0.0.1:1/theirs"
    ended = demo("--story", cwd=tmp_path, url=elsewhere, MPESA_KMS_KEY="k" * 32, PYTHONIOENCODING="ascii")
    assert ended.code == 0, ended.out + ended.err
    assert "unset MPESA_SYNC_DATABASE_URL MPESA_KMS_KEY" in ended.out
    assert "geheim" not in ended.out + ended.err
    assert "    ok both fields say: on" in ended.out
    assert "?" not in ended.out.replace("drift?", "").replace("not done?", "")
    checked = cli("check", "--json", cwd=tmp_path)
    assert (checked.code, checked.json["drift"]) == (2, {"hidden": 1, "exposed": 1})
    explained = cli("explain", "mama-njeri", cwd=tmp_path)
    assert "production usable" in explained.out, explained.out + explained.err
    assert cli("repair", "mama-njeri", cwd=tmp_path).code == 0
    assert cli("migrate", "--yes", cwd=tmp_path).code == 0
    assert cli("check", cwd=tmp_path).code == 0


async def test_ctrl_c_ends_it_and_its_server(tmp_path: Path) -> None:
    """Spec 6: 130, and no PostgreSQL is left running."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mpesa_sync", "demo", "--story", "--pace", "60"),
        cwd=tmp_path,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        await process.stdout.readline()
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(20):
            await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 130
    assert not embedded.is_running(tmp_path / ".mpesa-sync")


# --- what is not the demo's stays


async def test_data_that_no_demo_made_is_left_alone(database_url: str, sql: Any, tmp_path: Path) -> None:
    """Nothing of the user's is replaced: only an empty database, or one that a demo has marked as its own."""
    await add_bar(sql)
    before = await database_hash(sql)
    with pytest.raises(EmbeddedServerError, match="no demo made"):
        await scene._cleared(sql, tmp_path)
    assert await database_hash(sql) == before


async def test_two_demos_do_not_disturb_each_other(database_url: str, sql: Any, tmp_path: Path) -> None:
    """The second one is told, before anything is replaced."""
    async with plain(database_url) as first:
        await first.execute(scene._ALONE)
        with pytest.raises(scene.DemoBusy, match="another demo"):
            await scene._cleared(sql, tmp_path)


async def test_a_program_that_uses_the_database_is_waited_for_only_briefly(
    empty_database_url: str, tmp_path: Path
) -> None:
    """An open transaction on the old venues is told, not waited for."""
    async with plain(empty_database_url) as demo, plain(empty_database_url) as other:
        await scene._cleared(demo, tmp_path)
        await demo.execute("create table public.bars (id int)")
        async with other.transaction():
            await other.fetch("select * from public.bars")
            with pytest.raises(scene.DemoBusy, match="another program"):
                await scene._cleared(demo, tmp_path)
        await scene._cleared(demo, tmp_path)
        assert await demo.fetchval("select to_regclass('public.bars')") is None


# --- it can fail


def test_a_step_that_is_wrong_makes_it_red_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Issue 2: exit code 1 if a claim is wrong; an exception in a step is shown, the others are played."""

    async def wrong(stage: Stage) -> None:
        stage.check("the moon is made of cheese", False)

    async def broken(stage: Stage) -> None:
        await stage.plain.execute("select 1/0")

    steps = (Step("wrong", "Wrong", ("P1",), wrong), Step("broken", "Broken", ("P2",), broken), *STEPS[:3])
    monkeypatch.setattr(story, "STEPS", steps)
    assert main.main(["demo", "--check"]) == 1
    out = capfd.readouterr().out
    assert "not so: the moon is made of cheese" in out
    assert "unexpected DivisionByZeroError: SQLSTATE 22012" in out
    assert f"2 of {len(steps)} steps did not hold: wrong, broken" in out


def test_a_claimed_step_that_is_missing_makes_it_red(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Issue 2: exit code 1 if a claim is missing."""
    monkeypatch.setattr(story, "STEPS", STEPS[:1])
    assert main.main(["demo", "--check", "--json"]) == 1
    items = {item["id"]: item["shown"] for item in json.loads(capfd.readouterr().out)["items"]}
    assert (items["R1.2"], items["R5.4"], items["T9"]) == ("wrong", "wrong", "not yet")


async def test_a_product_that_writes_half_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The story reads the database, not the product's answer: a lying writer turns its steps red."""

    async def lies(connection: Any, bar_id: UUID, environment: Any) -> writer.Written:
        await connection.execute(
            "update mpesa_credentials set is_active = $2 where tenant_id = $1", bar_id, bool(environment)
        )
        active = (environment.value,) if environment else ()
        return writer.Written(True, True, active, environment is not None)

    monkeypatch.setattr(writer, "write_status", lies)
    played = {step.id: step for step in await story.play(stage, STEPS[:7])}
    assert not played["switch-on"].ok
    assert not played["two-environments"].ok
    assert not played["many-at-once"].ok
    assert played["refused"].ok


@pytest.mark.prove
async def test_each_step_leaves_no_fault_behind(stage: Stage, sql: Any) -> None:
    """Triggers and checks that a step makes are gone after it, also after one that failed."""
    played = await story.play(stage, STEPS)
    assert [step.id for step in played if not step.ok] == []
    assert not await sql.fetchval("select count(*) from pg_trigger where tgname = 'legacy_freeze'")
    assert not await sql.fetchval("select count(*) from pg_constraint where conname = 'at_least_one_method'")


async def test_the_digest_covers_every_table(stage: Stage, sql: Any) -> None:
    """A dry run is shown to change nothing: no table may be missing from what is compared."""
    tables = await sql.fetch(
        "select schemaname || '.' || tablename from pg_tables where schemaname in ('public', 'mpesa_sync')"
    )
    assert [table for (table,) in tables if f"from {table} " not in observer.DIGESTS] == []
    before = await observer.digests(sql)
    await sql.execute("update bars set mpesa_enabled = mpesa_enabled where slug = 'mama-njeri'")
    after = await observer.digests(sql)
    assert [name for name in after if after[name] != before[name]] == ["public.bars"]


def played(*steps: tuple[str, bool]) -> list[Played]:
    """Return steps that were played, each with whether it held."""
    return [Played(id=name, title=name, ids=(), ok=ok, duration_ms=1, changes=[]) for name, ok in steps]


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (Item("P1", "p", State.DONE, steps=("a",), tests=1), Shown.SEEN),
        (Item("P1", "p", State.DONE, steps=("a", "b"), tests=1), Shown.WRONG),
        (Item("P1", "p", State.PART, 3, steps=("gone",), tests=1), Shown.WRONG),
        (Item("P1", "p", State.DONE, tests=2), Shown.TESTED),
        (Item("P1", "p", State.DONE), Shown.WRONG),
        (Item("P1", "p", State.NOT_YET, 3), Shown.NOT_YET),
    ],
)
def test_a_tick_comes_from_what_was_played(item: Item, shown: Shown) -> None:
    """Issue 2: ✓ only for what was just seen; a claim without anything behind it is wrong."""
    story_so_far = played(("a", True), ("b", False))
    (claim,) = claims.judged([item], story_so_far)
    assert claim.shown is shown
    assert not claims.all_hold([claim], story_so_far)
    assert claims.all_hold([claim], played(("a", True))) is (shown in (Shown.SEEN, Shown.TESTED, Shown.NOT_YET))


def test_nothing_played_is_red() -> None:
    """An empty story proves nothing."""
    assert not claims.all_hold([], [])


# --- the sample venues


async def test_twelve_venues_in_the_states_that_fleets_are_found_in(stage: Stage, sql: Any) -> None:
    """Issue 2: drifted both ways, wrong key, truncated, masked, two active, sandbox."""
    seen = await observer.see_all(sql)
    assert len(seen) == 12
    assert [seen[venue.id].drift is not None for venue in venues.VENUES] == [
        (venue.mpesa_enabled is True) != venue.authority for venue in venues.VENUES
    ]
    assert {fields.drift for fields in seen.values()} == {None, "hidden", "exposed"}
    assert {len(fields.active) for fields in seen.values()} == {0, 1, 2}
    assert any(fields.active == ["sandbox"] for fields in seen.values())
    assert {venue.sealed for venue in venues.VENUES} == set(venues.Sealed)


def test_secrets_are_new_in_every_run() -> None:
    """No secret stands in the code: what is sealed differs from call to call."""
    first, second = (venues.stored_secrets(KEYS, venues.Sealed.GOOD) for _ in range(2))
    assert set(first).isdisjoint(second)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--check", "--pace", "-1"], "--pace"),
        (["--check", "--pace", "soon"], "--pace"),
        (["--pace", "1"], "--pace goes with --story"),
        (["--json"], "--json goes with --check"),
        (["--story", "--check"], "exclude each other"),
    ],
)
def test_options_that_do_not_go_together_are_told(options: list[str], said: str, tmp_path: Path) -> None:
    """64, and nothing is started or served."""
    ended = cli("demo", *options, cwd=tmp_path)
    assert (ended.code, list(tmp_path.iterdir())) == (64, [])
    assert said in ended.err
    assert command.PACE_S > 0
