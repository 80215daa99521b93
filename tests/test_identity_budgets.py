"""Budgets against guessing: what they stop, and whom they do not lock out (issue 3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mpesa_sync.db.pool import Database
from mpesa_sync.errors import SignInRefused, TooManyAttempts
from mpesa_sync.identity import passwords
from mpesa_sync.identity.sign_in import sign_in
from mpesa_sync.secret import Secret
from tests.support.people import PASSWORD, WRONG, CountedHasher, add_account, quick_hashing

HOME, STRANGER = "197.248.1.7", "203.0.113.9"
COUNTS = "select count from mpesa_sync.sign_in_failures order by count"
LATER = "update mpesa_sync.sign_in_failures set window_began_at = window_began_at - interval '15 minutes'"


@pytest.fixture(autouse=True)
def hasher(monkeypatch: pytest.MonkeyPatch) -> CountedHasher:
    return quick_hashing(monkeypatch)


async def attempt(db: Database, name: str = "Asha", password: Secret = WRONG, address: str = STRANGER) -> str:
    """Sign in and say how it ended."""
    try:
        await sign_in(db, name, password, address)
    except SignInRefused:
        return "refused"
    except TooManyAttempts as exc:
        return "too many" if 0 < exc.retry_after_s <= 15 * 60 and "Try again in" in str(exc) else repr(exc)
    return "in"


async def test_after_ten_wrong_guesses_the_right_password_is_refused_too(db: Database, hasher: CountedHasher) -> None:
    """Issue 3: per account and address; over the budget no hash is computed."""
    await add_account(db)
    assert [await attempt(db) for _ in range(12)] == ["refused"] * 10 + ["too many"] * 2
    assert await attempt(db, "ASHA", PASSWORD) == "too many"
    assert len(hasher.verified) == 10
    assert await attempt(db, password=PASSWORD, address=HOME) == "in"


async def test_a_name_that_does_not_exist_has_the_same_budget(db: Database) -> None:
    """Issue 3: no answer tells which names exist."""
    assert [await attempt(db, "nobody") for _ in range(11)] == ["refused"] * 10 + ["too many"]


async def test_twenty_guesses_at_once_pass_no_budget(db: Database, hasher: CountedHasher) -> None:
    """Issue 3: an attempt is counted before its password is looked at."""
    await add_account(db)
    ended = await asyncio.gather(*(attempt(db) for _ in range(20)))
    assert sorted(ended) == ["refused"] * 10 + ["too many"] * 10
    assert len(hasher.verified) == 10


async def test_a_window_ends_after_fifteen_minutes(db: Database, sql: Any) -> None:
    """Issue 3: by the database's clock; refused attempts do not make it longer."""
    await add_account(db)
    assert [await attempt(db) for _ in range(11)][-1] == "too many"
    await sql.execute(LATER.replace("15 minutes", "14 minutes 50 seconds"))
    assert await attempt(db, password=PASSWORD) == "too many"
    await sql.execute(LATER.replace("15 minutes", "20 seconds"))
    assert await attempt(db, password=PASSWORD) == "in"


async def test_a_window_begins_with_its_first_attempt(db: Database, sql: Any) -> None:
    """Issue 3: more guesses do not make it longer."""
    await add_account(db)
    assert [await attempt(db) for _ in range(5)] == ["refused"] * 5
    await sql.execute(LATER.replace("15 minutes", "10 minutes"))
    assert [await attempt(db) for _ in range(6)] == ["refused"] * 5 + ["too many"]
    await sql.execute(LATER.replace("15 minutes", "5 minutes 1 second"))
    assert await attempt(db, password=PASSWORD) == "in"


async def test_one_address_has_fifty_guesses_at_all_names(db: Database, hasher: CountedHasher) -> None:
    """Issue 3: per address, over all accounts."""
    ended = [await attempt(db, f"name{number}") for number in range(51)]
    assert ended == ["refused"] * 50 + ["too many"]
    assert len(hasher.verified) == 50
    assert await attempt(db, "name1", address=HOME) == "refused"


async def test_strangers_cannot_lock_a_person_out_of_a_known_address(db: Database) -> None:
    """Issue 3: a hundred guesses from everywhere stop strangers, and not the address that signed in lately."""
    await add_account(db)
    assert await attempt(db, password=PASSWORD, address=HOME) == "in"
    ended = [await attempt(db, address=f"203.0.113.{number}") for number in range(101)]
    assert ended == ["refused"] * 100 + ["too many"]
    assert await attempt(db, password=PASSWORD, address="198.51.100.1") == "too many"
    assert await attempt(db, password=PASSWORD, address=HOME) == "in"


async def test_an_address_is_known_for_thirty_days(db: Database, sql: Any) -> None:
    """Issue 3: then it is an address like any other, and forgotten at the next success."""
    await add_account(db)
    assert await attempt(db, password=PASSWORD, address=HOME) == "in"
    await sql.execute("update mpesa_sync.sign_in_addresses set last_at = now() - interval '30 days'")
    for number in range(100):
        await attempt(db, address=f"203.0.113.{number}")
    assert await attempt(db, password=PASSWORD, address=HOME) == "too many"
    await sql.execute(LATER)
    assert await attempt(db, password=PASSWORD, address=STRANGER) == "in"
    assert await sql.fetchval("select count(*) from mpesa_sync.sign_in_addresses") == 1


async def test_a_known_address_of_one_account_is_known_for_no_other(db: Database) -> None:
    """Issue 3: whoever has an account gains nothing against somebody else's."""
    await add_account(db)
    await add_account(db, "Juma")
    assert await attempt(db, "Juma", PASSWORD, HOME) == "in"
    for number in range(100):
        await attempt(db, address=f"203.0.113.{number}")
    assert await attempt(db, password=PASSWORD, address=HOME) == "too many"


async def test_a_success_gives_back_what_was_counted_for_it_and_no_more(db: Database, sql: Any) -> None:
    """Issue 3: signing in rightly costs nothing, and does not wash away the guesses of others."""
    await add_account(db)
    for _ in range(9):
        await attempt(db)
    for _ in range(5):
        assert await attempt(db, password=PASSWORD) == "in"
    # The account's own bucket does not bind this address any more: it is known now.
    assert [record["count"] for record in await sql.fetch(COUNTS)] == [9, 9, 9]
    assert [await attempt(db), await attempt(db)] == ["refused", "too many"]


async def test_refused_attempts_use_up_nobody_elses_budget(db: Database, sql: Any) -> None:
    """Issue 3: one address that goes on and on does not fill the account's budget over all addresses."""
    await add_account(db)
    for _ in range(60):
        await attempt(db)
    assert [record["count"] for record in await sql.fetch(COUNTS)] == [10, 10, 10]
    assert await attempt(db, password=PASSWORD, address=HOME) == "in"


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.9", "203.0.113.9", True),
        ("203.0.113.9", "203.0.113.10", False),
        ("unix:", "unix:", True),
        ("x\x00y\ud800", "x\x00y\ud800", True),
    ],
)
async def test_one_customer_of_a_network_is_one_address(first: str, second: str, same: bool, db: Database) -> None:
    """Issue 3: a home has 2^64 IPv6 addresses and still one budget."""
    for _ in range(10):
        assert await attempt(db, address=first) == "refused"
    assert await attempt(db, address=second) == ("too many" if same else "refused")


async def test_the_table_of_buckets_names_nobody(db: Database, sql: Any) -> None:
    """Issue 3: digests instead of names and addresses."""
    await add_account(db)
    await attempt(db)
    await attempt(db, password=PASSWORD, address=HOME)
    rows = [
        *await sql.fetch("select * from mpesa_sync.sign_in_failures"),
        *await sql.fetch("select * from mpesa_sync.sign_in_addresses"),
    ]
    text = str(rows).lower()
    assert len(rows) == 6
    assert not [word for word in ("asha", STRANGER, HOME) if word in text]


async def test_buckets_that_are_over_are_deleted_at_a_success(db: Database, sql: Any) -> None:
    """Issue 3: guessing does not fill the disk for ever."""
    await add_account(db)
    for number in range(5):
        await attempt(db, f"name{number}")
    await sql.execute(LATER)
    assert await attempt(db, password=PASSWORD, address=HOME) == "in"
    assert await sql.fetchval("select count(*) from mpesa_sync.sign_in_failures") == 3


async def test_buckets_that_are_over_are_deleted_by_failures_too(db: Database, sql: Any) -> None:
    """Issue 3: whoever never signs in fills no table either; an attempt deletes more than it makes."""
    for number in range(40):
        await attempt(db, f"name{number}", address=f"203.0.113.{number}")
    assert await sql.fetchval("select count(*) from mpesa_sync.sign_in_failures") == 120
    await sql.execute(LATER)
    assert await attempt(db, "nobody", address=HOME) == "refused"
    assert await sql.fetchval("select count(*) from mpesa_sync.sign_in_failures") == 20 + 3


async def test_a_server_too_busy_to_renew_a_hash_costs_no_attempt(
    db: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: the password was right: nothing stays counted, and the hash stays as it was."""
    await add_account(db)
    stored = await sql.fetchval("select password_hash from mpesa_sync.accounts")

    async def busy(_password: Secret) -> Secret:
        raise TooManyAttempts("Too many people sign in. Try again in a moment.", retry_after_s=10)

    monkeypatch.setattr(passwords, "is_outdated", lambda _stored: True)
    monkeypatch.setattr(passwords, "hashed", busy)
    assert await attempt(db, password=PASSWORD) == "too many"
    assert [record["count"] for record in await sql.fetch(COUNTS)] == [0, 0, 0]
    assert await sql.fetchval("select password_hash from mpesa_sync.accounts") == stored


async def test_a_server_that_is_busy_hashing_costs_no_attempt(
    db: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: where no password was looked at, nothing stays counted."""
    await add_account(db)

    async def busy(_stored: Secret | None, _password: Secret) -> bool:
        raise TooManyAttempts("Too many people sign in. Try again in a moment.", retry_after_s=10)

    monkeypatch.setattr(passwords, "matches", busy)
    assert await attempt(db, password=PASSWORD) == "too many"
    assert [record["count"] for record in await sql.fetch(COUNTS)] == [0, 0, 0]
