"""Faults for many bars at once: triggers that stay, and fail only for the bar, place and times that are armed."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from tests.support.whole_model import Trouble

INSTALL: Final = """
create schema trouble;
create table trouble.armed (bar_id uuid primary key, site text, fault text, lane int, first bigint, last bigint);
create function trouble.meet(p_bar uuid, p_site text) returns void language plpgsql volatile as $$
declare
  v record;
  n bigint;
begin
  select * into v from trouble.armed where bar_id = p_bar and site = p_site;
  if not found then
    return;
  end if;
  n := nextval(('trouble.lane_' || v.lane)::regclass);  -- not rolled back with whoever failed
  if n > v.last then
    return;
  elsif v.fault = 'terminate' then
    perform pg_terminate_backend(pg_backend_pid());
    perform pg_sleep(10);
  else
    raise exception 'injected' using errcode = v.fault;
  end if;
end $$;
create function trouble.on_operation() returns trigger language plpgsql volatile as $$
begin
  perform trouble.meet(new.bar_id, tg_argv[0]);
  if tg_argv[0] = 'finish' then
    set constraints all deferred;
  end if;
  return new;
end $$;
create function trouble.on_credentials() returns trigger language plpgsql volatile as $$
begin perform trouble.meet(new.tenant_id, 'credentials'); return new; end $$;
create function trouble.on_bar() returns trigger language plpgsql volatile as $$
begin perform trouble.meet(new.id, 'bars'); return new; end $$;
create trigger aa_claim before insert on mpesa_sync.operations
  for each row execute function trouble.on_operation('claim');
create trigger aa_finish before update on mpesa_sync.operations
  for each row execute function trouble.on_operation('finish');
create constraint trigger zz_commit after update on mpesa_sync.operations deferrable initially deferred
  for each row execute function trouble.on_operation('commit');
create trigger aa_trouble before update on public.mpesa_credentials
  for each row execute function trouble.on_credentials();
create trigger aa_trouble before update on public.bars for each row execute function trouble.on_bar();
"""
_LANE: Final = "create sequence trouble.lane_{}"
_ARM: Final = """
insert into trouble.armed (bar_id, site, fault, lane, first, last)
select $1, $2, $3, $4, n, n + $5
  from (select case when is_called then last_value else 0 end as n from trouble.lane_{}) counted
returning first
"""
_DISARM: Final = "delete from trouble.armed where bar_id = $1"
_MET: Final = "select case when is_called then last_value else 0 end from trouble.lane_{}"
_EVER: Final = 1_000_000


class Lane:
    """The faults of one lane of the machine: one is armed at a time, and how often it was met is counted."""

    def __init__(self, sql: Any, number: int) -> None:
        self._sql = sql
        self._number = number
        self._first = 0

    async def open(self) -> None:
        """Make the counter of the lane."""
        await self._sql.execute(_LANE.format(self._number))

    async def arm(self, bar: UUID, trouble: Trouble) -> None:
        """Let the next operation on a bar meet a fault; four times is ever."""
        times = trouble.times if trouble.times < 4 else _EVER
        self._first = await self._sql.fetchval(
            _ARM.format(self._number), bar, trouble.site, trouble.fault, self._number, times
        )

    async def disarm(self, bar: UUID, trouble: Trouble) -> int:
        """Take it back; return how often it failed somebody."""
        await self._sql.execute(_DISARM, bar)
        met = int(await self._sql.fetchval(_MET.format(self._number))) - self._first
        return min(met, trouble.times if trouble.times < 4 else met)
