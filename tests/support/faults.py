"""Real faults inside the database, made by triggers of the test's own, and what a test needs to watch them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from mpesa_sync.backoff import Backoff

T = TypeVar("T")
QUICK: Final = Backoff(base_s=0.001, cap_s=0.004)
"""The retries of production, four attempts, with waits that a test need not feel."""
NEVER_AGAIN: Final = Backoff(max_retries=0)

_MACHINERY: Final = """
create schema if not exists injection;
create sequence if not exists injection.reached;
grant usage on schema injection to public;
grant usage, select on sequence injection.reached to public;
-- The sequence counts every time the trigger fires: it is not rolled back with the transaction that failed.
create or replace function injection.inject() returns trigger language plpgsql as $$
declare
  n bigint := nextval('injection.reached');
begin
  if n > tg_argv[1]::bigint then
    null;
  elsif tg_argv[0] = 'terminate' then
    perform pg_terminate_backend(pg_backend_pid());
    perform pg_sleep(10);
  elsif tg_argv[0] = 'sleep' then
    perform pg_sleep(10);
  else
    raise exception 'injected' using errcode = tg_argv[0];
  end if;
  return coalesce(new, old);
end $$;
"""
_REACHED: Final = "select case when is_called then last_value else 0 end from injection.reached"
_SESSIONS: Final = """
select count(*) from pg_stat_activity
 where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
"""
ALWAYS: Final = 1_000_000_000


@asynccontextmanager
async def injected(
    connection: Any, when: str, table: str, fault: str, *, times: int = ALWAYS, deferred: bool = False
) -> AsyncIterator[None]:
    """Make the first `times` firings of a trigger fail, and count all of them, while this block lasts.

    Arguments:
        when: `before update`, `after insert` and so on; for each row.
        table: with its schema.
        fault: a SQLSTATE to raise, `terminate` for the end of the backend, `sleep` for 10 s.
        times: 0 injects nothing and only counts.
        deferred: speak when constraints are checked: at SET CONSTRAINTS, else at COMMIT.
    """
    await connection.execute(_MACHINERY)
    await connection.execute("select setval('injection.reached', 1, false)")
    kind, manner = ("constraint trigger", "deferrable initially deferred") if deferred else ("trigger", "")
    await connection.execute(
        f"create {kind} injected {when} on {table} {manner} "
        f"for each row execute function injection.inject('{fault}', '{times}')"
    )
    try:
        yield
    finally:
        await connection.execute(f"drop trigger injected on {table}")


async def reached(connection: Any) -> int:
    """Return how often the injected trigger fired, rolled back or not."""
    return int(await connection.fetchval(_REACHED))


async def until(check: Callable[[], Awaitable[T]], *, deadline_s: float = 40.0) -> T:
    """Ask again and again until the answer is true, and return it; fail at the deadline."""
    end = time.monotonic() + deadline_s
    while not (answer := await check()):
        assert time.monotonic() < end, "this never came true"
        await asyncio.sleep(0.005)  # what is waited for needs the processor, too
    return answer


async def backends(connection: Any, application_name: str, *, state: str = "%") -> int:
    """Return how many sessions of an application this database has, in a state such as `idle in transaction`."""
    return int(
        await connection.fetchval(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name = $1 "
            "and coalesce(state, '') like $2 and pid <> pg_backend_pid()",
            application_name,
            state,
        )
    )


async def waits_for_a_lock(sql: Any) -> bool:
    """Whether a session of this database waits for a lock."""
    return bool(await sql.fetchval(_SESSIONS + "and wait_event_type = 'Lock'"))


async def has_no_transaction(sql: Any) -> bool:
    """Whether no other session of this database is in a transaction."""
    return not await sql.fetchval(_SESSIONS + "and xact_start is not null")


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.events: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(record.msg, dict)
        self.events.append(record.msg)


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Collect the log events of mpesa_sync, whatever else is configured."""
    logger, keeper = logging.getLogger("mpesa_sync"), _Keeper()
    level = logger.level
    logger.addHandler(keeper)
    logger.setLevel(logging.DEBUG)
    try:
        yield keeper.events
    finally:
        logger.removeHandler(keeper)
        logger.setLevel(level)


def named(events: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    """Return the events of one name."""
    return [entry for entry in events if entry["event"] == event]


_DEFERRING: Final = """
create or replace function injection.defer() returns trigger language plpgsql as $$
begin
  set constraints all deferred;
  return new;
end $$;
create trigger deferring before update on mpesa_sync.operations for each row execute function injection.defer();
"""


@asynccontextmanager
async def injected_at_commit(connection: Any, fault: str, *, times: int = ALWAYS) -> AsyncIterator[None]:
    """Do what `injected` does, at COMMIT itself.

    Our writers let deferred triggers speak before they read back, and that stays in force for the transaction; the
    last statement of a unit, which stores its result, therefore defers them again.
    """
    await connection.execute(_MACHINERY)
    await connection.execute(_DEFERRING)
    try:
        async with injected(connection, "after update", "mpesa_sync.operations", fault, times=times, deferred=True):
            yield
    finally:
        await connection.execute("drop trigger deferring on mpesa_sync.operations")
