"""SQL of `mpesa_sync.migration_runs`: who holds a run, how far it is, what is asked of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

LEASE_S: Final = 10.0
"""Seconds without a sign of life after which another process may take a run over; the database's clock counts them."""

_COLUMNS: Final = """
select r.id, r.kind, r.of_run, r.is_bound, r.state, r.wanted, r.actor, r.reason, r.options, r.report, r.round,
       r.candidates, r.cursor, r.token, r.holder, r.stopped_by, r.fault, r.started_at, r.heartbeat_at, r.finished_at,
       r.state in ('running', 'pausing', 'verifying') as is_active,
       coalesce(extract(epoch from clock_timestamp() - r.heartbeat_at), 'infinity')::float8 as silent_s
  from mpesa_sync.migration_runs r
"""
ACTIVE: Final = _COLUMNS + " where r.state in ('running', 'pausing', 'verifying') for update"
BY_ID: Final = _COLUMNS + " where r.id = $1"
BY_ID_LOCKED: Final = BY_ID + " for update"
STARTING_WITH: Final = (
    _COLUMNS + " where r.kind <> 'record' and r.id::text like $1 || '%' order by r.started_at desc limit 2"
)
LATEST: Final = _COLUMNS + " where r.kind <> 'record' order by r.started_at desc, r.id limit $1"

INSERT: Final = """
insert into mpesa_sync.migration_runs (id, kind, of_run, is_bound, state, actor, reason, options, report, candidates,
                                       token, holder, heartbeat_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, clock_timestamp())
on conflict (id) do update set heartbeat_at = clock_timestamp()
  where mpesa_sync.migration_runs.token = excluded.token
returning id
"""
CLAIM: Final = """
select r.round, r.cursor, r.report, r.wanted
  from mpesa_sync.migration_runs r where r.id = $1 and r.token = $2 for update
"""
ADVANCE: Final = """
update mpesa_sync.migration_runs set cursor = $3, report = $4, heartbeat_at = clock_timestamp()
 where id = $1 and token = $2
"""
NEXT_ROUND: Final = """
update mpesa_sync.migration_runs
   set round = $3, cursor = null, report = $4, candidates = $5, heartbeat_at = clock_timestamp(),
       state = case when wanted is null then 'running' else state end
 where id = $1 and token = $2
returning id
"""
BEAT: Final = """
update mpesa_sync.migration_runs set heartbeat_at = clock_timestamp() where id = $1 and token = $2 returning wanted
"""
VERIFYING: Final = """
update mpesa_sync.migration_runs
   set state = case when wanted is null then 'verifying' else state end, heartbeat_at = clock_timestamp()
 where id = $1 and token = $2 returning wanted
"""
END: Final = """
update mpesa_sync.migration_runs
   set state = $3, report = $4, stopped_by = $5, fault = $6, wanted = null, finished_at = clock_timestamp(),
       heartbeat_at = clock_timestamp(), token = null, holder = ''
 where id = $1 and token = $2
returning id
"""
TAKE_OVER: Final = """
update mpesa_sync.migration_runs
   set state = 'running', wanted = null, token = $2, holder = $3, stopped_by = null, fault = null, finished_at = null,
       options = $4, heartbeat_at = clock_timestamp()
 where id = $1
"""
LEFT_BEHIND: Final = """
update mpesa_sync.migration_runs
   set state = 'interrupted', token = null, holder = '', wanted = null, finished_at = clock_timestamp()
 where id = $1
"""
ASK: Final = """
update mpesa_sync.migration_runs
   set wanted = $2, state = case when $2 = 'pause' then 'pausing' else state end
 where id = $1
"""
CANCEL: Final = """
update mpesa_sync.migration_runs
   set state = 'cancelled', token = null, holder = '', wanted = null, finished_at = clock_timestamp()
 where id = $1
"""


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run as it stands in the database. `options` and `report` are JSON texts.

    `silent_s`: seconds since its last sign of life. `holder`: where the process is that holds it.
    """

    id: UUID
    kind: str
    of_run: UUID | None
    is_bound: bool
    state: str
    wanted: str | None
    actor: str
    reason: str
    options: str
    report: str
    round: int
    candidates: int
    cursor: UUID | None
    token: UUID | None
    holder: str
    stopped_by: str | None
    fault: str | None
    started_at: datetime
    heartbeat_at: datetime | None
    finished_at: datetime | None
    is_active: bool
    silent_s: float


@dataclass(frozen=True, slots=True)
class Claim:
    """How far a run is, as its locked row says. `report` is a JSON text."""

    round: int
    cursor: UUID | None
    report: str
    wanted: str | None


async def active(connection: Any) -> StoredRun | None:
    """Return the run that is under way, its row locked; None where there is none."""
    record = await connection.fetchrow(ACTIVE)
    return None if record is None else StoredRun(**record)


async def find(connection: Any, run_id: UUID, *, locked: bool = False) -> StoredRun | None:
    """Return a run by its id; None where there is none."""
    record = await connection.fetchrow(BY_ID_LOCKED if locked else BY_ID, run_id)
    return None if record is None else StoredRun(**record)


async def starting_with(connection: Any, prefix: str) -> list[StoredRun]:
    """Return runs whose id begins so, at most two: enough to see whether one is meant."""
    return [StoredRun(**record) for record in await connection.fetch(STARTING_WITH, prefix)]


async def latest(connection: Any, limit: int) -> list[StoredRun]:
    """Return the last runs, the newest first; not those of single records."""
    return [StoredRun(**record) for record in await connection.fetch(LATEST, limit)]


async def insert(
    connection: Any,
    run_id: UUID,
    *,
    kind: str,
    of_run: UUID | None,
    is_bound: bool,
    state: str,
    actor: str,
    reason: str,
    options: str,
    report: str,
    candidates: int,
    token: UUID,
    holder: str,
) -> None:
    """Write down a run before it changes anything; the same again, after a lost answer, changes nothing."""
    await connection.fetchval(
        INSERT, run_id, kind, of_run, is_bound, state, actor, reason, options, report, candidates, token, holder
    )


async def claim(connection: Any, run_id: UUID, token: UUID) -> Claim | None:
    """Lock a run's row and return how far it is; None where this token does not hold it (any more)."""
    record = await connection.fetchrow(CLAIM, run_id, token)
    return None if record is None else Claim(**record)


async def advance(connection: Any, run_id: UUID, token: UUID, *, cursor: UUID, report: str) -> None:
    """Move a claimed run's cursor and counters, in the transaction that changed the bars."""
    await connection.execute(ADVANCE, run_id, token, cursor, report)


async def next_round(connection: Any, run_id: UUID, token: UUID, *, number: int, report: str, candidates: int) -> bool:
    """Begin another round of a run; return whether this token still holds it."""
    return await connection.fetchval(NEXT_ROUND, run_id, token, number, report, candidates) is not None


async def beat(connection: Any, run_id: UUID, token: UUID) -> tuple[bool, str | None]:
    """Give a sign of life; return whether this token still holds the run, and what is asked of it."""
    record = await connection.fetchrow(BEAT, run_id, token)
    return record is not None, None if record is None else record["wanted"]


async def verifying(connection: Any, run_id: UUID, token: UUID) -> tuple[bool, str | None]:
    """Say that the run verifies now; otherwise as `beat`."""
    record = await connection.fetchrow(VERIFYING, run_id, token)
    return record is not None, None if record is None else record["wanted"]


async def end(
    connection: Any,
    run_id: UUID,
    token: UUID,
    *,
    state: str,
    report: str,
    stopped_by: str | None,
    fault: str | None,
) -> bool:
    """Write down how a run ended and let it go; return whether this token still held it."""
    return await connection.fetchval(END, run_id, token, state, report, stopped_by, fault) is not None


async def take_over(connection: Any, run_id: UUID, *, token: UUID, holder: str, options: str) -> None:
    """Give a run, whose row is locked, to another process."""
    await connection.execute(TAKE_OVER, run_id, token, holder, options)


async def left_behind(connection: Any, run_id: UUID) -> None:
    """Mark a run, whose row is locked, as interrupted: its process is gone."""
    await connection.execute(LEFT_BEHIND, run_id)


async def ask(connection: Any, run_id: UUID, wanted: str) -> None:
    """Ask the process that holds a run to `pause` or `cancel` it."""
    await connection.execute(ASK, run_id, wanted)


async def cancel(connection: Any, run_id: UUID) -> None:
    """End a run that nobody holds, for good; what it has corrected stays."""
    await connection.execute(CANCEL, run_id)
