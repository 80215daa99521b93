"""The server settings of the embedded PostgreSQL, with the reason for each that is not its default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mpesa_sync.errors import EmbeddedServerError

SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "127.0.0.1",
    # No socket file: its path may be 107 bytes long at most, and a home folder's may be longer.
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    # stderr is a file of mode 0600 that the supervisor opened: no collector process is needed.
    "logging_collector": "off",
    "log_destination": "stderr",
    "log_file_mode": "0600",
    "log_line_prefix": "%m [%p] ",
    # A DETAIL holds whole rows and the statement of a crashed backend, hence secrets (faults.md 2).
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
    "log_statement": "none",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}

_OURS: Final = frozenset(
    {
        *(name for name in SETTINGS if name.startswith(("log_", "listen_", "unix_", "password_"))),
        "logging_collector",
        "port",
        "data_directory",
        "config_file",
        "hba_file",
        "ident_file",
        "external_pid_file",
    }
)
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")


def checked(extra: Mapping[str, str]) -> dict[str, str]:
    """Return `extra` as a plain dict of PostgreSQL setting names and values.

    Raises `EmbeddedServerError` for a name that is none, or one that keeps the server private.
    """
    for name in extra:
        if not _NAME.fullmatch(name):
            raise EmbeddedServerError("an extra setting has a name that PostgreSQL cannot have")
        if name in _OURS:
            raise EmbeddedServerError(f"the setting {name} of the embedded server cannot be changed")
    return dict(extra)


def arguments(port: int, extra: Mapping[str, str]) -> list[str]:
    """Return the settings as arguments of `postgres`. There they also outrank ALTER SYSTEM."""
    chosen = {**SETTINGS, **extra, "port": str(port)}
    return [part for name, value in chosen.items() for part in ("-c", f"{name}={value}")]
