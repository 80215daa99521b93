"""Plants each known mistake of `mutants.toml` in a copy of the code and sees that a test turns red."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
LIST: Final = Path(__file__).with_suffix(".toml")
TIMEOUT_S: Final = 420
_TESTS_FAILED: Final = 1
"""pytest's exit code for "tests ran and some failed"; anything else is no proof."""


@dataclass(frozen=True)
class Edit:
    """One exact replacement in a file of the package."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """One planted mistake, and the tests of which at least one must fail with it.

    `is_for_night`: `make prove` leaves it out.
    """

    name: str
    tests: list[str]
    edits: list[Edit]
    is_for_night: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant: `killed_by` is the first test that turned red, None where it lives."""

    mutant: Mutant
    killed_by: str | None
    duration_s: float
    output: str


def load() -> list[Mutant]:
    """Return the mutants of the list."""
    found = tomllib.loads(LIST.read_text())["mutant"]
    return [Mutant(m["name"], m["tests"], [Edit(**edit) for edit in m["edits"]], m.get("night", False)) for m in found]


def plant(mutant: Mutant, package: Path) -> None:
    """Apply the edits to a copy of the package.

    Raises:
        ValueError: an edit's text does not stand there exactly once; the list is out of date.
    """
    for edit in mutant.edits:
        path = package / edit.file
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise ValueError(f"{mutant.name}: the text to replace stands {text.count(edit.old)} times in {edit.file}")
        path.write_text(text.replace(edit.old, edit.new))


def run(mutant: Mutant, postgres: str) -> Verdict:
    """Plant one mutant and run its tests on a server of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "src"
        shutil.copytree(ROOT / "src", copy, ignore=shutil.ignore_patterns("__pycache__"))
        plant(mutant, copy / "mpesa_sync")
        command = [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--postgres", postgres),
            *("--basetemp", f"{folder}/pytest", *mutant.tests),
        ]
        environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            result = _tested(command, environment)
            if result.returncode not in (0, _TESTS_FAILED):  # no verdict: pytest itself or its server did not come up
                result = _tested(command, environment)
        except subprocess.TimeoutExpired:
            return Verdict(mutant, None, TIMEOUT_S, f"its tests did not end within {TIMEOUT_S} s")
    red = [line for line in result.stdout.splitlines() if line.startswith("FAILED ")]
    killed_by = red[0].split()[1] if result.returncode == _TESTS_FAILED and red else None
    return Verdict(mutant, killed_by, time.monotonic() - began, result.stdout + result.stderr)


def _tested(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def main() -> int:
    """Run the mutants; return 0 where every one was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", choices=["wheel", "system"], default="wheel")
    parser.add_argument("--only", default="", help="run only mutants whose name contains this text")
    parser.add_argument("--all", action="store_true", help="also those that are left for the night")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    mutants = [
        mutant
        for mutant in load()
        if options.only in mutant.name and (options.all or options.only or not mutant.is_for_night)
    ]
    survivors = 0
    with ThreadPoolExecutor(options.workers) as pool:
        for verdict in pool.map(lambda mutant: run(mutant, options.postgres), mutants):
            fate = f"killed by {verdict.killed_by}" if verdict.killed_by else "LIVES"
            print(f"{verdict.duration_s:6.1f} s  {verdict.mutant.name}: {fate}", flush=True)
            if not verdict.killed_by:
                survivors += 1
                print(verdict.output[-3000:], flush=True)
    print(f"{len(mutants) - survivors} passed, {survivors} failed", flush=True)
    return 1 if survivors or not mutants else 0


if __name__ == "__main__":
    sys.exit(main())
