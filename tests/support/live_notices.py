"""Who hears notices, and the log of versions in the order in which they were moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg

from tests.support import databases

VERSION: Final = "select coalesce((select version from mpesa_sync.bar_state where bar_id = $1), 0)"
_LOG: Final = """
create table public.moves (id bigint generated always as identity, bar_id uuid, version bigint);
create function public.log_move() returns trigger language plpgsql security definer as $$
begin
  insert into public.moves (bar_id, version) values (new.bar_id, new.version);
  return null;
end $$;
create trigger log_move after insert or update on mpesa_sync.bar_state
  for each row execute function public.log_move();
"""
_INVERSIONS: Final = """
select count(*) as moves, count(*) filter (where version <= before) as inversions
  from (select version, lag(version) over (partition by bar_id order by id) as before from public.moves) m
"""
_FLIP: Final = """
update public.mpesa_credentials set is_active = not is_active where tenant_id = $1 and environment = $2
"""
SEQUENCE_TWIN: Final = """
create sequence public.twin;
create or replace function mpesa_sync.notice_v1(p_bar uuid) returns void language plpgsql volatile as $$
begin
  insert into mpesa_sync.bar_state as s (bar_id, version, changed_in)
    values (p_bar, current_setting('twin.version')::bigint, pg_current_xact_id())
  on conflict (bar_id) do update set version = excluded.version, changed_in = excluded.changed_in
    where s.changed_in is distinct from excluded.changed_in;
end $$;
create function public.number() returns trigger language plpgsql as $$
begin
  perform set_config('twin.version', nextval('public.twin')::text, true);
  return new;
end $$;
create trigger number before update on public.mpesa_credentials for each row execute function public.number();
"""
"""Numbers a change by a sequence when it is written, before the bar is locked: what the version must not be."""


class Ear:
    """A program that does nothing but listen."""

    def __init__(self, connection: Any, other: Any) -> None:
        self._connection = connection
        self._other = other
        self.heard: list[str] = []

    async def all_heard(self) -> list[str]:
        """Return what was heard since the last call, once everything that was committed is in."""
        # Notices come in the order of commits: this one's own is after all that was sent before it.
        done = asyncio.Event()

        def mark(*_args: Any) -> None:
            done.set()

        await self._connection.add_listener("mark", mark)
        await self._other.execute("select pg_notify('mark', '')")
        async with asyncio.timeout(5):
            await done.wait()
        await self._connection.remove_listener("mark", mark)
        heard, self.heard = self.heard, []
        return heard


@asynccontextmanager
async def listening(url: str) -> AsyncIterator[Ear]:
    """Listen on our channel."""
    async with databases.plain(url) as connection, databases.plain(url) as other:
        ear = Ear(connection, other)
        await connection.add_listener("mpesa_sync", lambda _c, _p, _channel, payload: ear.heard.append(payload))
        yield ear


async def log_moves(connection: Any) -> None:
    """Log every version that is moved, in order: the bar's lock is held meanwhile."""
    await connection.execute(_LOG)


async def inversions(connection: Any) -> tuple[int, int]:
    """Return how many versions were moved, and how many of them were not higher than the one before."""
    record = await connection.fetchrow(_INVERSIONS)
    return record["moves"], record["inversions"]


async def version(connection: Any, bar_id: UUID) -> int:
    """Return the version of a bar, 0 where it has none."""
    return int(await connection.fetchval(VERSION, bar_id))


async def write_together(url: str, bar_id: UUID, *, writers: int, times: int) -> None:
    """Have writers change both rows of one bar at the same time, each in transactions of its own."""

    async def writer(number: int) -> None:
        environment = ("sandbox", "production")[number % 2]
        async with databases.plain(url) as connection:
            for _ in range(times):
                try:
                    await connection.execute(_FLIP, bar_id, environment)
                except asyncpg.PostgresError as exc:
                    raise AssertionError(f"the writer failed: {exc.sqlstate}") from exc

    await asyncio.gather(*(writer(number) for number in range(writers)))
