"""What is taken in late: resolved where a success has answered it meanwhile, and open where none has (R5.2)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.errors import OutcomeUnknown
from mpesa_sync.sync import spool
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.sync.alerts import raise_occurrence
from tests.support.faults import NEVER_AGAIN, until
from tests.support.occurrences import occurrence, rows
from tests.support.venues import KEY, add_bar


async def test_an_alert_that_nothing_answered_stays_open(spooling: Database, sql: Any) -> None:
    """R5.2: only a success of the same bar, after the failure, of a kind that answers it, resolves what is taken in."""
    bar, other = await add_bar(sql, production=False), await add_bar(sql, production=False)
    await MpesaSyncManager(spooling).sync_mpesa_status(bar, True)
    now = spooling.clock.now()
    for one in (
        occurrence(bar, first_seen=now, last_seen=now),  # after the success
        occurrence(other),  # another bar
        occurrence(bar, AlertKind.SECRETS_UNREADABLE),  # a kind that not every success answers
        occurrence(bar, AlertKind.DATABASE_REFUSED),  # answered: seen at noon, long before
    ):
        await raise_occurrence(spooling, one, can_store=False)
    await spool.take_in(spooling)
    found = await sql.fetch("select kind, bar_id, state from mpesa_sync.alerts order by kind, bar_id = $1", other)
    assert [(row["kind"], row["state"]) for row in found] == [
        ("database_refused", "resolved"),
        ("secrets_unreadable", "firing"),
        ("sync_failed", "firing"),
        ("sync_failed", "firing"),
    ]


async def test_a_success_answers_nothing_that_failed_again_since(spooling: Database, sql: Any) -> None:
    """R5.2: failed and spooled, succeeded, failed and stored: taking in what is oldest must not end the alert."""
    bar, now = await add_bar(sql, production=False), spooling.clock.now()
    await raise_occurrence(spooling, occurrence(bar, last_seen=now - timedelta(hours=1)), can_store=False)
    spooling.alerts_may_wait = False  # as in another program than the one that spooled it
    await MpesaSyncManager(spooling).sync_mpesa_status(bar, True)
    again = spooling.clock.now()
    await raise_occurrence(spooling, occurrence(bar, first_seen=again, last_seen=again))
    assert await spool.take_in(spooling) == 1
    assert await rows(sql) == [("firing", 2, 1, None, None)]


async def test_a_replay_ends_the_alert_that_its_outcome_is_unknown(database_url: str, sql: Any, tmp_path: Path) -> None:
    """R5.2, R5.3: asked again under its id the operation was applied, and nobody has to verify anything any more."""
    bar, operation_id = await add_bar(sql, production=False), uuid4()
    async with (
        TcpProxy.before(database_url) as proxy,
        connect(proxy.url_for(database_url), kms_keys=[KEY], retry=NEVER_AGAIN, alert_spool=tmp_path) as database,
    ):
        manager = MpesaSyncManager(database)
        await manager.validate_sync(bar)
        await proxy.close_port()
        proxy.cut_after_commit()
        with pytest.raises(OutcomeUnknown):
            await manager.sync_mpesa_status(bar, True, operation_id=operation_id)
        await proxy.open_port()
        await spool.take_in(database)
        assert [row[0] for row in await rows(sql)] == ["firing"]
        await manager.sync_mpesa_status(bar, True, operation_id=operation_id)

        async def ended() -> bool:
            return await rows(sql) == [("resolved", 1, 1, f"operation:{operation_id}", None)]

        await until(ended)
