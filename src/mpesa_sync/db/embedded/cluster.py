"""Makes a new data folder with `initdb`. It appears whole or not at all."""

from __future__ import annotations

import locale
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Final

from mpesa_sync.db.embedded import runas
from mpesa_sync.db.embedded.binaries import CHILD_ENV
from mpesa_sync.db.embedded.layout import Cluster, Layout, Way, write_private
from mpesa_sync.errors import EmbeddedServerError

SUPERUSER: Final = "postgres"
_INITDB_TIMEOUT_S: Final = 120
_UNFINISHED: Final = "data.new-"


def create(layout: Layout, bin_dir: Path, major: int, way: Way, prefix: list[str]) -> None:
    """Make the cluster below `layout` with the programs in `bin_dir`, run after the words in `prefix`.

    The superuser's password is random, in a file of mode 0600; nothing but SCRAM is accepted from anybody. Raises
    `EmbeddedServerError` when it cannot be made; nothing of it is left then.
    """
    for unfinished in layout.folder.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    prefix = runas.initdb_prefix(prefix, layout.folder, bin_dir)
    fresh = layout.folder / f"{_UNFINISHED}{secrets.token_hex(4)}"
    try:
        write_private(layout.password, secrets.token_urlsafe(32))
        fresh.mkdir(mode=0o700)
        if way == "nobody":
            os.chown(fresh, *runas.nobody_ids())
        _initdb(layout, bin_dir, prefix, fresh)
        layout.write_cluster(Cluster(major, way))
        fresh.rename(layout.data)
        _flush(layout.folder)
    except OSError as exc:
        raise EmbeddedServerError(f"the database folder {layout.data} could not be made: {exc.strerror}") from exc
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _initdb(layout: Layout, bin_dir: Path, prefix: list[str], fresh: Path) -> None:
    argv = [
        *(str(bin_dir / "initdb"), "-D", str(fresh), "-U", SUPERUSER),
        # By file: the command line is for everybody on the machine to read.
        *("--pwfile", str(layout.password), "--auth=scram-sha-256"),
        *("--encoding=UTF8", f"--locale={_locale()}", "--no-instructions"),
    ]
    try:
        done = subprocess.run(
            runas.bound(prefix, argv, on_death="INT"),
            env=CHILD_ENV,
            stdin=subprocess.DEVNULL,
            timeout=_INITDB_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as exc:
        raise EmbeddedServerError("initdb did not finish in time") from exc
    if done.returncode != 0:
        raise EmbeddedServerError(
            f"the database folder {layout.data} could not be made; {layout.supervisor_log} says why"
        )


def _locale() -> str:
    """Return C.UTF-8 where the C library has it, else C. Both sort by code point, in every version.

    ICU is not in the wheel and PostgreSQL 15 has no builtin provider. Asking changes this process's locale for a
    moment, which is fine in the supervisor: it has one thread.
    """
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")
    except locale.Error:
        return "C"
    locale.setlocale(locale.LC_CTYPE, before)
    return "C.UTF-8"


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
