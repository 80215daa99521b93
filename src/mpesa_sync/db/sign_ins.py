"""SQL of the budgets against guessing: attempts counted per bucket in windows, and addresses that are known.

A bucket is named by a digest, so that no account name and no address stands in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

COUNT: Final = """
insert into mpesa_sync.sign_in_failures as f (bucket, count, window_began_at)
select w.bucket, 1, now() from unnest($1::text[]) w (bucket) order by w.bucket
on conflict (bucket) do update
  set count = case when f.window_began_at > now() - $2::interval then f.count + 1 else 1 end,
      window_began_at = case when f.window_began_at > now() - $2::interval then f.window_began_at else now() end
returning f.bucket, f.count, f.window_began_at,
          ceil(extract(epoch from f.window_began_at + $2::interval - now()))::int as remaining_s
"""
LOCK: Final = """
select 1 from mpesa_sync.sign_in_failures where bucket = any($1::text[]) order by bucket for update
"""
GIVE_BACK: Final = """
update mpesa_sync.sign_in_failures f set count = greatest(f.count - 1, 0)
  from unnest($1::text[], $2::timestamptz[]) r (bucket, window_began_at)
 where f.bucket = r.bucket and f.window_began_at = r.window_began_at
"""
PURGE: Final = """
delete from mpesa_sync.sign_in_failures f
 using (select o.bucket from mpesa_sync.sign_in_failures o
         where o.window_began_at <= now() - $1::interval
         order by o.bucket limit $2 for update skip locked) old
 where f.bucket = old.bucket
"""
IS_KNOWN: Final = """
select exists (select 1 from mpesa_sync.sign_in_addresses
                where account_id = $1 and address = $2 and last_at > now() - $3::interval)
"""
REMEMBER: Final = """
insert into mpesa_sync.sign_in_addresses (account_id, address) values ($1, $2)
on conflict (account_id, address) do update set last_at = now()
"""
FORGET: Final = "delete from mpesa_sync.sign_in_addresses where account_id = $1 and last_at <= now() - $2::interval"


@dataclass(frozen=True, slots=True)
class Counted:
    """A bucket with this attempt counted in. `remaining_s`: seconds until its window ends."""

    bucket: str
    count: int
    window_began_at: datetime
    remaining_s: int


async def count(connection: Any, buckets: Sequence[str], window: timedelta) -> list[Counted]:
    """Count one attempt in every bucket, in one order for all, and return what each holds now."""
    return [Counted(**record) for record in await connection.fetch(COUNT, list(buckets), window)]


async def give_back(connection: Any, counted: Sequence[Counted]) -> None:
    """Take one attempt out of every bucket again, unless its window has ended meanwhile."""
    buckets = [one.bucket for one in counted]
    await connection.execute(LOCK, buckets)
    await connection.execute(GIVE_BACK, buckets, [one.window_began_at for one in counted])


async def purge(connection: Any, window: timedelta, *, at_most: int) -> None:
    """Delete buckets whose window is over, without waiting for anybody who does the same."""
    await connection.execute(PURGE, window, at_most)


async def is_known(connection: Any, account_id: UUID, address: str, within: timedelta) -> bool:
    """Return whether this account signed in from this address lately."""
    return bool(await connection.fetchval(IS_KNOWN, account_id, address, within))


async def remember(connection: Any, account_id: UUID, address: str, within: timedelta) -> None:
    """Note that this account signed in from this address, and forget addresses not used for `within`."""
    await connection.execute(REMEMBER, account_id, address)
    await connection.execute(FORGET, account_id, within)
