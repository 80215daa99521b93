"""SQL of the migration's own rows: who ran it, and what it changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

RECORD_RUN: Final = """
insert into mpesa_sync.migration_runs (id, actor, reason) values ($1, $2, $3) on conflict (id) do nothing
"""
CHANGED_IN_RUN: Final = """
select distinct bar_id from mpesa_sync.migration_journal where run_id = $1 and bar_id = any($2::uuid[])
"""


async def record_run(connection: Any, run_id: UUID, *, actor: str, reason: str) -> None:
    """Write down who starts a run and why."""
    await connection.execute(RECORD_RUN, run_id, actor, reason)


async def changed_in_run(connection: Any, run_id: UUID, bar_ids: Sequence[UUID]) -> set[UUID]:
    """Return which of these bars the run has changed, as its journal proves."""
    return {record["bar_id"] for record in await connection.fetch(CHANGED_IN_RUN, run_id, bar_ids)}
