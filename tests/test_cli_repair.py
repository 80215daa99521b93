"""`repair`: one bar corrected to what staff switched, with who and why in the history (R5.4, P9)."""

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest

from tests.support.cli import cli
from tests.support.observer import database_hash, see
from tests.support.venues import add_bar


@pytest.mark.parametrize(("shown", "authority"), [(False, True), (None, True), (True, False), (True, None)])
async def test_a_drifted_bar_is_corrected(
    shown: bool | None, authority: bool | None, database_url: str, sql: Any
) -> None:
    """R5.4: is_active wins in both directions; `check` is 0 afterwards; no key is needed."""
    bar = await add_bar(sql, mpesa_enabled=shown, production=authority)
    ended = cli("repair", bar.hex, "--actor", "Asha", "--reason", "ticket 512", url=database_url)
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"{bar.hex}: repaired.")
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.flags) == (authority is True, {"production": authority})
    assert cli("check", "--bar", str(bar), url=database_url).code == 0
    record = await sql.fetchrow("select kind, actor, reason from mpesa_sync.operations where bar_id = $1", bar)
    assert tuple(record) == ("repair", "Asha", "ticket 512")


async def test_a_bar_in_sync_is_left_as_it_is(database_url: str, sql: Any) -> None:
    """R1: a no-op writes neither table, and says that nothing was changed."""
    bar = await add_bar(sql, mpesa_enabled=None, production=False)
    before = await database_hash(sql)
    ended = cli("repair", str(bar), url=database_url)
    assert ended.code == 0
    assert "nothing was changed" in ended.out
    after = await database_hash(sql)
    assert {name for name in after if after[name] != before[name]} == {"mpesa_sync.operations"}


async def test_the_actor_is_who_runs_it_unless_named(database_url: str, sql: Any) -> None:
    """Spec 5: every write leaves who; a variable such as USER cannot forge it."""
    bar = await add_bar(sql, mpesa_enabled=True)
    assert cli("repair", bar.hex, url=database_url, USER="mallory", LOGNAME="mallory").code == 0
    actor = await sql.fetchval("select actor from mpesa_sync.operations where bar_id = $1", bar)
    assert actor == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


async def test_stale_authority_is_refused_unless_chosen_knowingly(database_url: str, sql: Any) -> None:
    """R2: secrets stand in bars and no credentials row does; only --authority credentials repairs it."""
    await sql.execute("alter table bars add column mpesa_passkey_encrypted text")
    bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("update bars set mpesa_passkey_encrypted = 'sealed' where id = $1", bar)
    refused = cli("repair", bar.hex, url=database_url)
    assert (refused.code, refused.out) == (1, "")
    assert "--authority credentials" in refused.err
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.mpesa_enabled is True
    assert cli("repair", bar.hex, "--authority", "credentials", url=database_url).code == 0
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.mpesa_enabled is False


async def test_an_unknown_bar_is_1(database_url: str) -> None:
    """R1: BarNotFound; nothing is recorded."""
    ended = cli("repair", "nowhere", url=database_url)
    assert (ended.code, ended.out) == (1, "")


@pytest.mark.parametrize("option", [("--actor", ""), ("--actor", "a\u202eb"), ("--reason", "x" * 501)], ids=repr)
async def test_a_wrong_actor_or_reason_is_usage(option: tuple[str, str], database_url: str, sql: Any) -> None:
    """Spec 6: 64 is usage; nothing is written."""
    bar = await add_bar(sql, mpesa_enabled=True)
    before = await database_hash(sql)
    assert cli("repair", bar.hex, *option, url=database_url).code == 64
    assert await database_hash(sql) == before


async def test_it_needs_db_init(platform_url: str) -> None:
    """Spec 6: repair writes history, so it says what to run first."""
    ended = cli("repair", "x", url=platform_url)
    assert (ended.code, ended.out) == (1, "")
    assert "mpesa-sync db init" in ended.err


async def test_a_refusal_of_the_platform_is_told_in_plain_words(database_url: str, sql: Any) -> None:
    """faults.md: a constraint that refuses the value rolls back and is said, without the database's own text."""
    bar = await add_bar(sql, mpesa_enabled=True)
    await sql.execute("alter table bars add constraint keep_one check (mpesa_enabled) not valid")
    ended = cli("repair", bar.hex, url=database_url)
    assert (ended.code, ended.out) == (1, "")
    assert "the constraint keep_one does not allow it" in ended.err
