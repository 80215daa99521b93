"""`MpesaSyncManager`: switching, comparing, repairing, one example each; the properties go further."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import BarNotFound, CredentialsMissing, CredentialsUnusable, SchemaError
from tests.support.observer import see
from tests.support.venues import add_bar


async def test_switching_on_sets_both_fields(db: Database, sql: Any) -> None:
    """R1.2: true makes the environment active and shows M-Pesa, and the answer is read back."""
    bar = await add_bar(sql, production=False)
    result = await MpesaSyncManager(db).sync_mpesa_status(bar, True, actor="Asha")
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.flags) == (True, {"production": True})
    assert (result.success, result.changed, result.environment, result.attempts) == (True, True, "production", 1)


async def test_switching_on_without_credentials_is_refused(db: Database, sql: Any) -> None:
    """R1: never "successful" where nothing can work; nothing is written and the error carries the result."""
    bar = await add_bar(sql)
    with pytest.raises(CredentialsMissing) as refused:
        await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    assert refused.value.result.success is False
    seen = await see(sql, bar)
    assert seen is not None
    assert seen.mpesa_enabled is False
    assert await sql.fetchval("select count(*) from mpesa_sync.operations") == 0


async def test_an_unknown_bar_is_not_found(db: Database) -> None:
    """R1: 0 rows is an error, not success (faults.md 4)."""
    with pytest.raises(BarNotFound):
        await MpesaSyncManager(db).sync_mpesa_status(uuid4(), False)


async def test_secrets_that_no_key_opens_raise_one_alert_until_a_switch_on_proves_them_open(
    db: Database, sql: Any, database_url: str
) -> None:
    """R5.2, faults.md "wrong key": flags untouched, one open alert that counts, resolved by a verified switch-on."""
    bar = await add_bar(sql, production=False)
    async with connect(database_url, kms_keys=[generate_key()]) as with_another_key:
        for _ in range(2):
            with pytest.raises(CredentialsUnusable) as refused:
                await MpesaSyncManager(with_another_key).sync_mpesa_status(bar, True)
            assert refused.value.reason == "secrets_unreadable"
    alerts = "select kind, state, count from mpesa_sync.alerts"
    assert [tuple(row) for row in await sql.fetch(alerts)] == [("secrets_unreadable", "firing", 2)]
    await MpesaSyncManager(db).sync_mpesa_status(bar, False)
    assert await sql.fetchval("select state from mpesa_sync.alerts") == "firing"
    await MpesaSyncManager(db).sync_mpesa_status(bar, True)
    assert await sql.fetchval("select state from mpesa_sync.alerts") == "resolved"


async def test_a_missing_table_is_named_in_the_error(db: Database, sql: Any) -> None:
    """Bad input and trouble: missing tables and columns are named, not only refused."""
    await sql.execute("alter table public.bars rename column mpesa_enabled to enabled")
    with pytest.raises(SchemaError, match=r"bars\.mpesa_enabled is missing"):
        await MpesaSyncManager(db).sync_mpesa_status(uuid4(), False)
