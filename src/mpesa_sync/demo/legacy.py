"""The other programs of the platform, as they are: plain SQL that writes one field and not the other.

Everything here is what mpesa-sync is there to survive. Nothing of the product uses it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from mpesa_sync.demo.venues import Venue
from mpesa_sync.secret import Secret

STAFF_APP: Final = (
    "update public.mpesa_credentials set is_active = $2 where tenant_id = $1 and environment = 'production'"
)
"""The old staff app: it knows the credentials only."""
STAFF_APP_ALL: Final = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1"
"""The same, for venues whose credentials are for either environment."""
SUPPORT_SCRIPT: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
"""A support script: it knows the customers' flag only."""
NEW_SECRETS: Final = """
update public.mpesa_credentials set consumer_key_enc = $2, consumer_secret_enc = $3, passkey_enc = $4
 where tenant_id = $1 and environment = 'production'
"""
"""Saving credentials, as a settings service does it."""

KILL_CONNECTIONS: Final = """
select count(pg_terminate_backend(pid)) from pg_catalog.pg_stat_activity
 where datname = current_database() and backend_type = 'client backend' and application_name like 'mpesa-sync%'
"""
"""What an administrator, or a failover, does to every connection of ours."""

FREEZE: Final = """
create function public.legacy_freeze() returns trigger language plpgsql as $$
begin
  if new.slug = 'nyali-beach' then
    raise exception 'stock-taking: % may not be changed tonight', new.slug;
  end if;
  return new;
end $$;
create trigger legacy_freeze before update on public.bars for each row execute function public.legacy_freeze();
"""
UNFREEZE: Final = "drop function public.legacy_freeze() cascade"

AT_LEAST_ONE_METHOD: Final = """
alter table public.bars add constraint at_least_one_method
  check (coalesce(mpesa_enabled, false) or coalesce(payment_cash_enabled, false)
         or coalesce(payment_card_enabled, false))
"""
ANY_METHODS: Final = "alter table public.bars drop constraint at_least_one_method"


@asynccontextmanager
async def program(url: Secret, name: str) -> AsyncIterator[Any]:
    """Give a connection of another program, which calls itself `name`."""
    connection: Any = await asyncpg.connect(url.reveal(), server_settings={"application_name": name})
    try:
        yield connection
    finally:
        await connection.close()


async def staff_app_switches(connection: Any, venue: Venue, on: bool) -> None:
    """Write `mpesa_credentials.is_active` alone, and commit."""
    await connection.execute(STAFF_APP, venue.id, on)


async def support_script_sets(connection: Any, venue: Venue, shown: bool) -> None:
    """Write `bars.mpesa_enabled` alone, and commit."""
    await connection.execute(SUPPORT_SCRIPT, venue.id, shown)


@asynccontextmanager
async def stock_taking(connection: Any) -> AsyncIterator[None]:
    """A trigger of the platform that refuses every change of one bar, as long as the block lasts."""
    await connection.execute(FREEZE)
    try:
        yield
    finally:
        await connection.execute(UNFREEZE)


@asynccontextmanager
async def at_least_one_method(connection: Any) -> AsyncIterator[None]:
    """A check of the platform: a bar must keep one payment method, as long as the block lasts."""
    await connection.execute(AT_LEAST_ONE_METHOD)
    try:
        yield
    finally:
        await connection.execute(ANY_METHODS)
