"""What the tests of the migration share: bars that have drifted, and counters that must add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from mpesa_sync.migration.report import Outcome, Progress, Run
from tests.support.observer import database_hash, see_all
from tests.support.venues import add_bar


async def drift(sql: Any, number: int, *, name: str = "Bar") -> list[UUID]:
    """Insert hidden bars."""
    bars = [await add_bar(sql, mpesa_enabled=False, sandbox=True) for _ in range(number)]
    await sql.execute("update public.bars set name = $2 where id = any($1::uuid[])", bars, name)
    return bars


async def drifted(sql: Any) -> set[UUID]:
    return {bar_id for bar_id, seen in (await see_all(sql)).items() if seen.drifted}


async def platform_hash(sql: Any) -> dict[str, str]:
    """Return a digest of the platform's own tables."""
    return {table: text for table, text in (await database_hash(sql)).items() if table.startswith("public.")}


def adds_up(run: Run) -> bool:
    """Whether the counters are what `RunReport` promises."""
    report = run.report
    outcomes = sum(getattr(report, outcome.value) for outcome in Outcome)
    return report.scanned == report.consistent + report.drifted and report.drifted == outcomes


def once(phase: str, act: Callable[[], object], *, settled: int = 0) -> Callable[[Progress], None]:
    """Return a progress callback that does something at the first moment like this."""
    done: list[object] = []

    def callback(progress: Progress) -> None:
        if progress.phase == phase and progress.settled >= settled and not done:
            done.append(act())

    return callback
