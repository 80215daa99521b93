"""How PostgreSQL's programs are started: it refuses to run as root, and must not outlive its supervisor."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import Final, Literal

from mpesa_sync.db.embedded.binaries import CHILD_ENV
from mpesa_sync.db.embedded.layout import Way
from mpesa_sync.errors import EmbeddedServerError

_GUARD: Final = 'test "$PPID" = "$0" && exec "$@"'
"""A parent that died before the death signal was asked for sends none: then do not start at all."""

_PROBE: Final = 'cd "$1" && exec "$2" --version'

_CAPABILITIES: Final = ("dac_read_search", "dac_override")
"""What lets `nobody` reach its data folder below folders that only root may enter. The second is all that an ordinary
container has; both give no more than root's own files, as the user namespace does too."""


def choose_way(folder: Path, bin_dir: Path) -> Way:
    """Return how a new cluster's processes shall run: as this user, else by one of root's two ways.

    Raises `EmbeddedServerError` when this is root and neither works here.
    """
    if os.geteuid() != 0:
        return "direct"
    ways: tuple[Way, ...] = ("user_namespace", "nobody")
    for way in ways:
        if prefix(way, folder, bin_dir) is not None:
            return way
    raise EmbeddedServerError(
        "PostgreSQL does not run as root, and neither a user namespace nor the user `nobody` can "
        "be used here: run as an ordinary user"
    )


def prefix(way: Way, folder: Path, bin_dir: Path) -> list[str] | None:
    """Return the command to put before a program to run it in this `way`, None when that fails here."""
    if way == "direct":
        return [] if os.geteuid() != 0 else None
    if os.geteuid() != 0:
        return None
    tried = [_user_namespace()] if way == "user_namespace" else [_nobody(c) for c in _CAPABILITIES]
    return _first_that_works(tried, folder, bin_dir)


def initdb_prefix(way_prefix: list[str], folder: Path, bin_dir: Path) -> list[str]:
    """Return the command to put before `initdb`: it also insists on a name for its user, the server does not.

    A container is often run with a user id that has none. Raises `EmbeddedServerError` when that cannot be helped.
    """
    if way_prefix or _is_named(os.geteuid()):
        return way_prefix
    found = _first_that_works([_user_namespace()], folder, bin_dir)
    if found is None:
        raise EmbeddedServerError(
            f"PostgreSQL's initdb needs a user with a name, and user id {os.geteuid()} has no entry in /etc/passwd"
        )
    return found


def _user_namespace() -> list[str]:
    # As `nobody`, whose name every system knows: the user id 1000 is not there in most containers.
    user, group = nobody_ids()
    return ["unshare", "--user", f"--map-user={user}", f"--map-group={group}"]


def _is_named(user: int) -> bool:
    try:
        pwd.getpwuid(user)
    except KeyError:
        return False
    return True


def _first_that_works(tried: list[list[str]], folder: Path, bin_dir: Path) -> list[str] | None:
    for words in tried:
        probe = [*words, "/bin/sh", "-c", _PROBE, "sh", str(folder), str(bin_dir / "postgres")]
        if _works(probe):
            return words
    return None


def _nobody(capability: str) -> list[str]:
    user, group = nobody_ids()
    return [
        *("setpriv", "--reuid", str(user), "--regid", str(group), "--clear-groups"),
        *("--securebits", "+no_setuid_fixup"),
        *("--inh-caps", f"+{capability}", "--ambient-caps", f"+{capability}"),
    ]


def nobody_ids() -> tuple[int, int]:
    """Return the user and group id of `nobody`. Raises `EmbeddedServerError` where there is no such user."""
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise EmbeddedServerError("this system has no user `nobody`") from exc
    return entry.pw_uid, entry.pw_gid


def bound(way_prefix: list[str], argv: list[str], *, on_death: Literal["QUIT", "INT"]) -> list[str]:
    """Return the command that runs `argv` and sends it the signal `on_death` when this process dies.

    The signal is asked for after the change of credentials, which would clear it. A server is given QUIT: an
    immediate shutdown loses nothing that was committed, and a fast one (INT) hangs while a crash is recovered. Where
    util-linux's `setpriv` is missing the next start ends what was left behind.
    """
    if not shutil.which("setpriv", path=CHILD_ENV["PATH"]):
        return [*way_prefix, *argv]
    guarded = ["setpriv", "--pdeathsig", on_death, "/bin/sh", "-c", _GUARD, str(os.getpid()), *argv]
    return [*way_prefix, *guarded]


def _works(argv: list[str]) -> bool:
    try:
        done = subprocess.run(
            argv,
            env=CHILD_ENV,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
