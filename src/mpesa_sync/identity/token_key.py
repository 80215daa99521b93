"""The secret that bearer tokens of an embedded server are signed with: a file of its own, 0600, made once."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from mpesa_sync.crypto import keyfile
from mpesa_sync.secret import Secret

KEY_FILE: Final = "jwt.key"
"""In the folder of the embedded server, beside the key of the stored secrets."""


def read(home: Path) -> Secret | None:
    """Return the secret of a folder, None where it has none yet.

    Raises:
        ConfigurationError: it cannot be read, others may read it, it is a link, or it holds no key.
    """
    try:
        return keyfile.read(home / KEY_FILE)
    except FileNotFoundError:
        return None


def create(home: Path) -> Secret:
    """Return the secret of a folder, a new one where it has none yet. Two programs at once get the same.

    Raises:
        ConfigurationError: as `read`.
        OSError: the file cannot be written, for example because the folder is absent.
    """
    return keyfile.read_or_create(home / KEY_FILE)
