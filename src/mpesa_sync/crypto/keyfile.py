"""A key in a file of its own that only its owner may read. Written once, never over another file."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from mpesa_sync.crypto.keyring import generate_key
from mpesa_sync.errors import ConfigurationError
from mpesa_sync.secret import KMS_KEY_LENGTH, Secret, kms_key_fault

_LONGEST_BYTES = 4096


def read(path: Path) -> Secret:
    """Return the key in a file.

    Raises:
        FileNotFoundError: there is none.
        ConfigurationError: it cannot be read, others may read it, it is a link, or it holds no key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            text = file.read(_LONGEST_BYTES).strip()
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise ConfigurationError([f"the key file {path} cannot be read: {exc.strerror}"]) from None
    if mode & 0o077:
        raise ConfigurationError([f"others may read the key file {path}: run 'chmod 600 {path}'"])
    if fault := kms_key_fault(text):
        raise ConfigurationError([f"the key in {path} {fault}; it must be exactly {KMS_KEY_LENGTH} ASCII characters"])
    return Secret(text)


def read_or_create(path: Path) -> Secret:
    """Return the key in a file, a new one where there is none yet. Two programs at once get the same.

    Raises:
        ConfigurationError: as `read`.
        OSError: the file cannot be written, for example because the folder is absent.
    """
    with suppress(FileNotFoundError):
        return read(path)
    # Written in full under another name first: nobody ever reads half a key.
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    create(fresh, generate_key())
    try:
        with suppress(FileExistsError):  # another program was quicker: its key counts
            path.hardlink_to(fresh)
    finally:
        fresh.unlink()
    return read(path)


def create(path: Path, key: Secret) -> None:
    """Write a key to a new file, 0600 and on disk when this returns.

    Raises:
        FileExistsError: something is there already; it is left as it is.
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(key.reveal() + "\n")
        file.flush()
        os.fsync(descriptor)
