"""The one alert about channels that fail (R5.2): it names all that do, and ends when none does, whoever holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.db.failing_channels import FailingChannel
from mpesa_sync.db.pool import Database
from mpesa_sync.jobs import failing, look
from mpesa_sync.jobs.channels import Sender
from mpesa_sync.jobs.deliver import Delivery
from mpesa_sync.sync import alert_words
from tests.support.channels import FAST, Endpoints, prepared, raised, until, working
from tests.support.venues import add_bar

_ALERT: Final = "select {} from mpesa_sync.alerts where kind = 'channel_failing' and bar_id is null"
_FAILS: Final = """
insert into mpesa_sync.alert_channels (audience, channel, failures, fault, failing_since)
values ($1, $2, 3, $3, now())
"""


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    """Sends, until the test ends."""
    made = Sender()
    yield made
    await made.close()


async def test_the_alert_names_every_channel_that_fails_now_and_ends_with_the_last(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: who reads it mends all of them; one that works again is named no more, and ends nothing alone."""
    there.does["a"] = there.does["b"] = "broken"
    await raised(sql, await add_bar(sql))
    says = _ALERT.format("what_to_do")
    async with working(db, database_url, there.url("a"), there.url("b"), there.url("good")) as work:
        a, b = (next(n for n, u in work.jobs.channels.items() if u == there.url(path)) for path in "ab")
        await until(sql, says, says=lambda text: text is not None and a in text and b in text)
        there.does["a"] = "good"
        await until(sql, says, says=lambda text: a not in text and b in text)
        assert await sql.fetchval(_ALERT.format("state")) == "firing"
        there.does["b"] = "good"
        await until(sql, _ALERT.format("state"), says=lambda state: state == "resolved")
    assert await sql.fetchval(_ALERT.format("count(*)")) == 1
    assert "127.0.0.1" not in await sql.fetchval(says), "short names only"


async def test_a_success_that_meets_the_alert_locked_still_ends_it(
    db: Database, sql: Any, database_url: str, there: Endpoints, sender: Sender
) -> None:
    """Issue 4, 3: it does not wait for whoever holds the row, a look's for one; the next look sees that none fails."""
    await raised(sql, await add_bar(sql))
    jobs = await prepared(db, database_url, there.url("a"))
    (name,) = jobs.channels
    await look.look(db, channels=[name], owners=False, repeat_minutes=0, pace=FAST)
    await sql.execute(_FAILS, "operators", name, "refused")
    alert = await raised(sql, None, "channel_failing")
    delivery = Delivery(db, sender, jobs.channels, None, FAST, is_stopping=asyncio.Event().is_set)
    async with sql.transaction():
        await sql.execute("select 1 from mpesa_sync.alerts where id = $1 for key share", alert)
        await delivery.over("operators", name)
    assert await sql.fetchval("select failures from mpesa_sync.alert_channels") == 0
    assert await sql.fetchval(_ALERT.format("state")) == "firing"
    await look.look(db, channels=[name], owners=False, repeat_minutes=0, pace=FAST)
    assert await sql.fetchval(_ALERT.format("state")) == "resolved"


async def test_channels_with_different_faults_have_a_cause_of_their_own(db: Database, sql: Any) -> None:
    """R5.2: the cause of one of them would be wrong for the others; each has its own in what to do."""
    await sql.execute(_FAILS, "operators", "slack-0001", "refused")
    await raised(sql, None, "channel_failing")
    for fault, cause in (("refused", "refused"), ("timed_out", "several")):
        await sql.execute("delete from mpesa_sync.alert_channels where audience = 'owner'")
        await sql.execute(_FAILS, "owner", "json-0123456789abcdef", fault)
        await look.look(db, channels=["slack-0001"], owners=True, repeat_minutes=0, pace=FAST)
        assert await sql.fetchval(_ALERT.format("cause")) == cause
        said = await sql.fetchval(_ALERT.format("what_to_do"))
        assert "slack-0001 has failed 3 times in a row (refused). Check its URL in MPESA_SYNC_ALERT_URLS" in said
        assert f"json-0123456789abcdef of a venue's owner has failed 3 times in a row ({fault})." in said
    assert alert_words.cause_of("several") == "Several channels fail, and not all for the same reason."
    assert await sql.fetchval(_ALERT.format("count")) == 1, "it is reworded, and not counted again"


def test_so_many_channels_are_counted_and_not_named() -> None:
    """Issue 4, 3: an owner's channel says what sets it anew; a cut way out fails all, and makes no endless text."""
    bar = UUID(int=7)
    owner = FailingChannel("owner", "json-0123456789abcdef", 4, "timed_out", [bar])
    ours = [FailingChannel("operators", f"slack-000{number}", 3, "refused", []) for number in (1, 2)]
    text = failing.what_to_do([*ours, owner], more=12)
    for part in (
        "The channel slack-0001 has failed 3 times in a row (refused). The channel slack-0002 ",
        "Check their URLs in MPESA_SYNC_ALERT_URLS: ",
        "Have the venue check it, and set it anew: 'mpesa-sync alerts channel 00000000-0000-0000-0000-000000000007 ",
        "And 12 more: /operator/alerts shows how the channels fare.",
    ):
        assert part in text
