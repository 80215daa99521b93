"""The settings, read from the environment once. Nothing else in this project reads `os.environ` (spec 7)."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mpesa_sync.errors import ConfigurationError
from mpesa_sync.secret import Secret
from mpesa_sync.settings_reader import Reader

LogFormat = Literal["json", "console"]

PREFIX: Final = "MPESA_SYNC_"
DATABASE_URL: Final = "MPESA_SYNC_DATABASE_URL"
LISTEN_URL: Final = "MPESA_SYNC_LISTEN_URL"
HTTP_HOST: Final = "MPESA_SYNC_HTTP_HOST"
HTTP_PORT: Final = "MPESA_SYNC_HTTP_PORT"
WORKERS: Final = "MPESA_SYNC_WORKERS"
POOL_SIZE: Final = "MPESA_SYNC_POOL_SIZE"
MAX_STREAMS: Final = "MPESA_SYNC_MAX_STREAMS"
MAX_STREAMS_PER_ADDRESS: Final = "MPESA_SYNC_MAX_STREAMS_PER_ADDRESS"
MAX_STREAMS_PER_BAR: Final = "MPESA_SYNC_MAX_STREAMS_PER_BAR"
JWT_SECRET: Final = "MPESA_SYNC_JWT_SECRET"  # noqa: S105 - the name of a variable
JWT_ISSUER: Final = "MPESA_SYNC_JWT_ISSUER"
JWT_AUDIENCE: Final = "MPESA_SYNC_JWT_AUDIENCE"
CALLBACK_URL: Final = "MPESA_SYNC_CALLBACK_URL"
ALLOWED_ORIGINS: Final = "MPESA_SYNC_ALLOWED_ORIGINS"
TRUSTED_PROXIES: Final = "MPESA_SYNC_TRUSTED_PROXIES"
PUBLIC_URL: Final = "MPESA_SYNC_PUBLIC_URL"
ALERT_URLS: Final = "MPESA_SYNC_ALERT_URLS"
ALERT_REPEAT_MINUTES: Final = "MPESA_SYNC_ALERT_REPEAT_MINUTES"
ALERT_SPOOL: Final = "MPESA_SYNC_ALERT_SPOOL"
ALLOW_SANDBOX: Final = "MPESA_SYNC_ALLOW_SANDBOX"
OLD_KMS_KEYS: Final = "MPESA_SYNC_OLD_KMS_KEYS"
RECONCILE: Final = "MPESA_SYNC_RECONCILE"
RECONCILE_BUDGET: Final = "MPESA_SYNC_RECONCILE_BUDGET"
LOG_FORMAT: Final = "MPESA_SYNC_LOG_FORMAT"
LOG_LEVEL: Final = "MPESA_SYNC_LOG_LEVEL"
METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Read by the Prometheus client alone; `serve` sets it for its processes."""
KMS_KEY: Final = "MPESA_KMS_KEY"
"""Under the existing platform's name, without our prefix."""

DOCUMENTED: Final[Mapping[str, str]] = {
    DATABASE_URL: "the database to work on: postgresql://user:password@host:port/database",
    LISTEN_URL: "the same database without a pooler between, for the live feed and the job queue",
    HTTP_HOST: "the address that serve listens on (127.0.0.1)",
    HTTP_PORT: "the port that serve listens on (8000)",
    WORKERS: "how many processes serve side by side (1)",
    POOL_SIZE: "how many connections requests may have, in each process (10)",
    MAX_STREAMS: "how many open pages a process carries (20000); more are told to come again",
    MAX_STREAMS_PER_ADDRESS: "how many of them from one address (1000)",
    MAX_STREAMS_PER_BAR: "how many of them of one bar (10000)",
    JWT_SECRET: "the secret that bearer tokens are signed with (HS256), at least 32 characters",
    JWT_ISSUER: "the issuer that bearer tokens must name; unset: not looked at",
    JWT_AUDIENCE: "the audience that bearer tokens must name (authenticated)",
    CALLBACK_URL: "where M-Pesa is to send its answers, for platforms whose credentials require one",
    ALLOWED_ORIGINS: "the sites whose pages may show what a venue accepts, with commas between: https://host",
    TRUSTED_PROXIES: "the proxies before serve, addresses or networks with commas between (127.0.0.1,::1)",
    PUBLIC_URL: "the address of serve as people reach it, for links in alerts: https://host",
    ALERT_URLS: 'where alerts are sent, as Apprise writes it, a JSON list: ["slack://…", "mailto://…"]; secrets',
    ALERT_REPEAT_MINUTES: "after how many minutes an alert that nobody acknowledged is sent again (60); 0: never",
    ALERT_SPOOL: "the folder that keeps alerts while the database cannot (.mpesa-sync/alerts)",
    KMS_KEY: "the key of the stored secrets, exactly 32 ASCII characters; needed only to open or seal them",
    OLD_KMS_KEYS: 'earlier keys that still open stored secrets, as a JSON list: ["…", "…"]',
    ALLOW_SANDBOX: "whether sandbox credentials may serve customers: true or false",
    RECONCILE: "what background work does about venues that drift: repair, or only observe and report",
    RECONCILE_BUDGET: "how many venues it repairs in an hour at most (100); then it alerts instead",
    LOG_FORMAT: "how log lines on stderr are written: console (default) or json",
    LOG_LEVEL: "the lowest level that is logged: debug, info, warning or error",
}
"""Every variable that this version reads, with what it means."""

_LATER: Final = frozenset(
    PREFIX + name
    for name in (
        "JWKS_URL",
        "CREDENTIAL_CHECK",
    )
)
"""Of spec section 7, read by later versions: one environment may serve several versions, so they are no fault."""

_LONGEST_REPEAT_MINUTES: Final = 10_080
_LARGEST_BUDGET: Final = 1_000_000
_MOST_WORKERS: Final = 100
_MOST_CONNECTIONS: Final = 1_000
_MOST_STREAMS: Final = 1_000_000
LOOPBACK: Final = ("127.0.0.1", "::1")
"""This machine: whose word a process that serves takes for where a request comes from, unless a setting says else."""
SPOOL: Final = Path(".mpesa-sync/alerts")
"""Where alerts wait for the database, unless a setting or a program says otherwise."""
_MISTAKEN: Final = {PREFIX + "KMS_KEY": KMS_KEY}
_MISSPELT_FROM: Final = 0.85
_TRUE: Final = frozenset({"true", "1", "yes", "on"})
_FALSE: Final = frozenset({"false", "0", "no", "off"})
_POLICIES: Final[Mapping[str, Literal["observe", "repair"]]] = {"observe": "observe", "repair": "repair"}
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says. None, or empty, where it says nothing.

    `allow_sandbox`, `reconcile`: None lets the installation decide (spec 2, 3). `log_level`: a level of `logging`,
    None for what suits the program.
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
    workers: int = 1
    pool_size: int = 10
    max_streams: int = 20_000
    max_streams_per_address: int = 1_000
    max_streams_per_bar: int = 10_000
    jwt_secret: Secret | None = None
    jwt_issuer: str | None = None
    jwt_audience: str = "authenticated"
    callback_url: str | None = None
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = LOOPBACK
    public_url: str | None = None
    alert_urls: tuple[Secret, ...] = ()
    alert_repeat_minutes: int = 60
    alert_spool: Path = SPOOL
    reconcile: Literal["observe", "repair"] | None = None
    reconcile_budget: int = 100

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
        reader = Reader(os.environ if environ is None else environ)
        settings = cls(
            database_url=reader.database_url(DATABASE_URL),
            listen_url=reader.database_url(LISTEN_URL),
            http_host=reader.line(HTTP_HOST) or "127.0.0.1",
            http_port=reader.port(HTTP_PORT, 8000),
            workers=reader.number(WORKERS, 1, least=1, most=_MOST_WORKERS),
            pool_size=reader.number(POOL_SIZE, 10, least=2, most=_MOST_CONNECTIONS),
            max_streams=reader.number(MAX_STREAMS, 20_000, least=1, most=_MOST_STREAMS),
            max_streams_per_address=reader.number(MAX_STREAMS_PER_ADDRESS, 1_000, least=1, most=_MOST_STREAMS),
            max_streams_per_bar=reader.number(MAX_STREAMS_PER_BAR, 10_000, least=1, most=_MOST_STREAMS),
            jwt_secret=reader.jwt_secret(JWT_SECRET),
            jwt_issuer=reader.line(JWT_ISSUER),
            jwt_audience=reader.line(JWT_AUDIENCE) or "authenticated",
            callback_url=reader.http_url(CALLBACK_URL),
            allowed_origins=reader.origins(ALLOWED_ORIGINS),
            trusted_proxies=reader.networks(TRUSTED_PROXIES) or LOOPBACK,
            public_url=reader.http_url(PUBLIC_URL),
            alert_urls=reader.alert_urls(ALERT_URLS),
            alert_repeat_minutes=reader.number(ALERT_REPEAT_MINUTES, 60, most=_LONGEST_REPEAT_MINUTES),
            alert_spool=reader.path(ALERT_SPOOL) or SPOOL,
            kms_key=reader.kms_key(KMS_KEY),
            old_kms_keys=reader.old_kms_keys(OLD_KMS_KEYS, newest=KMS_KEY),
            allow_sandbox=reader.chosen(ALLOW_SANDBOX, dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False)),
            reconcile=reader.chosen(RECONCILE, _POLICIES),
            reconcile_budget=reader.number(RECONCILE_BUDGET, 100, most=_LARGEST_BUDGET),
            log_format=reader.chosen(LOG_FORMAT, {"console": "console", "json": "json"}) or "console",
            log_level=reader.chosen(LOG_LEVEL, _LEVELS),
        )
        faults = [*reader.faults, *_misspelt(reader.environ)]
        if faults:
            raise ConfigurationError(faults)
        return settings


def environment_of(names: Iterable[str]) -> dict[str, str]:
    """Return what a program that is started gets of this one's environment: the variables named, where they are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def environment_with(more: Mapping[str, str]) -> dict[str, str]:
    """Return this program's whole environment with some variables set, for another process of itself."""
    return {**os.environ, **more}


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
