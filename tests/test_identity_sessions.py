"""Sessions: what is stored, how they end, and the CSRF token of each (issue 3)."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from mpesa_sync.db.pool import Database
from mpesa_sync.identity import accounts, sessions
from mpesa_sync.identity.people import Via
from mpesa_sync.secret import Secret
from tests.support.observer import database_hash
from tests.support.people import add_account, quick_hashing

AGE = "update mpesa_sync.sessions set created_at = created_at - $1::interval, expires_at = expires_at - $1::interval"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hashing(monkeypatch)


async def test_a_session_is_found_by_its_token_alone(db: Database) -> None:
    """Issue 3: whoever has the token is the person."""
    account = await add_account(db)
    begun = await sessions.create(db, account)
    found = await sessions.find(db, begun.token)
    assert found == begun
    assert (found.person.name, found.person.via, found.person.actor) == ("Asha", Via.SESSION, "staff:Asha")
    assert (await sessions.create(db, account)).token != begun.token


async def test_only_a_digest_of_the_token_is_stored(db: Database, sql: Any) -> None:
    """Issue 3: a copy of the database lets nobody in; nothing of the token or the CSRF token is readable there."""
    begun = await sessions.create(db, await add_account(db))
    token = begun.token.reveal()
    row = await sql.fetchrow("select * from mpesa_sync.sessions")
    assert row["token_digest"] == hashlib.sha256(token.encode()).digest()
    assert token not in str(row)
    assert begun.csrf not in str(row)


async def test_a_session_shows_neither_its_token_nor_its_csrf_token(db: Database) -> None:
    """Spec K: never in a log or an error."""
    begun = await sessions.create(db, await add_account(db))
    assert begun.token.reveal() not in repr(begun)
    assert begun.csrf not in repr(begun)


@pytest.mark.parametrize(
    "text", ["", "x", "A" * 43, "A" * 44, "A" * 42 + "\n", "\x00" * 43, "\ud800" * 43, "é" * 43, "A" * 9999]
)
async def test_any_other_text_finds_nothing(text: str, db: Database) -> None:
    """Issue 3, odd input: no session and no error."""
    await sessions.create(db, await add_account(db))
    assert await sessions.find(db, Secret(text)) is None
    await sessions.end(db, Secret(text))


async def test_signing_out_ends_this_session_and_no_other(db: Database, sql: Any) -> None:
    """Issue 3: the row is deleted."""
    account = await add_account(db)
    first, second = await sessions.create(db, account), await sessions.create(db, account)
    await sessions.end(db, first.token)
    assert await sessions.find(db, first.token) is None
    assert await sessions.find(db, second.token) is not None
    assert await sql.fetchval("select count(*) from mpesa_sync.sessions") == 1


@pytest.mark.parametrize(
    ("aged", "unused", "is_good"),
    [
        pytest.param("11 hours 59 minutes", "0", True, id="used until just before the end"),
        pytest.param("12 hours", "0", False, id="twelve hours"),
        pytest.param("0", "1 hour 59 minutes", True, id="almost two hours unused"),
        pytest.param("0", "2 hours", False, id="two hours unused"),
    ],
)
async def test_a_session_is_over_after_twelve_hours_or_two_unused(
    aged: str, unused: str, is_good: bool, db: Database, sql: Any
) -> None:
    """Issue 3: by the database's clock; using it moves the second limit and not the first."""
    begun = await sessions.create(db, await add_account(db))
    await sql.execute(AGE.replace("$1", f"'{aged}'"))
    await sql.execute(f"update mpesa_sync.sessions set last_seen_at = now() - interval '{unused}'")
    ends = await sql.fetchval("select expires_at from mpesa_sync.sessions")
    found = await sessions.find(db, begun.token)
    assert (found is not None) == is_good
    assert await sql.fetchval("select expires_at from mpesa_sync.sessions") == ends
    if is_good:
        assert await sql.fetchval("select now() - last_seen_at < interval '1 minute' from mpesa_sync.sessions")
    else:
        assert await sql.fetchval("select now() - last_seen_at >= $1::text::interval from mpesa_sync.sessions", unused)


async def test_use_is_written_down_at_most_once_a_minute(db: Database, sql: Any) -> None:
    """Issue 3: a page that asks often does not write often."""
    begun = await sessions.create(db, await add_account(db))
    await sql.execute("update mpesa_sync.sessions set last_seen_at = now() - interval '59 seconds'")
    before = await database_hash(sql)
    assert await sessions.find(db, begun.token) is not None
    assert await database_hash(sql) == before
    await sql.execute("update mpesa_sync.sessions set last_seen_at = now() - interval '61 seconds'")
    assert await sessions.find(db, begun.token) is not None
    assert await sql.fetchval("select now() - last_seen_at < interval '30 seconds' from mpesa_sync.sessions")


async def test_a_session_is_good_also_where_its_use_cannot_be_written_down(db: Database, sql: Any) -> None:
    """faults.md: somebody holds the row; the request goes on all the same."""
    begun = await sessions.create(db, await add_account(db))
    await sql.execute("update mpesa_sync.sessions set last_seen_at = now() - interval '5 minutes'")
    async with sql.transaction():
        await sql.execute("select 1 from mpesa_sync.sessions for update")
        assert await sessions.find(db, begun.token) is not None


async def test_sessions_that_are_over_are_deleted_by_the_next_one(db: Database, sql: Any) -> None:
    """Issue 3: the table does not grow for ever."""
    account = await add_account(db)
    for _ in range(3):
        await sessions.create(db, account)
    await sql.execute("update mpesa_sync.sessions set expires_at = now() - interval '1 second'")
    last = await sessions.create(db, account)
    await sql.execute("update mpesa_sync.sessions set last_seen_at = now() - interval '3 hours'")
    assert await sql.fetchval("select count(*) from mpesa_sync.sessions") == 1
    kept = await sessions.create(db, account)
    assert await sql.fetchval("select count(*) from mpesa_sync.sessions") == 1
    assert await sessions.find(db, last.token) is None
    assert await sessions.find(db, kept.token) is not None


@pytest.mark.parametrize("change", ["password", "removed", "revoked"])
async def test_what_takes_something_away_ends_every_session_of_the_account(change: str, db: Database, sql: Any) -> None:
    """Issue 3: a stolen session dies with the password; other people's sessions go on."""
    bar = await sql.fetchval("insert into public.bars (name) values ('Mama Njeri') returning id")
    account, other = await add_account(db, owner=bar), await add_account(db, "Juma")
    begun = [await sessions.create(db, account) for _ in range(2)]
    others = await sessions.create(db, other)
    if change == "password":
        await accounts.set_password(db, account, Secret("another password"))
    elif change == "removed":
        assert await accounts.remove(db, account)
    else:
        assert await accounts.revoke(db, account, bar)
    assert [await sessions.find(db, one.token) for one in begun] == [None, None]
    assert await sessions.find(db, others.token) is not None


async def test_the_csrf_token_is_that_of_this_session_only(db: Database) -> None:
    """Issue 3: bound to the session: one of another session, even of the same person, is refused."""
    account = await add_account(db)
    mine, other = await sessions.create(db, account), await sessions.create(db, account)
    found = await sessions.find(db, mine.token)
    assert found is not None
    assert sessions.csrf_matches(found, mine.csrf)
    assert not sessions.csrf_matches(found, other.csrf)


@pytest.mark.parametrize(
    "posted", ["", "x", "é", "\x00", "\ud800", "A" * 43, "A" * 100_000], ids=lambda text: ascii(text)[:12]
)
async def test_any_other_text_is_no_csrf_token(posted: str, db: Database) -> None:
    """Issue 3, odd input: refused without an error; the session's own token is none either."""
    begun = await sessions.create(db, await add_account(db))
    assert not sessions.csrf_matches(begun, posted)
    assert not sessions.csrf_matches(begun, begun.csrf[:-1] + posted)
    assert not sessions.csrf_matches(begun, begun.token.reveal())
