"""`guard install|status|remove` and what `db` says of guards, as a process (spec 6, G4, G5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from tests.support import databases
from tests.support.cli import cli, environment, on_terminal
from tests.support.guarding import drifted
from tests.support.venues import add_bar


@pytest.fixture
async def platform(platform_url: str) -> AsyncIterator[Any]:
    """Another program, in a platform that mpesa-sync is not attached to."""
    async with databases.plain(platform_url) as connection:
        yield connection


async def test_the_whole_life_on_a_platform(platform_url: str, platform: Any) -> None:
    """G4, G5: 2 while there are none or while drift is left, 0 when well; who writes past us is named."""
    absent = cli("guard", "status", url=platform_url)
    assert (absent.code, absent.out.splitlines()[0]) == (
        2,
        "Guards     off; 'mpesa-sync guard install' puts them on the platform's tables",
    )
    bar = await add_bar(platform, mpesa_enabled=False, production=True)
    installed = cli("guard", "install", "--yes", url=platform_url)
    assert installed.code == 2, installed.err
    assert installed.err.startswith("Database: ")
    assert "The schema mpesa_sync was absent and has been made" in installed.err
    assert installed.out.splitlines() == [
        "Guards are on, mode heal.",
        "1 bar had drifted before, and still are.",
        f"  {bar}",
        "Run 'mpesa-sync migrate' to correct them; guards keep the rest.",
    ]
    assert cli("migrate", "--yes", url=platform_url).code == 0
    assert cli("guard", "status", "--json", url=platform_url).json["hits"] == {"carried": 0, "healed": 0, "logged": 0}
    assert "Hits       none" in cli("guard", "status", url=platform_url).out
    again = cli("guard", "install", "--yes", url=platform_url)
    assert (again.code, again.out.splitlines()) == (
        0,
        [
            "Guards are on, mode heal, as before.",
            "All bars are in sync, and no committed state is drifted from now on.",
        ],
    )
    await platform.execute("set application_name = 'old app'")
    await platform.execute("update public.bars set mpesa_enabled = false")
    assert await drifted(platform) == []
    well = cli("guard", "status", url=platform_url)
    assert well.code == 0
    assert "Guards     on, mode heal" in well.out
    assert "Hits       1 healed" in well.out
    assert f"healed  {bar}  false → true  UPDATE of bars by postgres, old app" in well.out
    found = cli("guard", "status", "--json", url=platform_url).json
    assert (found["state"], found["mode"], found["hits"], len(found["triggers"])) == (
        "installed",
        "heal",
        {"carried": 0, "healed": 1, "logged": 0},
        7,
    )
    assert [UUID(hit["bar_id"]) for hit in found["last_hits"]] == [bar]
    removed = cli("guard", "remove", "--yes", url=platform_url)
    assert removed.code == 0
    assert removed.out.startswith("No guard stands on ")
    assert "The record of 1 hit went with them." in removed.err
    assert cli("guard", "status", "--json", url=platform_url).json["notices"] is False


async def test_a_guard_that_does_not_stand_is_named(guarded_url: str, guarded_sql: Any) -> None:
    """G4: by `guard status` with its trigger, and by `db status`."""
    await guarded_sql.execute("alter table public.bars disable trigger mpesa_sync_guard_update")
    found = cli("guard", "status", url=guarded_url)
    assert found.code == 2
    assert found.out.splitlines()[0] == "Guards     NOT as they must be: disabled"
    assert "disabled; see 'mpesa-sync guard status'" in " ".join(cli("db", "status", url=guarded_url).out.split())
    assert "mpesa_sync_guard_update on public.bars: disabled" in found.out
    assert cli("db", "status", "--json", url=guarded_url).json["guards"] == {
        "state": "disabled",
        "mode": "heal",
        "notices": True,
    }


@pytest.mark.parametrize("command", ["install", "remove"])
async def test_nothing_is_done_without_an_answer(guarded_url: str, guarded_sql: Any, command: str) -> None:
    """Spec 6: without a terminal and without --yes it refuses with 64; a no changes nothing."""
    text = "select count(*) from pg_trigger where tgname like 'mpesa_sync_guard%'"
    before = await guarded_sql.fetchval(text)
    refused = cli("guard", command, url=guarded_url)
    assert (refused.code, refused.out) == (64, "")
    assert "--yes" in refused.err
    said_no = on_terminal(["guard", command], environment(guarded_url), "no\n", asked="Type yes")
    assert said_no.code == 1
    assert await guarded_sql.fetchval(text) == before
    wrong = cli("guard", "install", "--mode", "scold", "--yes", url=guarded_url)
    assert wrong.code == 64


async def test_mode_log_promises_no_more_than_it_keeps(platform_url: str, platform: Any) -> None:
    """G2: what disagrees is written down and left, so it is not said that none will drift."""
    bar = await add_bar(platform, mpesa_enabled=False)
    clean = cli("guard", "install", "--mode", "log", "--yes", url=platform_url)
    assert (clean.code, clean.out.splitlines()) == (
        0,
        [
            "Guards are on, mode log.",
            "All bars are in sync, and a direct write that disagrees is written down, and left.",
        ],
    )
    await platform.execute("update public.bars set mpesa_enabled = true")
    assert await drifted(platform) == [bar]
    again = cli("guard", "install", "--mode", "log", "--yes", url=platform_url)
    assert (again.code, "guards keep the rest" in again.out) == (2, False)
    assert again.out.splitlines()[-1].endswith("direct writes that disagree are written down, and left.")


async def test_uninstall_takes_the_guards_along(guarded_url: str, guarded_sql: Any) -> None:
    """Spec 1: one command removes what is ours; nothing in public refers to it any more."""
    assert cli("db", "uninstall", "--yes", url=guarded_url).code == 0
    assert await guarded_sql.fetchval("select count(*) from pg_trigger where tgname like 'mpesa_sync%'") == 0
    bar = await add_bar(guarded_sql, mpesa_enabled=True)
    assert await drifted(guarded_sql) == [bar]
