"""A plain Node program with `pg` from npm, for what other languages are shown to do.

Node and npm are the system's. Where they are missing the test is skipped; with `CI` set it fails instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

_HOME: Final = Path(__file__).parent / "node"
_FILES: Final = ("package.json", "package-lock.json", ".npmrc")


def project(folder: Path) -> Path:
    """Install the pinned packages in a folder of the test and return it.

    Raises:
        pytest.skip.Exception, pytest.fail.Exception: there is no Node, or the packages cannot be had.
    """
    if not shutil.which("node") or not shutil.which("npm"):
        _missing("node and npm are not installed")
    for name in _FILES:
        shutil.copy(_HOME / name, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    if installed.returncode:
        _missing("npm could not install pg")
    return folder


def run(folder: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program, with the environment of the test and what is given, and return how it ended."""
    program = folder / "program.mjs"
    program.write_text(code)
    return subprocess.run(
        ["node", str(program)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
