"""Documentation is run: every Python snippet works, every command that is named exists."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support import databases
from tests.support.cli import cli
from tests.support.venues import KEY, add_bar

ROOT: Final = Path(__file__).parent.parent
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SNIPPETS: Final = [
    pytest.param(code, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
]
COMMANDS: Final = sorted(
    {
        match[1].strip()
        for page in PAGES
        for block in re.findall(r"^```console\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for match in re.finditer(r"^\$ mpesa-sync ((?:[a-z]+ ?)+)", block, re.MULTILINE)
    }
)
GROUPS: Final = {"alerts", "db", "guard", "keys", "staff"}
"""Commands that need a second word."""


@pytest.mark.parametrize("code", SNIPPETS)
def test_python_snippets_run(code: str, database_url: str) -> None:
    """Conventions: docs snippets are executed, against a real database with a bar that has credentials."""

    async def bar() -> str:
        async with databases.plain(database_url) as connection:
            return str(await add_bar(connection, production=False, mpesa_enabled=True))

    environment = {
        **os.environ,
        "MPESA_SYNC_DATABASE_URL": database_url,
        "MPESA_KMS_KEY": KEY.reveal(),
        "BAR_ID": asyncio.run(bar()),
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "refused" not in done.stdout
    assert "failed" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_named_in_the_documentation_exist(command: str) -> None:
    """Docs are run: a command in a console block answers to --help (its last word may be a value)."""
    words = command.split()
    assert any(
        cli(*words[:length], "--help").code == 0 for length in range(len(words), 1 if words[0] in GROUPS else 0, -1)
    ), f"mpesa-sync {command} does not exist"


def test_every_target_named_in_the_readme_is_in_the_makefile() -> None:
    """README and Makefile say the same."""
    named = set(re.findall(r"make ([a-z]+)", (ROOT / "README.md").read_text())) - {"test"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named), named


def test_links_between_pages_lead_somewhere() -> None:
    """Docs are compared with the tree: relative links exist."""
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page}: {link}"


def _sentences() -> str:
    """Every text of ours that may tell a person to run something."""
    sources = [path.read_text() for path in sorted((ROOT / "src").rglob("*.py"))]
    return "\n".join(re.sub(r'"\n\s+f?"', "", source) for source in sources)


@pytest.mark.parametrize("advised", sorted(set(re.findall(r"'mpesa-sync ([^'{}]+)'", _sentences()))))
def test_every_command_that_a_message_advises_exists(advised: str) -> None:
    """Errors, remedies and alerts name a remedy: it must be one that this version has, options included."""
    words = [word for word in advised.split() if word not in ("BAR", "…")]
    options = [word for word in words if word.startswith("--")]
    command = [word for word in words if not word.startswith("-")]
    while command:
        ended = cli(*command, "--help")
        if ended.code == 0 and (command[0] not in GROUPS or len(command) > 1):
            assert all(option in ended.out for option in options), advised
            return
        command.pop()
    raise AssertionError(f"mpesa-sync {advised} does not exist")
