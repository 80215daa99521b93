"""A result that cannot be written: said in words, exit code 1, and where it is to be seen all the same (spec 6)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.cli import environment
from tests.support.migrate_cli import add_drift, drifted

_LOST: Final = "Error: the result could not be written (No space left on device).\n"


def onto_a_full_disk(*arguments: str, url: str | None = None) -> tuple[int, str]:
    """Run a command whose stdout is full; return its exit code and what it says on stderr."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "mpesa_sync", *arguments],
            env=environment(url),
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    return ended.returncode, ended.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("check",),
        ("check", "--json"),
        ("migrate", "status"),
        ("migrate", "status", "--json"),
        ("keys", "generate"),
        ("--version",),
    ],
)
def test_a_result_that_cannot_be_written_is_no_fault_of_the_program(
    database_url: str, command: tuple[str, ...]
) -> None:
    """Spec 6: exit code 1 and the system's own reason, once; nothing about a report of it."""
    code, said = onto_a_full_disk(*command, url=database_url)
    assert (code, said.count(_LOST), said.endswith(_LOST)) == (1, 1, True), said


async def test_a_run_whose_report_is_lost_says_where_it_is_to_be_seen(database_url: str, sql: Any) -> None:
    """Spec 6, R2: the run is done and is named; a dry run has changed nothing."""
    await add_drift(sql, hidden=2)
    code, said = await asyncio.to_thread(onto_a_full_disk, "migrate", "--dry-run", url=database_url)
    assert (code, said.endswith(f"{_LOST}Nothing was changed; run it again to see what it says.\n")) == (1, True), said
    code, said = await asyncio.to_thread(onto_a_full_disk, "migrate", "--yes", "--json", url=database_url)
    run = await sql.fetchval("select id::text from mpesa_sync.migration_runs where state = 'done'")
    where = f"The run has ended all the same: 'mpesa-sync migrate status {run}' shows it.\n"
    assert (code, said.endswith(_LOST + where)) == (1, True), said
    assert await drifted(sql) == []
    code, said = await asyncio.to_thread(onto_a_full_disk, "migrate", "--yes", url=database_url)
    assert (code, "'mpesa-sync migrate status' shows every run" in said) == (1, True), said


def test_a_reader_that_is_gone_is_said_alike(database_url: str) -> None:
    """Spec 6: a pipe whose other end is closed, as that of `| true`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as pipe:
        ended = subprocess.run(
            [sys.executable, "-m", "mpesa_sync", "check"],
            env=environment(database_url),
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert (ended.returncode, "could not be written (Broken pipe)" in ended.stderr) == (1, True), ended.stderr
