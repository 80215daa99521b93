"""Signing in: one answer for every wrong attempt, a new session for the right one (issue 3)."""

from __future__ import annotations

from typing import Any

import pytest

from mpesa_sync.db.pool import Database
from mpesa_sync.errors import SignInRefused
from mpesa_sync.identity import accounts, passwords, sessions
from mpesa_sync.identity.sign_in import sign_in
from mpesa_sync.secret import Secret
from tests.support.people import PASSWORD, WRONG, CountedHasher, add_account, quick_hashing

HOME = "197.248.1.7"


@pytest.fixture(autouse=True)
def hasher(monkeypatch: pytest.MonkeyPatch) -> CountedHasher:
    return quick_hashing(monkeypatch)


@pytest.mark.parametrize("name", ["Asha", "asha", "ASHA"])
async def test_the_right_password_begins_a_session(name: str, db: Database) -> None:
    """Issue 3: in whatever case the name is typed; the history gets it as it was made."""
    account = await add_account(db)
    begun = await sign_in(db, name, PASSWORD, HOME)
    assert begun.person.id == account.id
    assert begun.person.actor == "staff:Asha"
    assert await sessions.find(db, begun.token) == begun


async def test_an_operator_is_named_as_one(db: Database) -> None:
    """Spec 5: the history tells operators from a venue's staff."""
    await add_account(db, is_operator=True)
    assert (await sign_in(db, "asha", PASSWORD, HOME)).person.actor == "operator:Asha"


async def test_every_sign_in_has_a_token_of_its_own(db: Database) -> None:
    """Issue 3: no fixation: nothing that a browser brought along becomes the session."""
    await add_account(db)
    begun = [await sign_in(db, "Asha", PASSWORD, HOME) for _ in range(3)]
    assert len({one.token for one in begun}) == len({one.csrf for one in begun}) == 3


@pytest.mark.parametrize(
    "name",
    ["Nobody", "", "asha ", " asha", "a\x00sha", "as\ud800ha", "asha\u202e", "x" * 100_000, "'; --"],
    ids=lambda n: ascii(n)[:12],
)
async def test_no_answer_tells_which_names_exist(name: str, db: Database, hasher: CountedHasher) -> None:
    """Issue 3: the same error, the same text, and one hash of the same cost verified, for every name."""
    await add_account(db)
    with pytest.raises(SignInRefused) as known:
        await sign_in(db, "Asha", WRONG, HOME)
    with pytest.raises(SignInRefused) as unknown:
        await sign_in(db, name, WRONG, HOME)
    assert (str(unknown.value), unknown.value.code) == (str(known.value), known.value.code)
    assert len(hasher.verified) == 2
    assert hasher.verified[0] == hasher.verified[1]


@pytest.mark.parametrize(
    "text", ["", "short", "x" * 100_000, "\x00" * 12, "\ud800" * 12], ids=lambda text: ascii(text)[:12]
)
async def test_a_password_that_none_can_be_is_refused_like_any_other(
    text: str, db: Database, hasher: CountedHasher
) -> None:
    """Issue 3, odd input: the same answer, after a verification too."""
    await add_account(db)
    with pytest.raises(SignInRefused):
        await sign_in(db, "Asha", Secret(text), HOME)
    assert len(hasher.verified) == 1


async def test_the_password_is_in_no_error(db: Database) -> None:
    """Spec K: nothing that was typed is said again."""
    await add_account(db)
    with pytest.raises(SignInRefused) as refused:
        await sign_in(db, "Asha", WRONG, HOME)
    assert "asha" not in str(refused.value).lower()
    assert refused.value.__cause__ is None
    assert WRONG.reveal() not in repr(refused.value)


async def test_a_hash_with_older_parameters_is_renewed_at_sign_in(
    db: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: without a new password, and without ending other sessions."""
    account = await add_account(db)
    earlier = await sessions.create(db, account)
    changed = await sql.fetchval("select password_changed_at from mpesa_sync.accounts")
    monkeypatch.undo()
    await sign_in(db, "Asha", PASSWORD, HOME)
    stored = Secret(await sql.fetchval("select password_hash from mpesa_sync.accounts"))
    assert not passwords.is_outdated(stored)
    assert await passwords.matches(stored, PASSWORD)
    assert await sql.fetchval("select password_changed_at from mpesa_sync.accounts") == changed
    assert await sessions.find(db, earlier.token) is not None


@pytest.mark.parametrize("change", ["password", "removed"])
async def test_a_password_changed_while_it_is_looked_at_lets_nobody_in(
    change: str, db: Database, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Issue 3: the change commits between the verification and the session: no session stays."""
    account = await add_account(db)
    verified = passwords.matches

    async def and_then(stored: Secret | None, password: Secret) -> bool:
        matched = await verified(stored, password)
        if change == "password":
            await accounts.set_password(db, account, WRONG)
        else:
            await accounts.remove(db, account)
        return matched

    monkeypatch.setattr(passwords, "matches", and_then)
    with pytest.raises(SignInRefused):
        await sign_in(db, "Asha", PASSWORD, HOME)
    assert await sql.fetchval("select count(*) from mpesa_sync.sessions") == 0


async def test_a_new_password_counts_and_the_old_one_no_more(db: Database) -> None:
    """Issue 3: set_password."""
    account = await add_account(db)
    await accounts.set_password(db, account, WRONG)
    with pytest.raises(SignInRefused):
        await sign_in(db, "Asha", PASSWORD, HOME)
    assert (await sign_in(db, "Asha", WRONG, HOME)).person.id == account.id
