"""Several programs at once on one database (issue 4, 8): what each sends, and what none of them waits for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from mpesa_sync.db import notices_due
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import ConstraintRefused
from mpesa_sync.jobs import look, queue
from mpesa_sync.jobs.channels import Sender
from mpesa_sync.jobs.deliver import Delivery
from tests.support.channels import FAST, Endpoints, prepared, raised, until, working
from tests.support.venues import add_bar
from tests.support.waiting import waiter_for

_SETTLED = "select count(*) from mpesa_sync.alert_deliveries where state = 'pending'"
_IDLE = "select count(*) from mpesa_sync.queue"


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """What sends, until the test ends."""
    found = Sender()
    yield found
    await found.close()


async def test_a_job_of_another_programs_channel_is_left_to_it(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: a worker that has not this channel counts no failure of it, and does not lose its message."""
    mine, others = there.url("mine"), there.url("others")
    (name,) = (await prepared(db, database_url, others)).channels
    await raised(sql, await add_bar(sql))
    await notices_due.make(sql, channels=[name], repeat_minutes=0, owner_kinds=[])
    await queue.enqueue(sql, "operators", name)
    async with working(db, database_url, mine):
        await there.has("mine")
        await until(sql, _IDLE, says=lambda left: left == 0)
        assert await sql.fetchval("select count(*) from mpesa_sync.alert_channels where failures > 0") == 0
    async with working(db, database_url, mine), working(db, database_url, others):
        await there.has("others")
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert len(there.heard["mine"]) == len(there.heard["others"]) == 1


async def test_a_message_is_claimed_before_it_is_sent(
    db: Database, sql: Any, database_url: str, there: Endpoints, sender: Sender
) -> None:
    """Issue 4, 8: two jobs for one channel, as after a connection that was cut, send a backlog once."""
    ids = {str(await raised(sql, await add_bar(sql))) for _ in range(5)}
    jobs = await prepared(db, database_url, there.url("a"))
    (name,) = jobs.channels
    await look.look(db, channels=[name], owners=False, repeat_minutes=0, pace=FAST)
    others = Sender()
    one, other = (
        Delivery(db, sends, jobs.channels, None, FAST, is_stopping=asyncio.Event().is_set) for sends in (sender, others)
    )
    await asyncio.gather(one.over("operators", name), other.over("operators", name))
    await others.close()
    told = Counter(said["message"].split("mpesa-sync alerts show ")[1] for said in there.heard["a"])
    assert told == Counter(ids)


async def test_a_message_whose_delivery_cannot_be_written_down_is_not_sent_at_every_look(
    db: Database, sql: Any, database_url: str, there: Endpoints, sender: Sender
) -> None:
    """Issue 4, 8: it is sent again when its claim has ended, and not every few seconds."""
    await sql.execute(
        "create function public.refuse() returns trigger language plpgsql as 'begin raise check_violation; end'"
    )
    await sql.execute(
        "create trigger refuse before update on mpesa_sync.alert_deliveries for each row "
        "when (new.state = 'delivered') execute function public.refuse()"
    )
    await raised(sql, await add_bar(sql))
    jobs = await prepared(db, database_url, there.url("a"))
    (name,) = jobs.channels
    delivery = Delivery(db, sender, jobs.channels, None, FAST, is_stopping=asyncio.Event().is_set)
    assert await look.look(db, channels=[name], owners=False, repeat_minutes=0, pace=FAST) == 1
    with pytest.raises(ConstraintRefused):
        await delivery.over("operators", name)
    assert await look.look(db, channels=[name], owners=False, repeat_minutes=0, pace=FAST) == 0
    await delivery.over("operators", name)
    assert there.tries["a"] == 1


async def test_a_message_is_written_down_after_what_others_lock(
    db: Database, sql: Any, database_url: str, there: Endpoints, sender: Sender
) -> None:
    """Issue 4, 8: alerts before messages, as `look`: whoever waits for the one holds none of the other."""
    there.does["a"] = "broken"
    await raised(sql, await add_bar(sql))
    jobs = await prepared(db, database_url, there.url("a"))
    (name,) = jobs.channels
    await look.look(db, channels=[name], owners=False, repeat_minutes=0, pace=FAST)
    failing = await raised(sql, None, "channel_failing")
    await sql.execute(
        "insert into mpesa_sync.alert_channels (audience, channel, failures) values ('operators', $1, 2)", name
    )
    delivery = Delivery(db, sender, jobs.channels, None, FAST, is_stopping=asyncio.Event().is_set)
    async with sql.transaction():
        await sql.execute("select 1 from mpesa_sync.alerts where id = $1 for update", failing)
        writing = asyncio.create_task(delivery.over("operators", name))
        await waiter_for(sql, sql.get_server_pid())
        await sql.execute("select 1 from mpesa_sync.alert_deliveries for update nowait")
    await writing
    assert await sql.fetchval("select failures from mpesa_sync.alert_channels") == 3
