"""Saving settings on the shapes that platforms really have: text columns, a required callback, absent columns."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.crypto.forms import Form
from mpesa_sync.db import migrations, settings
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import BarNotFound, EnvironmentNotAllowed, NotAllowed
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.secret import Secret
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.databases import plain
from tests.support.observer import see
from tests.support.venues import KEY, KEYS, SECRETS, add_bar

OWNER: Final = Person(UUID(int=7), "", is_operator=False, via=Via.TOKEN)
TEXT_COLUMNS: Final = """
alter table public.mpesa_credentials
  alter column consumer_key_enc type text using '', alter column consumer_secret_enc type text using '',
  alter column passkey_enc type text using ''
"""
CALLBACK: Final = "alter table public.mpesa_credentials add column callback_url text not null"
WITHOUT_DETAILS: Final = """
drop table public.mpesa_credential_events, public.audit_logs;
alter table public.bars drop column slug, drop column active, drop column payment_cash_enabled,
  drop column payment_card_enabled, drop column mpesa_environment
"""


def change(bar: UUID, environment: Environment = Environment.PRODUCTION, **given: Any) -> SettingsChange:
    """A save with new secrets that switches on."""
    key, secret, passkey = SECRETS
    values: dict[str, Any] = {
        "enabled": True,
        "shortcode": "600123",
        "consumer_key": key,
        "consumer_secret": secret,
        "passkey": passkey,
        **given,
    }
    return SettingsChange(bar_id=bar, environment=environment, **values)


@asynccontextmanager
async def attached(url: str, *shape: str, **options: Any) -> AsyncIterator[tuple[Any, SettingsService, Any]]:
    """Give another program's connection, the service and the database of a platform of this shape, attached."""
    async with plain(url) as sql:
        for statement in shape:
            await sql.execute(statement)
        async with connect(url, kms_keys=[KEY]) as database:
            await migrations.migrate(database, mode=Mode.ATTACHED)
            yield sql, SettingsService(database, **options), database


async def belongs(sql: Any, bar: UUID, role: str = "owner") -> None:
    """Make the person a member, as the platform does."""
    await sql.execute("insert into public.user_bars (user_id, bar_id, role) values ($1, $2, $3)", OWNER.id, bar, role)


async def opened(sql: Any, bar: UUID) -> list[Secret]:
    """Return what the stored secrets open to."""
    row = await sql.fetchrow("select * from public.mpesa_credentials where tenant_id = $1", bar)
    stored = [row[name] for name in ("consumer_key_enc", "consumer_secret_enc", "passkey_enc")]
    return [open_stored(KEYS, s.encode() if isinstance(s, str) else s).secret for s in stored]


async def test_a_member_by_the_platforms_own_table_saves_in_an_attached_database(platform_url: str) -> None:
    """Spec 7: membership is the union; nothing of ours stands in `public`."""
    async with attached(platform_url) as (sql, service, _):
        bar = await add_bar(sql)
        with pytest.raises(BarNotFound):
            await service.save(change(bar), OWNER)
        await belongs(sql, bar, "staff")
        with pytest.raises(NotAllowed):
            await service.save(change(bar), OWNER)
        await sql.execute("update public.user_bars set role = 'manager'")
        saved = await service.save(change(bar), OWNER)
        assert (saved.enabled, saved.environment) == (True, "production")
        assert await opened(sql, bar) == list(SECRETS)
        seen = await see(sql, bar)
        assert seen is not None
        assert (seen.mpesa_enabled, seen.active) == (True, ["production"])
        actor = await sql.fetchval("select actor from mpesa_sync.operations where kind = 'settings'")
        assert actor == f"user:{OWNER.id}"


async def test_columns_of_text_hold_hex(platform_url: str) -> None:
    """existing-platform.md, secrets at rest: form 3, which every reader of the platform knows."""
    async with attached(platform_url, TEXT_COLUMNS) as (sql, service, _):
        bar = await add_bar(sql)
        await belongs(sql, bar)
        await service.save(change(bar), OWNER)
        assert await opened(sql, bar) == list(SECRETS)
        stored = await sql.fetchval("select consumer_key_enc from public.mpesa_credentials")
        assert open_stored(KEYS, stored.encode()).form is Form.HEX_TEXT


async def test_a_required_callback_gets_the_setting_else_the_other_rows_else_nothing(platform_url: str) -> None:
    """existing-platform.md: a column without a default must not stop a save."""
    async with attached(platform_url, CALLBACK) as (sql, service, database):
        first, second = await add_bar(sql), await add_bar(sql)
        for bar in (first, second):
            await belongs(sql, bar)
        await service.save(change(first), OWNER)
        await SettingsService(database, callback_url="https://pay.example/back").save(change(second), OWNER)
        await service.save(change(second, Environment.SANDBOX, enabled=False), OWNER)
        rows = await sql.fetch("select tenant_id, environment, callback_url from public.mpesa_credentials")
        found = {(row["tenant_id"], row["environment"]): row["callback_url"] for row in rows}
        assert found == {
            (first, "production"): "",
            (second, "production"): "https://pay.example/back",
            (second, "sandbox"): "https://pay.example/back",
        }


async def test_a_shape_without_optional_columns_saves_and_reads(platform_url: str) -> None:
    """existing-platform.md: introspect, never assume a version."""
    async with attached(platform_url, WITHOUT_DETAILS) as (sql, service, database):
        bar = await sql.fetchval("insert into public.bars (name) values ('Plain') returning id")
        await belongs(sql, bar)
        await service.save(change(bar), OWNER)
        async with database.reading() as connection:
            stored = await settings.stored_of(connection, bar)
        assert stored is not None
        assert (stored.rows[0].has_all, stored.rows[0].is_active, stored.setup_completed) == (True, True, None)


async def test_sandbox_credentials_are_saved_and_not_switched_on_where_they_are_not_allowed(platform_url: str) -> None:
    """Spec 2: attached, the sandbox may not serve customers unless the settings say so."""
    async with attached(platform_url) as (sql, service, _):
        bar = await add_bar(sql)
        await belongs(sql, bar)
        with pytest.raises(EnvironmentNotAllowed):
            await service.save(change(bar, Environment.SANDBOX), OWNER)
        assert await sql.fetchval("select count(*) from public.mpesa_credentials") == 0
        saved = await service.save(change(bar, Environment.SANDBOX, enabled=None), OWNER)
        assert (saved.enabled, saved.stored[0]) == (False, "mpesa_business_shortcode")
