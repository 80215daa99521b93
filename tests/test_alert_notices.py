"""What operators are told of an alert, and when (R5.2): its beginning, reminders, its end, each once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mpesa_sync.db import alerts, notices_due, old_rows, session, transaction
from mpesa_sync.db.pool import Database
from mpesa_sync.jobs import look
from mpesa_sync.sync import alert_actions
from mpesa_sync.sync.alert_words import title_of
from tests.support.channels import FAST, Endpoints, raised, until, working
from tests.support.venues import add_bar

_SETTLED = "select count(*) from mpesa_sync.alert_deliveries where state = 'pending'"
_FAULT = "select fault from mpesa_sync.alert_channels where channel like 'json-%' and failures >= $1"
_BACK = "update mpesa_sync.alerts set told_at = told_at - make_interval(mins => $2) where id = $1"


async def test_an_alert_is_told_over_every_channel_in_plain_words(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """R5.2: what, where, since when, how often, why, what to do, and where to read on."""
    bar = await add_bar(sql)
    await raised(sql, bar)
    alert = await raised(sql, bar)
    async with working(db, database_url, there.url("a"), there.url("b"), public_url="https://mpesa.example/"):
        (said,) = await there.has("a")
        (other,) = await there.has("b")
    assert said["title"] == other["title"] == f"Alert: {title_of('sync_failed')}: Bar {bar.hex[:6]}"
    for part in (
        f"Venue: Bar {bar.hex[:6]} ({bar.hex})",
        "(Nairobi time), 2 times, last ",
        "busy",
        "SQLSTATE 55P03",
        "What to do: Look at the database.",
        f"https://mpesa.example/operator/alerts/{alert}\n",
        "https://mpesa.example/runbook/sync_failed",
    ):
        assert part in said["message"]
    assert said["type"] == "failure"


async def test_an_alert_is_repeated_until_somebody_acknowledges_it(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """R5.2: repeated until acknowledged, by policy; what a sleeping worker missed is one reminder."""
    alert = await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("a"), alert_repeat_minutes=30):
        await there.has("a")
        await until(sql, _SETTLED, says=lambda left: left == 0)
        await sql.execute(_BACK, alert, 31)
        assert (await there.has("a", 2))[1]["title"].startswith("Still open (1): ")
        await until(sql, _SETTLED, says=lambda left: left == 0)
        await sql.execute(_BACK, alert, 90)
        assert (await there.has("a", 3))[2]["title"].startswith("Still open (4): ")
        await until(sql, _SETTLED, says=lambda left: left == 0)
        await alert_actions.acknowledge(db, alert, actor="operator:otieno")
        await sql.execute(_BACK, alert, 600)
        later = await raised(sql, await add_bar(sql))
        await there.has("a", 4)
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert [str(later) in said["message"] for said in there.heard["a"]] == [False, False, False, True]


async def test_without_a_policy_nothing_is_repeated(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Spec 7: MPESA_SYNC_ALERT_REPEAT_MINUTES=0: never."""
    alert = await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("a"), alert_repeat_minutes=0):
        await there.has("a")
        await sql.execute(_BACK, alert, 600)
        await raised(sql, await add_bar(sql))
        await there.has("a", 2)
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert len(there.heard["a"]) == 2


async def test_the_end_is_told_to_those_who_heard_the_beginning(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """R5.2: resolved notices: who resolved it, and when; once."""
    alert = await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("a")):
        await there.has("a")
        await until(sql, _SETTLED, says=lambda left: left == 0)
        await alert_actions.resolve(db, alert, actor="operator:otieno", note="The disk was full.")
        said = (await there.has("a", 2))[1]
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert said["title"].startswith("Resolved: ")
    assert "by otieno (operator). Note: The disk was full." in said["message"]
    assert said["type"] == "success"
    assert len(there.heard["a"]) == 2


async def test_what_was_over_before_it_could_be_told_is_told_as_one_message(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """R5.2: operators hear of what healed by itself, since it may come back; but not twice."""
    before = await raised(sql, await add_bar(sql))
    await alert_actions.resolve(db, before, actor="operator:otieno")
    async with working(db, database_url, there.url("a")):
        assert (await there.has("a"))[0]["title"].startswith("Raised and resolved since: ")
        there.does["a"] = "broken"
        during = await raised(sql, await add_bar(sql))
        await until(sql, "select max(failures) from mpesa_sync.alert_channels", says=lambda count: (count or 0) >= 1)
        await alert_actions.resolve(db, during, actor="operator:otieno")
        await until(sql, "select resolution_told_at is not null from mpesa_sync.alerts where id = $1", during)
        there.does["a"] = "good"
        await until(sql, _SETTLED, says=lambda left: left == 0)
    about = [said for said in there.heard["a"] if str(during) in said["message"]]
    assert [said["title"].split(":")[0] for said in about] == ["Raised and resolved since"]


async def test_a_reminder_that_was_overtaken_is_not_sent(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """R5.2: until acknowledged: also where the channel was away when the reminder was due."""
    alert = await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("a"), alert_repeat_minutes=30):
        await there.has("a")
        await until(sql, _SETTLED, says=lambda left: left == 0)
        there.does["a"] = "broken"
        await sql.execute(_BACK, alert, 31)
        await there.tried("a", 3)
        await alert_actions.acknowledge(db, alert, actor="operator:otieno")
        there.does["a"] = "good"
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert len(there.heard["a"]) == 1


async def test_the_first_look_is_at_once(db: Database, sql: Any, database_url: str, there: Endpoints) -> None:
    """Issue 4, 3: not after the first interval, however long that is."""
    await raised(sql, await add_bar(sql))
    async with working(db, database_url, there.url("a"), pace=replace(FAST, look_every_s=3_000.0)):
        assert len(await there.has("a")) == 1


async def test_old_rows_are_tidied_away_and_channels_that_left_are_forgotten(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: what grows with every job is bounded; a channel that is gone does not count as failing for ever."""
    await sql.execute(
        "insert into mpesa_sync.queue_log (created, job_id, status, priority, entrypoint) "
        "select now() - make_interval(days => d), d, 'successful', 0, 'x' from unnest(array[6, 8]) d"
    )
    await sql.execute(
        "insert into mpesa_sync.alert_channels (audience, channel, failures, failing_since) "
        "values ('operators', 'json-gone', 9, now() - interval '3 days'), ('owner', 'json-gone', 9, now())"
    )
    await raised(sql, None, "channel_failing")
    async with working(db, database_url, there.url("a")):
        await until(sql, "select resolution_told_at is not null from mpesa_sync.alerts")
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert "by itself, since no channel that is still used fails." in there.heard["a"][-1]["message"]
    assert await sql.fetchval("select array_agg(job_id) from mpesa_sync.queue_log where entrypoint = 'x'") == [6]
    assert not await sql.fetchval("select count(*) from mpesa_sync.alert_channels where channel = 'json-gone'")


async def test_a_venue_with_a_hostile_name_calls_nobody_and_breaks_no_line(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Faults.md: a name is a text of others: no mention, no link, no line of its own."""
    bar = await add_bar(sql)
    name = "@everyone <!channel>\n[Click](https://evil.example)\u202e\x1b[31m *now*"
    await sql.execute("update public.bars set name = $2, slug = $3 where id = $1", bar, name, "@here <b>")
    await raised(sql, bar)
    async with working(db, database_url, there.url("a")):
        (said,) = await there.has("a")
    text = said["title"] + said["message"]
    assert "(at)everyone ‹!channel› (Click)(https" in said["title"]
    assert not {"@", "<", "\u202e", "\x1b", "\r", "*"} & set(text)
    assert f"({bar})" in said["message"], "no slug that is no ordinary one"


@pytest.mark.parametrize(
    ("state", "fault", "is_given_up"),
    [
        ("created_at = now() - interval '6 days'", "", False),
        ("created_at = now() - interval '8 days'", "channel_gone", True),
        ("attempts = 1, fault = 'refused', attempted_at = now() - interval '23 hours'", "refused", False),
        ("attempts = 1, fault = 'refused', attempted_at = now() - interval '25 hours'", "refused", True),
    ],
)
async def test_what_waits_for_a_channel_that_left_the_settings_is_given_up_late(
    db: Database, sql: Any, state: str, fault: str, is_given_up: bool
) -> None:
    """Issue 4, 3: not at once, since another program may have this channel, and may not have run for days."""
    alert = await raised(sql, await add_bar(sql))
    await notices_due.make(sql, channels=["json-gone"], repeat_minutes=0, owner_kinds=[])
    await sql.execute(f"update mpesa_sync.alert_deliveries set {state}")
    await look.look(db, channels=["json-other"], owners=True, repeat_minutes=0, pace=FAST)
    row = await sql.fetchrow(
        "select state, fault from mpesa_sync.alert_deliveries where alert_id = $1 and channel = 'json-gone'", alert
    )
    assert tuple(row) == ("failed" if is_given_up else "pending", fault)


async def test_a_channel_that_came_later_hears_of_what_is_open(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: a new URL is a new channel: what waited goes over the new one, acknowledged or not."""
    there.does["old"] = "broken"
    firing, acknowledged, over = [await raised(sql, await add_bar(sql)) for _ in range(3)]
    async with working(db, database_url, there.url("old")):
        await until(sql, _FAULT, 1)
    await alert_actions.acknowledge(db, acknowledged, actor="operator:otieno")
    await alert_actions.resolve(db, over, actor="operator:otieno")
    async with working(db, database_url, there.url("new"), there.url("newer")):
        for path in ("new", "newer"):
            told = await there.has(path, 2)
            assert {said["message"].split("alerts show ")[1] for said in told} == {str(firing), str(acknowledged)}
        await alert_actions.resolve(db, firing, actor="operator:otieno")
        assert (await there.has("new", 3))[2]["title"].startswith("Resolved: ")
        await there.has("newer", 3)


async def test_an_alert_that_ends_while_it_is_being_told_is_told_to_have_ended(db: Database, sql: Any) -> None:
    """R5.2: the message under way still said that it is open."""
    alert = await raised(sql, await add_bar(sql))
    await look.look(db, channels=["json-3fa2"], owners=False, repeat_minutes=0, pace=FAST)
    await alert_actions.resolve(db, alert, actor="operator:otieno")
    await sql.execute("update mpesa_sync.alert_deliveries set state = 'delivered', delivered_at = now()")
    await look.look(db, channels=["json-3fa2"], owners=False, repeat_minutes=0, pace=FAST)
    assert await sql.fetchval("select state from mpesa_sync.alert_deliveries where notice = 'resolved'") == "pending"


async def test_old_rows_go_in_portions_and_one_that_cannot_keeps_back_no_others(db: Database, sql: Any) -> None:
    """Issue 4, 3: at most 10,000 in one transaction, again until all are gone; a step that fails is only that."""
    await sql.execute(
        "insert into mpesa_sync.alert_occurrences (id, counted_at) "
        "select gen_random_uuid(), now() - interval '91 days' from generate_series(1, 10001)"
    )
    assert await transaction.once(db, session.WRITE, alerts.prune_occurrences) == 10_000
    await sql.execute(
        "insert into mpesa_sync.queue_log (created, job_id, status, priority, entrypoint) "
        "select now() - interval '8 days', n, 'successful', 0, 'x' from generate_series(1, 10001) n"
    )
    await sql.execute(
        "create function public.refuse() returns trigger language plpgsql as 'begin raise check_violation; end'"
    )
    await sql.execute(
        "create trigger refuse before delete on mpesa_sync.alert_occurrences execute function public.refuse()"
    )
    await look.tidy(db)
    assert await sql.fetchval("select count(*) from mpesa_sync.queue_log") == 0
    assert await sql.fetchval("select count(*) from mpesa_sync.alert_occurrences") == 1


async def test_resolved_alerts_are_found_by_their_age(sql: Any) -> None:
    """Issue 4, 3: what ended long ago is not read again and again."""
    async with sql.transaction():
        await sql.execute("set local enable_seqscan = off")
        plan = await sql.fetch(f"explain {old_rows.PRUNE_DELIVERIES}")
    assert "alerts_resolved" in str(plan)
