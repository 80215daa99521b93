"""The owner of a venue hears of trouble (issue 4, 3): in plain words, by what customers see now, over their channel."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.crypto import cipher
from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.db import deliveries
from mpesa_sync.db.alerts import StoredAlert
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.domain.availability import Reason
from mpesa_sync.errors import BarNotFound, InvalidInput, KmsKeyMissing
from mpesa_sync.jobs import owner_words
from mpesa_sync.secret import Secret
from mpesa_sync.sync import alert_actions, channel_urls, venue_channels
from mpesa_sync.sync.alert_kinds import ABOUT_NO_BAR, AlertKind
from tests.support.channels import Endpoints, raised, until, working
from tests.support.venues import KEY, add_bar

EIGHTEEN_FORTY_UTC: Final = datetime(2024, 11, 24, 18, 40, tzinfo=UTC)
"""Of a day that is not today, in Nairobi or anywhere, at whatever hour the tests run."""
_SETTLED: Final = "select count(*) from mpesa_sync.alert_deliveries where state = 'pending'"
_JARGON: Final = re.compile(
    r"SQL|database|mpesa_|is_active|drift|sync|shortcode|passkey|null|error|exception|\{|None", re.IGNORECASE
)


def test_every_kind_and_every_reason_has_words() -> None:
    """Issue 4, 3: what customers see, since when, why, and what to do, in words without jargon."""
    walked = 0
    for kind in owner_words.OWNER_KINDS:
        for reason in (None, *Reason):
            told = owner_words.raised(
                _alert(kind), reason, since=EIGHTEEN_FORTY_UTC, now=EIGHTEEN_FORTY_UTC, public_url=None
            )
            over = owner_words.resolved(_alert(kind), reason, now=EIGHTEEN_FORTY_UTC, public_url=None)
            for message in (told, over):
                assert message.body.startswith("Mama Njeri: ")
                assert not _JARGON.search(message.title + message.body)
            assert "21:40" in told.body
            assert "Do this: " in told.body
            assert ("customers cannot see M-Pesa since 21:40 because " in told.body) == (reason is not None)
            assert ("Customers can see and choose M-Pesa." in told.body) == (reason is None)
            assert not told.is_over
            assert over.is_over
            walked += 1
    assert walked == len(owner_words.OWNER_KINDS) * (len(Reason) + 1)
    assert {*owner_words.OWNER_KINDS} == set(AlertKind) - ABOUT_NO_BAR


def test_a_day_that_is_not_today_is_named() -> None:
    """Issue 4, 3: times are those of Nairobi; 18:40 UTC is 21:40, and yesterday says so."""
    told = owner_words.raised(
        _alert(AlertKind.SYNC_FAILED),
        Reason.SWITCHED_OFF,
        since=datetime(2026, 11, 23, 22, 30, tzinfo=UTC),
        now=datetime(2026, 11, 25, 9, 0, tzinfo=UTC),
        public_url=None,
    )
    assert "since 01:30 on 24 Nov because M-Pesa is switched off" in told.body


async def test_the_owner_hears_what_customers_see_and_what_to_do(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: "customers cannot see M-Pesa since 21:40 because …, do this", and the end of it."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True, sealed=(b"x" * 60, b"y" * 60, b"z" * 60))
    await sql.execute("update public.bars set name = 'Mama Njeri' where id = $1", bar)
    await venue_channels.set_channel(db, bar, there.url("owner"), actor="operator:otieno")
    alert = await raised(sql, bar, "secrets_unreadable", first_seen=EIGHTEEN_FORTY_UTC)
    async with working(db, database_url, public_url="https://mpesa.example"):
        (said,) = await there.has("owner")
        await until(sql, _SETTLED, says=lambda left: left == 0)
        await alert_actions.resolve(db, alert, actor="operator:otieno")
        solved = (await there.has("owner", 2))[1]
        await until(sql, _SETTLED, says=lambda left: left == 0)
    assert said["title"] == "Mama Njeri: customers cannot see M-Pesa"
    assert said["message"] == (
        "Mama Njeri: customers cannot see M-Pesa since 21:40 on 24 Nov because the saved M-Pesa keys can no longer be "
        "read.\n"
        "Do this: open Staff → M-Pesa, paste the three keys from Daraja again and save.\n"
        f"https://mpesa.example/staff/bars/{bar}/mpesa"
    )
    assert solved["title"] == "Mama Njeri: solved"
    assert "Customers do not see M-Pesa now because the saved M-Pesa keys can no longer be read." in solved["message"]
    assert len(there.heard["owner"]) == 2


async def test_where_customers_still_see_it_the_owner_hears_that_the_change_was_not_saved(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: no alarm about what customers see where they see it."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    await venue_channels.set_channel(db, bar, there.url("owner"), actor="operator:otieno")
    await raised(sql, bar, "database_refused", first_seen=EIGHTEEN_FORTY_UTC)
    async with working(db, database_url, there.url("operators")):
        (said,) = await there.has("owner")
        await there.has("operators")
    assert "Your change of 21:40 on 24 Nov was not saved" in said["message"]
    assert "Customers can see and choose M-Pesa." in said["message"]
    assert "SQLSTATE" not in said["message"]


async def test_since_when_is_that_of_the_last_switch_where_that_hides_it(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: the first time of that state that we know."""
    bar = await add_bar(sql, mpesa_enabled=True, production=True)
    await MpesaSyncManager(db).sync_mpesa_status(bar, False, actor="staff:asha")
    await venue_channels.set_channel(db, bar, there.url("owner"), actor="operator:otieno")
    await raised(sql, bar, first_seen=datetime.now(UTC) - timedelta(days=3))
    switched = await sql.fetchval("select started_at from mpesa_sync.operations where bar_id = $1", bar)
    async with working(db, database_url):
        (said,) = await there.has("owner")
    at = (switched + timedelta(hours=3)).strftime("%H:%M")
    since = rf"customers cannot see M-Pesa since {at}( on \d+ \w+)? because M-Pesa is switched off\."
    assert re.search(since, said["message"])


async def test_what_was_over_before_the_owner_heard_is_not_told_to_them(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: an owner who tried again and succeeded gets no message; nor of kinds that are not theirs."""
    bar, other = await add_bar(sql), await add_bar(sql)
    for one in (bar, other):
        await venue_channels.set_channel(db, one, there.url("owner"), actor="operator:otieno")
    over = await raised(sql, bar)
    await alert_actions.resolve(db, over, actor="operation:x")
    await raised(sql, bar, "channel_failing")
    await raised(sql, other)
    async with working(db, database_url):
        await there.has("owner")
        await until(sql, _SETTLED, says=lambda left: left == 0)
    (said,) = there.heard["owner"]
    assert other.hex[:6] in said["title"]


async def test_what_was_over_before_the_owners_channel_worked_again_is_not_told_to_them(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: nobody is alarmed late about what is mended; nor told of an end without a beginning."""
    bar = await add_bar(sql)
    there.does["owner"] = "broken"
    await venue_channels.set_channel(db, bar, there.url("owner"), actor="operator:otieno")
    alert = await raised(sql, bar)
    async with working(db, database_url):
        await there.tried("owner")
        await alert_actions.resolve(db, alert, actor="operator:otieno")
        there.does["owner"] = "good"
        await until(sql, "select count(*) from mpesa_sync.alert_deliveries", says=lambda rows: rows == 0)
    assert there.heard["owner"] == []


async def test_the_url_of_an_owners_channel_is_stored_sealed_and_removed_on_demand(
    db: Database, sql: Any, there: Endpoints
) -> None:
    """K: it opens with the venue's keys alone; the name that is shown says the service only."""
    bar = await add_bar(sql)
    name = await venue_channels.set_channel(db, bar, there.url("CANARY-owner"), actor="operator:otieno")
    found = await venue_channels.read(db, bar)
    assert found is not None
    assert found.channel == name
    assert re.fullmatch("json-[0-9a-f]{16}", name)
    assert found.set_by == "operator:otieno"
    stored = await sql.fetchval("select url from mpesa_sync.venue_channels")
    assert b"CANARY" not in stored
    assert cipher.open_stored(db.keys, stored).secret == there.url("CANARY-owner")
    assert await venue_channels.remove(db, bar)
    assert not await venue_channels.remove(db, bar)
    assert await venue_channels.read(db, bar) is None


async def test_owners_channels_never_share_a_name(db: Database, sql: Any) -> None:
    """Issue 4, 3: there may be thousands of them: where four digits would be the same, the names are not."""
    salt = await deliveries.salt(sql)
    seen: dict[str, Secret] = {}
    urls = (Secret(f"json://host/{number}") for number in range(2_000))
    pair = next(
        (seen[name], url)
        for url in urls
        if (name := channel_urls.name_of(url, salt)) in seen or seen.setdefault(name, url) is not url
    )
    names = {await venue_channels.set_channel(db, await add_bar(sql), url, actor="x") for url in pair}
    assert len(names) == 2


async def test_a_bar_that_is_gone_makes_no_message_again_and_again(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: nobody can be told what customers of it see; said once, as failed."""
    gone, kept = await add_bar(sql), await add_bar(sql)
    for bar in (gone, kept):
        await venue_channels.set_channel(db, bar, there.url(f"owner-{bar.hex}"), actor="x")
    alert = await raised(sql, gone)
    await sql.execute("delete from public.bars where id = $1", gone)
    of_it = "select string_agg(state || ' ' || fault, '|') from mpesa_sync.alert_deliveries where alert_id = $1"
    async with working(db, database_url):
        await until(sql, of_it, alert, says=lambda rows: rows == "failed venue_gone")
        await raised(sql, kept)
        await there.has(f"owner-{kept.hex}")
    assert await sql.fetchval(of_it, alert) == "failed venue_gone"
    assert there.tries[f"owner-{gone.hex}"] == 0


async def test_the_channel_of_a_bar_that_is_gone_is_forgotten(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """T3: the address of somebody who is no customer any more is not kept."""
    bar, kept = await add_bar(sql), await add_bar(sql)
    for one in (bar, kept):
        await venue_channels.set_channel(db, one, there.url("owner"), actor="operator:otieno")
    await sql.execute("update mpesa_sync.venue_channels set set_at = now() - interval '2 days'")
    await sql.execute("delete from public.bars where id = $1", bar)
    async with working(db, database_url):
        await until(sql, "select count(*) from mpesa_sync.venue_channels", says=lambda left: left == 1)
    assert await venue_channels.read(db, kept) is not None


async def test_a_channel_is_set_only_for_a_bar_that_is_there_with_a_url_that_works(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: bad input is refused without its content; without a key nothing is stored."""
    bar = await add_bar(sql)
    with pytest.raises(BarNotFound):
        await venue_channels.set_channel(db, uuid4(), there.url("a"), actor="x")
    for text in ("syslog://CANARY", "nonsense", "slack://CANARY"):
        with pytest.raises(InvalidInput) as refused:
            await venue_channels.set_channel(db, bar, Secret(text), actor="x")
        assert "CANARY" not in str(refused.value)
    async with connect(database_url) as keyless:
        with pytest.raises(KmsKeyMissing):
            await venue_channels.set_channel(keyless, bar, there.url("a"), actor="x")


async def test_an_owners_channel_that_no_key_opens_is_said_to_operators(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 3: it is itself visible, and healed by setting it again."""
    bar = await add_bar(sql)
    async with connect(database_url, kms_keys=[generate_key()]) as stranger:
        await venue_channels.set_channel(stranger, bar, there.url("owner"), actor="x")
    await raised(sql, bar)
    async with working(db, database_url, there.url("operators")):
        told = await there.has("operators", 2)
        assert f"'mpesa-sync alerts channel {bar} --set'" in told[1]["message"]
        await venue_channels.set_channel(db, bar, there.url("owner"), actor="x")
        await there.has("owner")
        await there.has("operators", 3)
    assert KEY.reveal() not in str(told)


def _alert(kind: AlertKind) -> StoredAlert:
    return StoredAlert(
        id=uuid4(),
        bar_id=uuid4(),
        bar_name="Mama Njeri",
        bar_slug="mama-njeri",
        kind=kind.value,
        state="firing",
        cause="database_busy",
        sqlstate="55P03",
        what_to_do="",
        operation_id=None,
        count=1,
        episode=1,
        first_seen=EIGHTEEN_FORTY_UTC,
        last_seen=EIGHTEEN_FORTY_UTC,
        acknowledged_at=None,
        acknowledged_by=None,
        resolved_at=None,
        resolved_by=None,
        note="",
    )
