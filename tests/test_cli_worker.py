"""`mpesa-sync worker`, and background jobs inside `serve`: how they begin, what they say, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.channels import Endpoints, raised, until
from tests.support.cli import cli, environment
from tests.support.serving import served
from tests.support.venues import KEY, add_bar
from tests.support.workers import worker

KEYED: Final = {"MPESA_KMS_KEY": KEY.reveal()}
_SETTLED: Final = "select count(*) from mpesa_sync.alert_deliveries where state = 'pending'"
_HEAVY: Final = ("pgqueuer", "apprise", "croniter", "uvloop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
async def test_a_worker_tells_alerts_and_stops_when_it_is_asked_to(
    tmp_path: Path, sql: Any, database_url: str, there: Endpoints, number: signal.Signals
) -> None:
    """Issue 4, 8: background jobs alone; it says over which channels, by their short names; exit code 0."""
    await raised(sql, await add_bar(sql))
    async with worker(tmp_path, database_url, there.url("CANARY"), **KEYED) as working:
        await there.has("CANARY")
        await until(sql, _SETTLED, says=lambda left: left == 0)
        assert await working.stop(number) == 0
    said = "".join(working.said)
    assert "Alerts go to: json-" in said
    assert "Doing background jobs." in said
    assert "alert.delivered" in said
    assert "Stopped." in said
    assert "CANARY" not in said


async def test_serve_does_the_jobs_too_unless_it_is_told_not_to(
    tmp_path: Path, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 8: one process is enough; `--no-jobs` leaves them to workers."""
    channels = {"MPESA_SYNC_ALERT_URLS": json.dumps([there.url("a").reveal()])}
    await raised(sql, await add_bar(sql))
    async with served(tmp_path, "--no-jobs", url=database_url, **KEYED, **channels) as serving:
        assert await serving.stop() == 0
    assert await sql.fetchval("select count(*) from mpesa_sync.alerts where told_at is null") == 1
    async with served(tmp_path, url=database_url, **KEYED, **channels) as serving:
        await there.has("a")
        assert await serving.stop() == 0


async def test_without_channels_and_without_a_key_it_says_so(tmp_path: Path, database_url: str) -> None:
    """Spec 6: what it does not do is said, with where to see alerts instead."""
    async with worker(tmp_path, database_url) as working:
        assert await working.stop() == 0
    said = "".join(working.said)
    assert "MPESA_SYNC_ALERT_URLS is not set" in said
    assert "without MPESA_KMS_KEY" in said


def test_a_database_that_was_not_prepared_is_said(tmp_path: Path, platform_url: str) -> None:
    """Spec 7: nothing is made unasked."""
    ended = cli("worker", url=platform_url, cwd=tmp_path)
    assert ended.code == 1
    assert "Run 'mpesa-sync db init' first." in ended.err


def test_channels_that_cannot_be_used_are_said_without_their_content(tmp_path: Path, database_url: str) -> None:
    """Spec 7: every one, by its position; before anything is done."""
    urls = json.dumps(["json://127.0.0.1/x", "slack://CANARY", "syslog://CANARY"])
    ended = cli("worker", url=database_url, cwd=tmp_path, MPESA_SYNC_ALERT_URLS=urls)
    assert ended.code == 64
    assert "MPESA_SYNC_ALERT_URLS, URL 2 of 3" in ended.err
    assert "MPESA_SYNC_ALERT_URLS, URL 3 of 3, syslog:// stays on this machine" in ended.err
    assert "CANARY" not in ended.err


def test_no_other_command_loads_the_queue() -> None:
    """Common sense of a command line: it starts in less than half a second."""
    code = (
        "import sys; from mpesa_sync.cli import main; main.build(); "
        f"print([name for name in {_HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("what", ["a file", "below a file", "no right"])
async def test_a_spool_that_cannot_be_used_is_said_at_start(tmp_path: Path, database_url: str, what: str) -> None:
    """Spec 7: not at the first alert that is lost: which setting, what is wrong with it, and what to do."""
    (tmp_path / "file").write_text("")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if what == "no right" and os.access(closed, os.W_OK):
        pytest.skip("this user may write anywhere")
    spool = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "a" / "b", "no right": closed / "a"}[what]
    chosen = {**KEYED, "MPESA_SYNC_ALERT_SPOOL": str(spool)}
    async with worker(tmp_path, database_url, **chosen) as working:
        assert await working.stop() == 0
    if what == "a file":
        async with served(tmp_path, "--no-jobs", url=database_url, **chosen) as serving:
            assert await serving.stop() == 0
        assert "MPESA_SYNC_ALERT_SPOOL" in "".join(serving.said)
    said = " ".join("".join(working.said).split())
    assert f"MPESA_SYNC_ALERT_SPOOL {spool}" in said
    assert ("cannot be written to" if what == "no right" else "/file is not a folder") in said
    assert "Set MPESA_SYNC_ALERT_SPOOL to a folder that this program may write to" in said


async def test_a_spool_that_is_not_there_yet_is_nothing_to_warn_of(tmp_path: Path, database_url: str) -> None:
    """Spec 7: it is made, with its parents, when it is first needed."""
    async with worker(tmp_path, database_url, MPESA_SYNC_ALERT_SPOOL=str(tmp_path / "a" / "b"), **KEYED) as working:
        assert await working.stop() == 0
    assert "MPESA_SYNC_ALERT_SPOOL" not in "".join(working.said)
