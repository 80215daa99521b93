"""`migrate` as a real process where things stand in its way: hidden rows, a CHECK, plans that do not fit (R2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mpesa_sync.db import plan_identity
from mpesa_sync.migration.plan_file import PlanHeader
from tests.support import databases
from tests.support.cli import cli
from tests.support.migrate_cli import add_drift, counts, drifted
from tests.support.migrating import platform_hash
from tests.support.observer import database_hash, see_all
from tests.support.plans import written
from tests.support.roles import login_role


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--yes",), ("--plan-out", "a.plan")], ids=str)
async def test_rows_that_a_policy_hides_are_said_and_nothing_is_changed(
    platform_url: str, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """faults.md 4: 42501 in plain words, exit code 1, nothing on stdout that could be taken for a result."""
    async with databases.plain(platform_url) as sql, login_role(sql, platform_url) as role:
        await add_drift(sql, hidden=2, exposed=1)
        await sql.execute(
            "alter table public.mpesa_credentials enable row level security;"
            f"grant select, update on public.bars, public.mpesa_credentials to {role.name}"
        )
        before = await platform_hash(sql)
        ended = cli("migrate", *arguments, url=role.url, cwd=tmp_path)
        assert (ended.code, ended.out) == (1, "")
        assert "row level security policy hides rows" in " ".join(ended.err.split())
        assert await platform_hash(sql) == before
        assert await sql.fetchval("select to_regnamespace('mpesa_sync')") is None
    plan = tmp_path / "a.plan"
    assert not plan.exists()


async def test_a_check_that_refuses_false_is_quarantined_in_plain_words(database_url: str, sql: Any) -> None:
    """R2.4: a bar must keep one payment method; what it is, and how to meet it; the others are corrected."""
    await add_drift(sql, hidden=2, exposed=2)
    await sql.execute(
        "alter table public.bars add constraint one_way_to_pay check (payment_cash_enabled or mpesa_enabled) not valid;"
        "update public.bars set payment_cash_enabled = false where mpesa_enabled"
    )
    ended = cli("migrate", "--yes", url=database_url)
    assert ended.code == 3, ended.err
    said = " ".join(ended.out.split())
    assert said.count("SQLSTATE 23514") == 2
    assert "The database refuses this change: the constraint one_way_to_pay does not allow it. Meet that rule" in said
    seen = await see_all(sql)
    assert {bar for bar, one in seen.items() if one.drifted} == {bar for bar, one in seen.items() if not one.authority}
    assert len(await drifted(sql)) == 2


async def test_a_plan_of_elsewhere_or_of_yesterday_is_refused(
    database_url: str, platform_url: str, sql: Any, tmp_path: Path
) -> None:
    """R2: 64, which database it was made for or since when it is too old, and nothing is changed."""
    await add_drift(sql, hidden=2)
    async with databases.plain(platform_url) as other:
        await add_drift(other, exposed=1)
    elsewhere, old = tmp_path / "elsewhere.plan", tmp_path / "old.plan"
    assert cli("migrate", "--plan-out", str(elsewhere), url=platform_url).code == 2
    identity = await plan_identity.database_identity(sql)
    made = datetime.now(UTC) - timedelta(hours=25)
    written(old, [], PlanHeader.made(identity, now=made, actor="ops:amina", scanned=2))
    before = await database_hash(sql)
    for plan, words in ((elsewhere, "was made for the database"), (old, "expired at ")):
        refused = cli("migrate", "--plan", str(plan), "--yes", "--json", url=database_url)
        assert (refused.code, refused.out) == (64, "")
        assert words in " ".join(refused.err.split())
    assert await database_hash(sql) == before
    written(old, [], PlanHeader.made(identity, now=datetime.now(UTC), actor="ops:amina", scanned=2))
    assert counts(cli("migrate", "--plan", str(old), "--yes", "--json", url=database_url))["outside"] == 2
