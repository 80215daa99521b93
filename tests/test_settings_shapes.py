"""Saving settings on the shapes that platforms really have: text columns, a required callback, absent columns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID, uuid4

import pytest

from mpesa_sync.crypto.cipher import open_stored
from mpesa_sync.crypto.forms import Form
from mpesa_sync.db import history, migrations, settings
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import connect
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.domain.saving import SettingsChange
from mpesa_sync.errors import (
    BarNotFound,
    ConstraintRefused,
    EnvironmentNotAllowed,
    IntegrityFault,
    NotAllowed,
    OperationConflict,
)
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.secret import Secret
from mpesa_sync.sync.settings_service import SettingsService
from tests.support.databases import plain
from tests.support.observer import see
from tests.support.venues import KEY, KEYS, SECRETS, add_bar
from tests.support.waiting import waiter_for

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
MEDDLER: Final = """
create function public.meddle() returns trigger language plpgsql as $$
begin
  update public.bars set mpesa_enabled = true where id = new.tenant_id;
  return null;
end $$;
create constraint trigger meddle after update on public.mpesa_credentials deferrable initially deferred
  for each row execute function public.meddle();
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


async def test_the_same_operation_id_with_another_request_is_a_conflict_and_no_repeat(db: Any, sql: Any) -> None:
    """R4: a repeat is safe; another secret, number or type under the same id is not one, and nothing of it is kept."""
    bar = await add_bar(sql)
    await belongs(sql, bar)
    service, operation_id = SettingsService(db), uuid4()
    first = await service.save(change(bar), OWNER, operation_id=operation_id)
    assert await service.save(change(bar), OWNER, operation_id=operation_id) == first
    for other in ({"passkey": Secret("another-passkey-xyz-1")}, {"account_type": "till", "till_number": "512345"}):
        with pytest.raises(OperationConflict):
            await service.save(change(bar, **other), OWNER, operation_id=operation_id)
    kept = await sql.fetchval("select string_agg(o::text, ' ') from mpesa_sync.operations o")
    assert not any(secret.reveal() in kept for secret in SECRETS)


async def test_a_new_row_is_inserted_with_its_values_and_never_with_placeholders(platform_url: str) -> None:
    """existing-platform.md: a check on the number, or an INSERT trigger, sees what is meant."""
    check = "alter table public.mpesa_credentials add check (business_shortcode ~ '^[0-9]{5,7}$')"
    secret = "alter table public.mpesa_credentials add check (octet_length(passkey_enc) >= 28)"
    async with attached(platform_url, check, secret) as (sql, service, _):
        bar = await add_bar(sql)
        await belongs(sql, bar)
        assert (await service.save(change(bar), OWNER)).enabled is True


async def test_a_column_that_appears_later_is_found(platform_url: str) -> None:
    """existing-platform.md: the shape may change while we serve; the save after the failed one looks again."""
    async with attached(platform_url) as (sql, service, _):
        bar = await add_bar(sql)
        await belongs(sql, bar)
        await service.save(change(bar), OWNER)
        await sql.execute("alter table public.mpesa_credentials add column callback_url text not null default ''")
        await sql.execute("alter table public.mpesa_credentials alter column callback_url drop default")
        with pytest.raises(ConstraintRefused):
            await service.save(change(bar, Environment.SANDBOX, enabled=None), OWNER)
        assert (await service.save(change(bar, Environment.SANDBOX, enabled=None), OWNER)).stored


async def test_a_membership_taken_away_while_the_save_waits_for_the_bar_counts(
    db: Any, sql: Any, database_url: str
) -> None:
    """Issue 3: membership is read again under the lock."""
    bar = await add_bar(sql, production=False)
    await belongs(sql, bar)
    async with plain(database_url) as holder:
        async with holder.transaction():
            await holder.execute("select 1 from public.bars where id = $1 for update", bar)
            saving = asyncio.create_task(SettingsService(db).save(change(bar), OWNER))
            await waiter_for(sql, holder.get_server_pid())
            await sql.execute("delete from public.user_bars")
        with pytest.raises(BarNotFound):
            await saving
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.active) == (False, [])


async def test_a_deferred_trigger_speaks_before_the_read_back(db: Any, sql: Any) -> None:
    """races.md, R4.3: a save without a status is not answered before deferred triggers have had their say."""
    bar = await add_bar(sql, production=False)
    await belongs(sql, bar)
    await sql.execute(MEDDLER)
    with pytest.raises(IntegrityFault):
        await SettingsService(db).save(change(bar, enabled=None, shortcode="600999"), OWNER)
    assert await sql.fetchval("select business_shortcode from public.mpesa_credentials") == "600123"


async def test_explain_keeps_the_last_change_of_the_status_behind_later_saves(db: Any, sql: Any) -> None:
    """Spec 6: two saves of credentials do not hide who switched."""
    bar = await add_bar(sql)
    await belongs(sql, bar)
    await SettingsService(db).save(change(bar), OWNER)
    for number in ("600124", "600125", "600126"):
        await SettingsService(db).save(change(bar, enabled=None, shortcode=number), OWNER)
    async with db.reading() as connection:
        last = await history.last_change(connection, bar)
    assert last is not None
    assert (last.mpesa_enabled_before, last.mpesa_enabled_after) == (False, True)
