"""Passwords: what is accepted, how it is hashed, and that no answer tells which accounts exist (issue 3)."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from mpesa_sync.errors import InvalidInput, TooManyAttempts
from mpesa_sync.identity import passwords
from mpesa_sync.secret import Secret
from tests.support.people import PASSWORD, WRONG, CountedHasher, quick_hashing


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> CountedHasher:
    return quick_hashing(monkeypatch)


async def test_a_password_is_kept_as_argon2id_with_the_parameters_of_rfc_9106() -> None:
    """Issue 3: Argon2id, 64 MiB, three passes; the hash shows itself nowhere."""
    stored = await passwords.hashed(PASSWORD)
    assert stored.reveal().startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert "argon2" not in f"{stored} {stored!r}"
    assert await passwords.matches(stored, PASSWORD)
    assert not await passwords.matches(stored, WRONG)


async def test_the_same_password_has_another_hash_every_time(hasher: CountedHasher) -> None:
    """Issue 3: salted."""
    assert await passwords.hashed(PASSWORD) != await passwords.hashed(PASSWORD)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 9,
        "x" * 201,
        "",
        "long enough\n",
        "long\x00enough",
        "long enough\u202e",
        "long\u200benough",
        "pass\ud800word12",
    ],
    ids=ascii,
)
async def test_passwords_that_cannot_be_typed_again_are_refused(text: str, hasher: CountedHasher) -> None:
    """Issue 3: 10 to 200 characters, no control, bidi or invisible ones; such a one matches nothing either."""
    with pytest.raises(InvalidInput) as refused:
        await passwords.hashed(Secret(text))
    assert refused.value.field == "password"
    assert not text or text not in str(refused.value)
    assert not await passwords.matches(await passwords.hashed(PASSWORD), Secret(text))


@pytest.mark.parametrize(
    "text", ["x" * 10, "x" * 200, "correct horse battery", "пароль-дом-7", "nenosiri 🌴🌴🌴"], ids=ascii
)
async def test_every_other_password_is_accepted(text: str, hasher: CountedHasher) -> None:
    """Issue 3: any Unicode, spaces too."""
    assert await passwords.matches(await passwords.hashed(Secret(text)), Secret(text))


async def test_the_same_letters_from_another_keyboard_are_the_same_password(hasher: CountedHasher) -> None:
    """Issue 3: normalised to NFC before hashing."""
    assert await passwords.matches(await passwords.hashed(Secret("caf\u00e9 latte 12")), Secret("cafe\u0301 latte 12"))


@pytest.mark.parametrize("stored", [None, Secret("!"), Secret("")], ids=["no account", "no hash", "empty"])
async def test_an_account_that_is_absent_costs_the_same_verification(
    stored: Secret | None, hasher: CountedHasher
) -> None:
    """Issue 3: an unknown name is answered after a hash with the parameters of a real one was verified."""
    assert not await passwords.matches(await passwords.hashed(PASSWORD), WRONG)
    real = hasher.verified.copy()
    assert not await passwords.matches(stored, WRONG)
    assert hasher.verified[len(real) :][-1:] == real


async def test_a_hash_with_older_parameters_is_seen(hasher: CountedHasher, monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 3: hashes are renewed where the parameters have changed."""
    quick = await passwords.hashed(PASSWORD)
    assert not passwords.is_outdated(quick)
    monkeypatch.undo()
    assert passwords.is_outdated(quick)
    assert await passwords.matches(quick, PASSWORD)


async def test_at_most_two_are_hashed_at_once_and_a_long_queue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Issue 3: sign-ins take a bounded part of the processors and of the memory."""
    gate = threading.Event()

    class Slow(CountedHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Any:
            return gate.wait(20)

    monkeypatch.setattr(passwords, "_HASHER", Slow())
    waiting = [asyncio.create_task(passwords.matches(None, WRONG)) for _ in range(64)]
    await asyncio.sleep(0)  # now all of them are handed over
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("mpesa-sync-argon2")]
    with pytest.raises(TooManyAttempts) as refused:
        await passwords.matches(None, WRONG)
    assert (len(threads), refused.value.retry_after_s > 0) == (2, True)
    gate.set()
    assert all(await asyncio.gather(*waiting))
    assert await passwords.matches(None, WRONG)
