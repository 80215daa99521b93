"""The story's steps about a fleet turn red when a plan, a kill, a resumed run or a verification is not as they say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from mpesa_sync.demo import fleet, fleet_story, legacy, observer, story
from mpesa_sync.demo.stage import Stage
from mpesa_sync.demo.story import STEPS
from mpesa_sync.migration.service import MpesaMigrationService
from tests.support.demo import after, before, staged
from tests.support.observer import see_all

FLEET: Final = ("planned", "killed", "resumed", "verified")
PLAN: Final = "friday.plan"
ONE: Final = fleet.chain()[0].id
"""A bar of the chain whose flag is NULL while it is switched on, so that it is in the plan."""
TOUCHED: Final = f"update public.bars set name = name where id = '{ONE}'"
CREDENTIALS_TOUCHED: Final = f"update public.mpesa_credentials set is_active = is_active where tenant_id = '{ONE}'"
EXPOSED_AGAIN: Final = "update public.bars set mpesa_enabled = true where slug = 'pwani-002'"
WRITTEN_TWICE: Final = """
insert into mpesa_sync.migration_journal (run_id, bar_id, previous, current)
select run_id, bar_id, previous, current from mpesa_sync.migration_journal limit 1
"""
OUTSIDE_TOUCHED: Final = "update public.bars set name = name where slug = 'pwani-004'"


@pytest.fixture
async def stage(database_url: str, sql: Any) -> AsyncIterator[Stage]:
    """The stage with its venues."""
    async with staged(database_url, sql) as found:
        yield found


async def wrong(stage: Stage, *steps: str) -> dict[str, str]:
    """Play steps; return what was wrong with those that did not hold."""
    chosen = [step for step in STEPS if step.id in steps]
    return {step.id: step.error for step in await story.play(stage, chosen) if step.error}


def rewritten(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Stage], Awaitable[None]]:
    """Return what changes the lines of the plan."""

    async def rewrite(stage: Stage) -> None:
        path = stage.folder / PLAN
        path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))

    return rewrite


def written(statement: str) -> Callable[[Stage], Awaitable[None]]:
    """Return what runs a statement, as another program."""

    async def write(stage: Stage) -> None:
        await stage.plain.execute(statement)

    return write


async def readable_by_all(stage: Stage) -> None:
    (stage.folder / PLAN).chmod(0o644)


def _turned(lines: list[bytes]) -> list[bytes]:
    bar = json.loads(lines[1])
    return [lines[0], json.dumps(bar | {"authority": not bar["authority"]}).encode() + b"\n", *lines[2:]]


@pytest.mark.prove
async def test_all_of_them_hold_and_leave_nothing(stage: Stage, sql: Any) -> None:
    """Issue 5: also where some venues are in the plan; the chain goes with the last step."""
    assert await wrong(stage, *FLEET, "guarded", "reconciled") == {}
    assert len(await see_all(sql)) == 12
    assert not any(seen.drifted for seen in (await see_all(sql)).values())
    assert await sql.fetchval(observer.GUARD_ROWS) == 0


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        (written(TOUCHED), "nothing was written"),
        pytest.param(
            rewritten(lambda lines: [lines[0], *lines[2:]]), "the file names exactly", marks=pytest.mark.prove
        ),
        pytest.param(rewritten(_turned), "what customers will be shown", marks=pytest.mark.prove),
        pytest.param(rewritten(lambda lines: [b" " + lines[0], *lines[1:]]), "computed anew", marks=pytest.mark.prove),
        pytest.param(readable_by_all, "only its owner", marks=pytest.mark.prove),
    ],
)
async def test_a_plan_that_is_wrong_or_writes_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, deed: Callable[[Stage], Awaitable[None]], said: str
) -> None:
    """R2: the plan is held against the story's own reading, and every table against its digest."""
    after(monkeypatch, "--plan-out", deed)
    assert said in (await wrong(stage, "planned"))["planned"]


async def test_a_changed_plan_that_is_taken_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: one that nobody has changed is applied, which the step does not expect."""
    monkeypatch.setattr(fleet_story, "_flipped", lambda plan: plan)
    assert "refused, and nothing was written" in (await wrong(stage, "planned"))["planned"]


@pytest.fixture
def one_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the application of a changed plan: its refusal is taken as said."""
    real = Stage.command

    async def command(self: Stage, *arguments: str) -> tuple[int, list[str]]:
        return (64, []) if "changed.plan" in arguments else await real(self, *arguments)

    monkeypatch.setattr(Stage, "command", command)


async def test_a_kill_that_comes_too_late_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, one_plan: None
) -> None:
    """R2: a run that nothing holds up ends by itself; what was to be killed is gone."""

    @asynccontextmanager
    async def free(_url: Any, _bar_id: Any) -> AsyncIterator[int]:
        yield 0

    monkeypatch.setattr(fleet, "row_held", free)
    found = await wrong(stage, "planned", "killed")
    assert "killed while it waited" in found["killed"]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (TOUCHED.replace("name = name", "mpesa_enabled = false"), "the batch in hand was rolled back"),
        pytest.param(WRITTEN_TWICE, "the journal of the run", marks=pytest.mark.prove),
        pytest.param(CREDENTIALS_TOUCHED, "no credentials were touched"),
        pytest.param("update mpesa_sync.migration_runs set state = 'done'", "interrupted", marks=pytest.mark.prove),
    ],
)
async def test_what_a_kill_must_not_leave_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, one_plan: None, statement: str, said: str
) -> None:
    """R2: half a batch, a journal that says something else, credentials written, a run that seems to be over."""
    real = fleet.gone

    async def gone(connection: Any, pid: int | None) -> None:
        await real(connection, pid)
        await connection.execute(statement)

    monkeypatch.setattr(fleet, "gone", gone)
    found = await wrong(stage, "planned", "killed")
    assert said in found["killed"]


@pytest.fixture
def resumed_at_once(monkeypatch: pytest.MonkeyPatch, one_plan: None) -> list[str]:
    """In the place of `resume`, let a run do the whole plan, and then the statements that a test asks for."""
    real, statements = Stage.command, list[str]()

    async def command(self: Stage, *arguments: str) -> tuple[int, list[str]]:
        if "resume" not in arguments:
            return await real(self, *arguments)
        assert self.planned is not None
        run = await MpesaMigrationService(self.database).run(plan=list(self.planned.bars.items()))
        assert run.report.fixed == len(self.planned.bars)
        for statement in statements:
            await self.plain.execute(statement)
        return 0, ["Done", f"  {len(self.planned.bars):>9,}    fixed"]

    monkeypatch.setattr(Stage, "command", command)
    return statements


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (EXPOSED_AGAIN.replace("true", "not mpesa_enabled"), "are what the plan has said"),
        pytest.param(WRITTEN_TWICE, "each was changed once", marks=pytest.mark.prove),
        pytest.param(OUTSIDE_TOUCHED, "not in the plan were not written", marks=pytest.mark.prove),
        pytest.param(CREDENTIALS_TOUCHED, "of the same transaction"),
        pytest.param("select 1", None, marks=pytest.mark.prove),
    ],
)
async def test_a_resumed_run_that_ends_otherwise_is_found_out(
    stage: Stage, resumed_at_once: list[str], statement: str, said: str | None
) -> None:
    """R2: a bar that is not as planned, one done twice, one outside of the plan, credentials."""
    resumed_at_once.append(statement)
    found = await wrong(stage, "planned", "resumed")
    assert said in found["resumed"] if said else found == {}


async def test_a_story_without_a_plan_is_red(stage: Stage) -> None:
    """Nothing can be applied, or gone on with, that was never planned."""
    assert set(await wrong(stage, "killed", "resumed")) == {"killed", "resumed"}


async def test_a_pass_that_repairs_is_no_verification(stage: Stage) -> None:
    """R2.3: the venues have drifted here, and are corrected by what was to find nothing."""
    assert "nothing was left to do" in (await wrong(stage, "verified"))["verified"]


@pytest.mark.prove
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("update public.bars set name = name where slug = 'savanna'", "nothing was written"),
        ("update public.bars set mpesa_enabled = false where slug = 'savanna'", "nothing was written"),
    ],
)
async def test_a_verification_that_writes_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, statement: str, said: str
) -> None:
    """R2.3: every table is compared."""
    await MpesaMigrationService(stage.database).run()
    after(monkeypatch, "migrate", written(statement))
    assert said in (await wrong(stage, "verified"))["verified"]


async def test_a_cause_that_is_still_there_is_found_out(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """R2.4: the platform's check refuses the record a second time."""
    async with legacy.at_least_one_method(stage.plain):
        await MpesaMigrationService(stage.database).run()
    before(monkeypatch, "retry", written(legacy.AT_LEAST_ONE_METHOD + " not valid"))
    found = await wrong(stage, "quarantine-retried")
    assert "exit code 0: corrected" in found["quarantine-retried"]


@pytest.mark.prove
@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("update public.bars set mpesa_enabled = true where slug = 'jua-kali'", "mpesa_enabled is what is_active was"),
        ("update mpesa_sync.migration_quarantine set resolved_at = null", "the quarantine is empty"),
    ],
)
async def test_a_retry_that_only_says_so_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, statement: str, said: str
) -> None:
    """R2.4: the step reads the bar and the quarantine, not the report."""
    async with legacy.at_least_one_method(stage.plain):
        await MpesaMigrationService(stage.database).run()
    after(monkeypatch, "retry", written(statement))
    assert said in (await wrong(stage, "quarantine-retried"))["quarantine-retried"]


async def test_a_quarantine_that_keeps_something_else_is_found_out(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R2.4: exactly the poisoned record is set aside."""
    after(
        monkeypatch,
        "--yes",
        written(
            "insert into mpesa_sync.migration_quarantine (bar_id, run_id, code, message, attempts) "
            "select gen_random_uuid(), run_id, code, message, 1 from mpesa_sync.migration_quarantine"
        ),
    )
    assert "nothing else is in it" in (await wrong(stage, "poisoned"))["poisoned"]
