"""The secret that bearer tokens of an embedded server are signed with: a file of its own, 0600, made once."""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from mpesa_sync.crypto import keyfile
from mpesa_sync.crypto.keyring import generate_key
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
    if found := read(home):
        return found
    # Written in full under another name first: nobody ever reads half a key.
    fresh = home / f"{KEY_FILE}.{secrets.token_hex(8)}"
    keyfile.create(fresh, generate_key())
    try:
        with suppress(FileExistsError):  # another program was quicker: its key counts
            (home / KEY_FILE).hardlink_to(fresh)
    finally:
        fresh.unlink()
    return keyfile.read(home / KEY_FILE)
