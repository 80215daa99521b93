"""What is read back is what counts: writes that something undoes, a COMMIT that is answered with ROLLBACK."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db import installation, session, transaction
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import IntegrityFault
from tests.support.observer import see
from tests.support.venues import add_bar

_FOLLOWS_THE_FLAG: Final = """
create function public.follow() returns trigger language plpgsql as $$
begin
  update public.mpesa_credentials set is_active = not new.mpesa_enabled where tenant_id = new.id;
  return new;
end $$;
create trigger follow after update of mpesa_enabled on public.bars for each row execute function public.follow();
"""
"""A trigger of the platform that changes the authority when the flag is corrected."""


async def test_a_repair_after_which_the_authority_disagrees_is_rolled_back(db: Database, sql: Any) -> None:
    """R5.4, R1: both fields are read back, the one that was not written, too."""
    bar = await add_bar(sql, mpesa_enabled=False, production=True)
    await sql.execute(_FOLLOWS_THE_FLAG)
    with pytest.raises(IntegrityFault):
        await MpesaSyncManager(db).repair_inconsistency(bar, actor="Asha")
    seen = await see(sql, bar)
    assert seen is not None
    assert (seen.mpesa_enabled, seen.flags) == (False, {"production": True})


async def test_a_commit_that_the_server_answers_with_rollback_is_no_success(db: Database, sql: Any) -> None:
    """R5.3: in a transaction that has failed, COMMIT succeeds as ROLLBACK, without any error."""

    async def swallows(connection: Any) -> str:
        await connection.execute("insert into public.bars (name) values ('lost')")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.execute("select 1 / 0")
        return "saved"

    with pytest.raises(IntegrityFault):
        await transaction.once(db, session.WRITE, swallows)
    assert await sql.fetchval("select count(*) from public.bars") == 0


async def test_sandbox_is_not_allowed_where_nothing_is_known(platform_url: str, db: Database) -> None:
    """Spec 2: yes in a database that we made, no in one that we were attached to or do not know."""
    async with connect(platform_url) as unknown, unknown.reading() as connection:
        assert await installation.allows_sandbox(connection, unknown) is False
    async with db.reading() as connection:
        assert await installation.allows_sandbox(connection, db) is True
