"""The shapes that a platform's database really has (facts/existing-platform.md), each built with DDL of the tests' own.

Each holds 48 bars, one for every state of both flags and both rows, and what its shape adds.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync.db import migrations
from tests.support.venues import SEALED, Flag, Row

FLAGS: Final[tuple[Flag, ...]] = (True, False, None)
ROWS: Final[tuple[Row, ...]] = (True, False, None, "absent")

_BARE: Final = """
create table public.bars (
  id uuid primary key, name text not null, mpesa_enabled boolean,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now()
);
create table public.mpesa_credentials (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.bars (id) on delete cascade,
  environment text not null check (environment in ('sandbox', 'production')),
  business_shortcode text not null,
  consumer_key_enc bytea not null, consumer_secret_enc bytea not null, passkey_enc bytea not null,
  is_active boolean default true,
  created_at timestamptz not null default now(), updated_at timestamptz not null default now(),
  unique (tenant_id, environment)
);
"""
_OLDER_DEFAULT: Final = "alter table public.bars alter column mpesa_enabled set default true"
LEGACY_FLAG: Final = "alter table public.bars add column payment_mpesa_enabled boolean"
_SECRETS_IN_BARS: Final = """
alter table public.bars
  add column mpesa_business_shortcode varchar(20), add column mpesa_consumer_key_encrypted text,
  add column mpesa_consumer_secret_encrypted text, add column mpesa_passkey_encrypted text,
  add column mpesa_callback_url text, add column mpesa_setup_completed boolean,
  add column mpesa_last_test_at timestamptz,
  add column mpesa_test_status varchar(20) check (mpesa_test_status in ('pending', 'success', 'failed'))
"""
ONE_METHOD: Final = """
alter table public.bars add constraint one_method check (
  coalesce(mpesa_enabled, false) or coalesce(payment_card_enabled, false) or coalesce(payment_cash_enabled, false))
"""
FOREIGN_TRIGGER: Final = """
alter table public.bars add column mpesa_setup_completed boolean, add column seen_on integer not null default 0;
create function public.on_mpesa() returns trigger language plpgsql as $$
begin
  update bars set mpesa_setup_completed = true, seen_on = seen_on + 1 where id = new.id;
  return null;
end $$;
create trigger on_mpesa after update on public.bars for each row
  when (new.mpesa_enabled and not coalesce(old.mpesa_enabled, false)) execute function public.on_mpesa()
"""
_CALLBACK: Final = """
alter table public.mpesa_credentials add column callback_url text not null, add column timeout_url text
"""
_TEXT_SECRETS: Final = """
alter table public.mpesa_credentials
  alter column consumer_key_enc type text using '', alter column consumer_secret_enc type text using '',
  alter column passkey_enc type text using ''
"""
_ROW_SECURITY: Final = """
alter table public.bars enable row level security;
alter table public.mpesa_credentials enable row level security;
alter table public.user_bars enable row level security;
create policy own_bars on public.bars using (id::text = current_setting('app.bar', true));
create policy own_credentials on public.mpesa_credentials using (tenant_id::text = current_setting('app.bar', true));
create policy may_add_oneself on public.user_bars for insert with check (true)
"""


@dataclass(frozen=True)
class Shape:
    """One shape.

    Attributes:
        name: of the test.
        ddl: what makes it; on top of the platform's usual tables unless `is_bare`.
        refused: how many bars a check refuses to correct.
        stale: how many bars the migration leaves out because `bars` holds secrets of its own.
        is_owned: the tables belong to a role that is no superuser, and it attaches.
    """

    name: str
    ddl: str = ""
    is_bare: bool = False
    refused: int = 0
    stale: int = 0
    is_owned: bool = False


SHAPES: Final = (
    Shape("usual"),
    Shape("older default", _OLDER_DEFAULT),
    Shape("two tables and nothing else", is_bare=True),
    Shape("legacy flag", LEGACY_FLAG),
    Shape("secrets in bars", _SECRETS_IN_BARS, stale=1),
    Shape("one method at least", ONE_METHOD, refused=1),
    Shape("foreign trigger", FOREIGN_TRIGGER),
    Shape("required callback", _CALLBACK),
    Shape("secrets as text", _TEXT_SECRETS),
    Shape("row level security", _ROW_SECURITY, is_owned=True),
)


async def build(sql: Any, shape: Shape) -> dict[UUID, bool]:
    """Make the tables and fill them; return the authority of every bar, by this module's own reckoning."""
    await sql.execute(_BARE if shape.is_bare else migrations.platform_tables())
    if shape.ddl:
        await sql.execute(shape.ddl)
    authority = {}
    for flag, sandbox, production in itertools.product(FLAGS, ROWS, ROWS):
        bar = await add(sql, shape, flag, sandbox=sandbox, production=production)
        authority[bar] = sandbox is True or production is True
    for _ in range(shape.refused):
        bar = await add(sql, shape, True)
        await sql.execute("update public.bars set payment_cash_enabled = false where id = $1", bar)
        authority[bar] = False
    for _ in range(shape.stale):
        bar = await add(sql, shape, True)
        await sql.execute("update public.bars set mpesa_consumer_key_encrypted = 'sealed' where id = $1", bar)
        authority[bar] = False
    return authority


async def add(sql: Any, shape: Shape, flag: Flag, *, sandbox: Row = "absent", production: Row = "absent") -> UUID:
    """Insert a bar and its rows, with what the shape requires; return its id."""
    bar = uuid4()
    await sql.execute("insert into public.bars (id, name, mpesa_enabled) values ($1, $2, $3)", bar, "Kisima", flag)
    for environment, is_active in (("sandbox", sandbox), ("production", production)):
        if is_active == "absent":
            continue
        secrets: tuple[Any, ...] = SEALED
        if shape.ddl == _TEXT_SECRETS:
            secrets = tuple("\\x" + sealed.hex() for sealed in SEALED)
        column, value = (", callback_url", ", ''") if shape.ddl == _CALLBACK else ("", "")
        await sql.execute(
            "insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, is_active, "
            f"consumer_key_enc, consumer_secret_enc, passkey_enc{column}) "
            f"values ($1, $2, '600123', $3, $4, $5, $6{value})",
            *(bar, environment, is_active, *secrets),
        )
    return bar


async def shown(sql: Any) -> dict[UUID, bool]:
    """Return what the menu page of each bar reads."""
    return {record["id"]: bool(record["mpesa_enabled"]) for record in await sql.fetch("select * from public.bars")}
