"""Bearer tokens: JWT signed with HMAC-SHA-256 under one shared secret. Other algorithms are never looked at."""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID

import jwt

from mpesa_sync.db import accounts
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import ConfigurationError, NotSignedIn
from mpesa_sync.identity.people import Person, Via
from mpesa_sync.secret import Secret
from mpesa_sync.settings import JWT_SECRET
from mpesa_sync.settings_reader import MIN_JWT_SECRET_LENGTH

LONGEST_TOKEN: Final = 4096
"""Bytes of a token; longer ones are not even decoded."""
LEEWAY_S: Final = 10
"""Seconds by which two clocks may differ."""
_ALGORITHM: Final = "HS256"
_REFUSED: Final = "Sign in, or send a bearer token that is valid."


class Tokens:
    """Makes and reads the tokens of one secret."""

    def __init__(self, secret: Secret, *, issuer: str | None, audience: str) -> None:
        """Keep what tokens are checked against.

        Arguments:
            secret: shared with whoever makes tokens, at least 32 bytes.
            issuer: what `iss` must be; None: it is not looked at.
            audience: what must be in `aud`.
        Raises:
            ConfigurationError: the secret is too short, or it is a public key or another thing that is no secret.
        """
        self._key = secret.reveal().encode("utf-8", "surrogateescape")
        self._issuer = issuer
        self._audience = audience
        if len(self._key) < MIN_JWT_SECRET_LENGTH:
            raise ConfigurationError([f"{JWT_SECRET} must have at least {MIN_JWT_SECRET_LENGTH} characters"])
        try:
            jwt.encode({}, self._key, algorithm=_ALGORITHM)
        except jwt.InvalidKeyError:
            raise ConfigurationError(
                [f"{JWT_SECRET} is a public key, a certificate or a JWK; HS256 needs a plain random secret"]
            ) from None

    def mint(self, person_id: UUID, ttl_s: int) -> Secret:
        """Return a token that names a person.

        Arguments:
            ttl_s: seconds until it ends.
        """
        now = int(time.time())
        claims: dict[str, Any] = {"sub": str(person_id), "aud": self._audience, "iat": now, "exp": now + ttl_s}
        if self._issuer is not None:
            claims["iss"] = self._issuer
        return Secret(jwt.encode(claims, self._key, algorithm=_ALGORITHM))

    async def person_of(self, database: Database, token: Secret) -> Person:
        """Return whom a token names. Its `role` and `user_metadata` prove nothing and are not read.

        Raises:
            NotSignedIn: whatever is wrong with the token, in the same words.
            DatabaseFault: translated.
        """
        person_id = self._subject(token)
        async with database.reading() as connection:
            account = await accounts.by_id(connection, person_id)
        if account is None:
            return Person(person_id, "", False, Via.TOKEN)
        return Person(account.id, account.name, account.is_operator, Via.TOKEN)

    def _subject(self, token: Secret) -> UUID:
        text = token.reveal()
        if len(text) > LONGEST_TOKEN or not text.isascii():
            raise NotSignedIn(_REFUSED)
        try:
            claims = jwt.decode(
                text,
                self._key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "sub", "aud"]},
            )
            return _uuid(claims)
        except Exception:  # noqa: BLE001 - what a stranger sent: whatever is wrong with it, the answer is the same
            raise NotSignedIn(_REFUSED) from None


def _uuid(claims: dict[str, Any]) -> UUID:
    """Return the subject, a UUID in its one usual spelling, of claims whose times are numbers.

    Raises:
        ValueError: it is something else. The library takes texts for times, and UUID() takes braces and prefixes.
    """
    for name in ("exp", "nbf", "iat"):
        if name in claims and (isinstance(claims[name], bool) or not isinstance(claims[name], int | float)):
            raise ValueError(name)
    subject = UUID(claims["sub"])
    if str(subject) != claims["sub"].lower():
        raise ValueError("sub")
    return subject
