"""The settings, read from the environment once. Nothing else in this project reads `os.environ` (spec 7)."""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from mpesa_sync.errors import ConfigurationError
from mpesa_sync.secret import KMS_KEY_LENGTH, Secret, kms_key_fault

T = TypeVar("T")
LogFormat = Literal["json", "console"]

PREFIX: Final = "MPESA_SYNC_"
DATABASE_URL: Final = "MPESA_SYNC_DATABASE_URL"
LISTEN_URL: Final = "MPESA_SYNC_LISTEN_URL"
HTTP_HOST: Final = "MPESA_SYNC_HTTP_HOST"
HTTP_PORT: Final = "MPESA_SYNC_HTTP_PORT"
JWT_SECRET: Final = "MPESA_SYNC_JWT_SECRET"  # noqa: S105 - the name of a variable
JWT_ISSUER: Final = "MPESA_SYNC_JWT_ISSUER"
JWT_AUDIENCE: Final = "MPESA_SYNC_JWT_AUDIENCE"
CALLBACK_URL: Final = "MPESA_SYNC_CALLBACK_URL"
ALLOW_SANDBOX: Final = "MPESA_SYNC_ALLOW_SANDBOX"
OLD_KMS_KEYS: Final = "MPESA_SYNC_OLD_KMS_KEYS"
LOG_FORMAT: Final = "MPESA_SYNC_LOG_FORMAT"
LOG_LEVEL: Final = "MPESA_SYNC_LOG_LEVEL"
KMS_KEY: Final = "MPESA_KMS_KEY"
"""Under the existing platform's name, without our prefix."""

DOCUMENTED: Final[Mapping[str, str]] = {
    DATABASE_URL: "the database to work on: postgresql://user:password@host:port/database",
    LISTEN_URL: "the same database without a pooler between, for the live feed; where the other URL goes through one",
    HTTP_HOST: "the address that serve listens on (127.0.0.1)",
    HTTP_PORT: "the port that serve listens on (8000)",
    JWT_SECRET: "the secret that bearer tokens are signed with (HS256), at least 32 characters",
    JWT_ISSUER: "the issuer that bearer tokens must name; unset: not looked at",
    JWT_AUDIENCE: "the audience that bearer tokens must name (authenticated)",
    CALLBACK_URL: "where M-Pesa is to send its answers, for platforms whose credentials require one",
    KMS_KEY: "the key of the stored secrets, exactly 32 ASCII characters; needed only to open or seal them",
    OLD_KMS_KEYS: 'earlier keys that still open stored secrets, as a JSON list: ["…", "…"]',
    ALLOW_SANDBOX: "whether sandbox credentials may serve customers: true or false",
    LOG_FORMAT: "how log lines on stderr are written: console (default) or json",
    LOG_LEVEL: "the lowest level that is logged: debug, info, warning or error",
}
"""Every variable that this version reads, with what it means."""

_LATER: Final = frozenset(
    PREFIX + name
    for name in (
        "JWKS_URL",
        "ALLOWED_ORIGINS",
        "ALERT_URLS",
        "CREDENTIAL_CHECK",
        "RECONCILE",
    )
)
"""Of spec section 7, read by later versions: one environment may serve several versions, so they are no fault."""

MIN_JWT_SECRET_LENGTH: Final = 32
_LAST_PORT: Final = 65_535
_MISTAKEN: Final = {PREFIX + "KMS_KEY": KMS_KEY}
_MISSPELT_FROM: Final = 0.85
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. None, or empty, where it says nothing.

    `allow_sandbox`: None lets the installation decide (spec 2). `log_level`: a level of `logging`, None for
    what suits the program.
    """

    database_url: Secret | None = None
    kms_key: Secret | None = None
    old_kms_keys: tuple[Secret, ...] = ()
    allow_sandbox: bool | None = None
    log_format: LogFormat = "console"
    log_level: int | None = None
    listen_url: Secret | None = None
    http_host: str = "127.0.0.1"
    http_port: int = 8000
    jwt_secret: Secret | None = None
    jwt_issuer: str | None = None
    jwt_audience: str = "authenticated"
    callback_url: str | None = None

    @property
    def kms_keys(self) -> tuple[Secret, ...]:
        """Return every key: the first encrypts, all decrypt; empty where none is set."""
        return (self.kms_key, *self.old_kms_keys) if self.kms_key else ()

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Return the settings of an environment.

        Arguments:
            environ: names and values; None reads the process's own.
        Raises:
            ConfigurationError: names everything that is wrong, all at once, without its content (spec 7).
        """
        reader = _Reader(os.environ if environ is None else environ)
        settings = cls(
            database_url=reader.database_url(DATABASE_URL),
            listen_url=reader.database_url(LISTEN_URL),
            http_host=reader.line(HTTP_HOST) or "127.0.0.1",
            http_port=reader.port(HTTP_PORT, 8000),
            jwt_secret=reader.jwt_secret(),
            jwt_issuer=reader.line(JWT_ISSUER),
            jwt_audience=reader.line(JWT_AUDIENCE) or "authenticated",
            callback_url=reader.http_url(CALLBACK_URL),
            kms_key=reader.kms_key(),
            old_kms_keys=reader.old_kms_keys(),
            allow_sandbox=reader.chosen(ALLOW_SANDBOX, dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)),
            log_format=reader.chosen(LOG_FORMAT, {"console": "console", "json": "json"}) or "console",
            log_level=reader.chosen(LOG_LEVEL, _LEVELS),
        )
        faults = [*reader.faults, *_misspelt(reader.environ)]
        if faults:
            raise ConfigurationError(faults)
        return settings


def database_url_fault(text: str) -> str | None:
    """Return what is wrong with the shape of a database URL, without its content; None where nothing is."""
    if not text.strip():
        return "is empty"
    if not text.startswith(("postgresql://", "postgres://")) or any(c.isspace() or not c.isprintable() for c in text):
        return "must look like postgresql://user:password@host:port/database"
    try:
        hosts = urlsplit(text).netloc.rpartition("@")[2].split(",")
        ports = [SplitResult("", host, "", "", "").port for host in hosts]
    except ValueError:
        ports = [0]
    if 0 in ports:
        return "cannot be read; in a password the characters / ? # [ ] are written as %2F %3F %23 %5B %5D"
    return None


class _Reader:
    """Reads one environment, and collects what is wrong with it."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        self.faults: list[str] = []

    def _text(self, name: str) -> str | None:
        """Return a value. Set but empty is a fault: it usually is another variable that was not set."""
        text = self.environ.get(name)
        if text is not None and not text.strip():
            self.faults.append(f"{name} is empty: give it a value, or do not set it")
            return None
        return text

    def database_url(self, name: str) -> Secret | None:
        text = self._text(name)
        if text is None:
            return None
        if fault := database_url_fault(text):
            self.faults.append(f"{name} {fault}")
            return None
        return Secret(text)

    def line(self, name: str) -> str | None:
        """Return a text of printable characters without white space inside."""
        text = self._text(name)
        if text is None:
            return None
        text = text.strip()
        if any(c.isspace() or not c.isprintable() for c in text):
            self.faults.append(f"{name} must be one word of printable characters")
            return None
        return text

    def port(self, name: str, default: int) -> int:
        text = self._text(name)
        if text is None:
            return default
        if not re.fullmatch("[0-9]{1,5}", text.strip()) or int(text) > _LAST_PORT:
            self.faults.append(f"{name} must be a number from 0 (any free port) to {_LAST_PORT}")
            return default
        return int(text)

    def http_url(self, name: str) -> str | None:
        text = self.line(name)
        if text is not None and not text.startswith(("https://", "http://")):
            self.faults.append(f"{name} must look like https://host/path")
            return None
        return text

    def jwt_secret(self) -> Secret | None:
        text = self._text(JWT_SECRET)
        if text is None:
            return None
        if len(text) < MIN_JWT_SECRET_LENGTH:
            self.faults.append(
                f"{JWT_SECRET} has {len(text)} characters; it must have at least {MIN_JWT_SECRET_LENGTH}"
            )
            return None
        return Secret(text)

    def kms_key(self) -> Secret | None:
        text = self._text(KMS_KEY)
        if text is None:
            return None
        if fault := kms_key_fault(text):
            self.faults.append(_key_fault(KMS_KEY, fault))
            return None
        return Secret(text)

    def old_kms_keys(self) -> tuple[Secret, ...]:
        text = self._text(OLD_KMS_KEYS)
        if text is None:
            return ()
        if KMS_KEY not in self.environ:
            self.faults.append(f"{OLD_KMS_KEYS} is set and {KMS_KEY} is not: it names the key that encrypts")
        keys = _json(text)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            self.faults.append(f'{OLD_KMS_KEYS} must be a JSON list of texts, such as ["…", "…"]')
            return ()
        for position, key in enumerate(keys, start=1):
            if fault := kms_key_fault(key):
                self.faults.append(_key_fault(f"{OLD_KMS_KEYS}, key {position} of {len(keys)},", fault))
        return tuple(Secret(key) for key in keys)

    def chosen(self, name: str, values: Mapping[str, T]) -> T | None:
        """Return what one of a few words means, whatever its case."""
        text = self._text(name)
        if text is None:
            return None
        word = text.strip().lower()
        if word not in values:
            self.faults.append(f"{name} must be one of {', '.join(sorted(values))}")
            return None
        return values[word]


def _json(text: str) -> object:
    """Return the value of a JSON text, None where it is none: the decoder's error would carry the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _key_fault(name: str, fault: str) -> str:
    return f"{name} {fault}; it must be exactly {KMS_KEY_LENGTH} ASCII characters"


def _misspelt(environ: Mapping[str, str]) -> list[str]:
    known = {*DOCUMENTED, *_LATER}
    faults = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known:
            continue
        meant = _MISTAKEN.get(name) or next(iter(_close(name.removeprefix(PREFIX), known)), None)
        if meant:
            faults.append(f"{name} is not known; {meant} is")
    return faults


def _close(suffix: str, known: set[str]) -> list[str]:
    suffixes = sorted(name.removeprefix(PREFIX) for name in known if name.startswith(PREFIX))
    return [PREFIX + found for found in difflib.get_close_matches(suffix, suffixes, n=1, cutoff=_MISSPELT_FROM)]
