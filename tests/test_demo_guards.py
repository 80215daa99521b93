"""The story's steps about guards and the reconciler turn red when either is not what they say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.db import bar_pages
from mpesa_sync.db.reconciler import Cycle
from mpesa_sync.demo import fleet, observer, story
from mpesa_sync.demo.stage import Stage
from mpesa_sync.demo.story import STEPS
from mpesa_sync.migration.service import MpesaMigrationService
from mpesa_sync.sync import guards, reconciler, reconciler_repair
from mpesa_sync.sync.reconciler import Fate, Policy, Reconciler
from tests.support.demo import after, staged
from tests.support.observer import see_all
from tests.support.venues import KEYS

_NOBODY: Final = """
create function public.nobody() returns trigger language plpgsql as $$
begin new.application_name := 'nobody'; return new; end $$;
create trigger nobody before insert on mpesa_sync.guard_hits for each row execute function public.nobody()
"""
_A_HIT: Final = """
insert into mpesa_sync.guard_hits (kind, bar_id, table_name, operation) values ('healed', gen_random_uuid(), 'b', 'u')
"""
_A_TRIGGER: Final = """
create trigger mpesa_sync_guard_left after update on public.bars
  for each row execute function public.set_updated_at()
"""


@pytest.fixture
async def stage(database_url: str, sql: Any) -> AsyncIterator[Stage]:
    """The stage as these steps find it: migrated."""
    async with staged(database_url, sql) as found:
        await MpesaMigrationService(found.database).run()
        yield found


async def wrong(stage: Stage, step_id: str) -> str | None:
    """Play one step; return what was wrong with it."""
    (played,) = await story.play(stage, [step for step in STEPS if step.id == step_id])
    return played.error


@pytest.mark.parametrize(
    ("beside", "statement", "said"),
    [
        ("install", "update mpesa_sync.guard_settings set mode = 'log'", "healed before anybody could see it"),
        pytest.param("install", _NOBODY, "written down: healed", marks=pytest.mark.prove),
        pytest.param(
            "install",
            "alter table public.mpesa_credentials disable trigger mpesa_sync_guard_update",
            "carried to the other field",
            marks=pytest.mark.prove,
        ),
        pytest.param("remove", _A_TRIGGER, "the triggers of before", marks=pytest.mark.prove),
        pytest.param(
            "remove",
            _A_HIT,
            "nothing of them is left",
            marks=pytest.mark.prove,
        ),
    ],
)
async def test_a_guard_that_is_none_is_found_out(
    stage: Stage, sql: Any, monkeypatch: pytest.MonkeyPatch, beside: str, statement: str, said: str
) -> None:
    """G1, G2, G4: mode log, no name of the program, a trigger switched off, leftovers; none stands afterwards."""
    before = await sql.fetch(observer.TRIGGERS)

    async def write(stage: Stage) -> None:
        await stage.plain.execute(statement)

    after(monkeypatch, beside, write)
    assert said in str(await wrong(stage, "guarded"))
    left = [record["trigger"] for record in await sql.fetch(observer.TRIGGERS) if record not in before]
    assert [trigger for trigger in left if "guard_left" not in trigger] == []


async def test_guards_that_could_not_be_installed_are_found_out(stage: Stage, sql: Any) -> None:
    """G5: bars that had drifted before are told by the exit code."""
    await sql.execute("update public.bars set mpesa_enabled = false where slug = 'nyali-beach'")
    assert "no bar had drifted before" in str(await wrong(stage, "guarded"))
    assert (await guards.status(stage.database)).mode is None


async def test_a_sweep_that_holds_removes_the_chain(stage: Stage, sql: Any) -> None:
    """C: all bars are looked at, those of the chain too; the venues are as they were."""
    await fleet.add(sql, KEYS)
    await MpesaMigrationService(stage.database).run()
    assert await wrong(stage, "reconciled") is None
    assert len(await see_all(sql)) == 12
    assert not any(seen.drifted for seen in (await see_all(sql)).values())


async def test_a_repair_that_only_says_so_is_found_out(stage: Stage, sql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """C: what was repaired is counted in the database; the chain is removed also where the step is wrong."""
    await fleet.add(sql, KEYS)
    await MpesaMigrationService(stage.database).run()

    async def lies(_database: Any, _bar_id: UUID, **_: Any) -> Fate:
        return Fate.REPAIRED

    monkeypatch.setattr(reconciler, "repair", lies)
    assert "2 repaired" in str(await wrong(stage, "reconciled"))
    assert len(await see_all(sql)) == 12


@pytest.mark.parametrize(
    "statement",
    [
        "update public.bars set mpesa_enabled = false where slug = 'nyali-beach'",
        "update public.mpesa_credentials c set is_active = c.is_active from public.bars b "
        "where b.id = c.tenant_id and b.slug = 'nyali-beach'",
    ],
)
async def test_what_a_sweep_must_not_leave_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    """C: the step reads both fields, and which transaction wrote the credentials."""
    real = Reconciler.sweep

    async def sweep(self: Reconciler, *, as_policy: Policy | None = None) -> Cycle | None:
        cycle = await real(self, as_policy=as_policy)
        await stage.plain.execute(statement)
        return cycle

    monkeypatch.setattr(Reconciler, "sweep", sweep)
    assert "mpesa_enabled follows is_active; credentials untouched" in str(await wrong(stage, "reconciled"))


async def test_a_repair_in_the_name_of_another_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """C: the audit says who has repaired."""
    monkeypatch.setattr(reconciler_repair, "ACTOR", "nobody")
    assert "in the audit" in str(await wrong(stage, "reconciled"))


async def test_a_sweep_that_only_observes_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """C: drift that is reported is still there."""
    real = Reconciler.sweep

    async def observes(self: Reconciler, *, as_policy: Policy | None = None) -> Cycle | None:
        return await real(self, as_policy=Policy.OBSERVE)

    monkeypatch.setattr(Reconciler, "sweep", observes)
    assert "2 repaired" in str(await wrong(stage, "reconciled"))


async def test_a_sweep_that_sees_one_direction_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """C, R2.1: both directions, and every bar."""
    real = bar_pages.page

    async def hidden_only(*arguments: Any) -> bar_pages.Page:
        page = await real(*arguments)
        return replace(page, drifted=tuple(bar for bar in page.drifted if bar.authority))

    monkeypatch.setattr(bar_pages, "page", hidden_only)
    assert "1 exposed found" in str(await wrong(stage, "reconciled"))


async def test_guards_that_were_left_on_are_found_out(stage: Stage) -> None:
    """C: what a guard heals is nothing for the reconciler to find."""
    await guards.install(stage.database)
    assert "both have drifted" in str(await wrong(stage, "reconciled"))
    assert await stage.plain.fetchval("select min(kind) from mpesa_sync.guard_hits") == "healed"
