"""Passwords: their rules, and Argon2id in two threads of its own. Nothing is stored here."""

from __future__ import annotations

import asyncio
import functools
import secrets
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from mpesa_sync.domain.credentials import has_refused_characters
from mpesa_sync.errors import InvalidInput, TooManyAttempts
from mpesa_sync.secret import Secret

T = TypeVar("T")
SHORTEST: Final = 10
LONGEST: Final = 200
"""Characters of a password, after Unicode normalisation (NFC)."""

_HASHER: Final = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)
_AT_ONCE: Final = 2
_LONGEST_QUEUE: Final = 64
_BUSY_RETRY_S: Final = 10


class _Hashing:
    """Runs Argon2id, which takes 64 MiB and a tenth of a second, a bounded number of times at once."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mpesa-sync-argon2")
        self._queued = 0

    async def run(self, work: Callable[[str, str], T], first: str, second: str) -> T:
        """Do `work` in a thread; refuse at once where too many wait already.

        Raises:
            TooManyAttempts: the queue is full.
        """
        if self._queued >= _LONGEST_QUEUE:
            raise TooManyAttempts(
                "Too many people sign in at this moment. Try again shortly.", retry_after_s=_BUSY_RETRY_S
            )
        self._queued += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, first, second)
        finally:
            self._queued -= 1


@functools.cache
def _hashing() -> _Hashing:
    """Return the threads of this process, made when the first password is hashed."""
    return _Hashing()


def generate() -> Secret:
    """Return a new random password of 20 characters."""
    return Secret(secrets.token_urlsafe(15))


def fault(password: Secret) -> str | None:
    """Return what is wrong with a new password, without its content; None where nothing is.

    Any Unicode is allowed, spaces too, except control, bidi and invisible characters: those get in by pasting and
    cannot be typed again.
    """
    text = _normalised(password)
    if not SHORTEST <= len(text) <= LONGEST:
        return f"must have {SHORTEST} to {LONGEST} characters"
    if has_refused_characters(text):
        return "holds control or invisible characters; type it again"
    return None


async def hashed(password: Secret) -> Secret:
    """Return the Argon2id hash of a new password, with its parameters and salt.

    Raises:
        InvalidInput: the password does not meet the rules.
        TooManyAttempts: too many are being hashed already.
    """
    if wrong := fault(password):
        raise InvalidInput("password", wrong)
    return Secret(await _hashing().run(lambda text, _: _HASHER.hash(text), _normalised(password), ""))


async def matches(stored: Secret | None, password: Secret) -> bool:
    """Return whether a password belongs to a stored hash. Takes the same time for a yes, a no, and no hash at all.

    Arguments:
        stored: None where there is no such account: a hash that nothing matches is verified instead, so that the
            time of the answer does not tell which names exist.
    Raises:
        TooManyAttempts: too many are being hashed already.
    """
    acceptable = fault(password) is None
    encoded = stored.reveal() if stored is not None and acceptable else _of_nothing()
    return await _hashing().run(_verified, encoded, _normalised(password) if acceptable else "")


def is_outdated(stored: Secret) -> bool:
    """Return whether a hash that was just matched has other parameters than new ones get."""
    return _HASHER.check_needs_rehash(stored.reveal())


def _verified(encoded: str, text: str) -> bool:
    try:
        return _HASHER.verify(encoded, text)
    except InvalidHashError:  # not even a hash: no answer may be quicker for it
        return _verified(_of_nothing(), text)
    except VerificationError:
        return False


def _of_nothing() -> str:
    """Return a hash with the parameters of new ones that no known password has; making it costs no hashing."""
    salt, digest = secrets.token_bytes(_HASHER.salt_len), secrets.token_bytes(_HASHER.hash_len)
    cost = f"m={_HASHER.memory_cost},t={_HASHER.time_cost},p={_HASHER.parallelism}"
    return f"$argon2id$v=19${cost}${_unpadded(salt)}${_unpadded(digest)}"


def _unpadded(raw: bytes) -> str:
    return b64encode(raw).decode("ascii").rstrip("=")


def _normalised(password: Secret) -> str:
    """Return the password as it is hashed: NFC, so that the same letters typed on another device are the same."""
    text = password.reveal()
    return text if len(text) > 4 * LONGEST else unicodedata.normalize("NFC", text)
