"""Does background jobs in this process, alone or beside the web, and says what it does."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvloop

from mpesa_sync import bootstrap
from mpesa_sync.bootstrap import Opened
from mpesa_sync.cli import output
from mpesa_sync.cli.exit_codes import ExitCode
from mpesa_sync.cli.session import announce, require_installed
from mpesa_sync.jobs import worker
from mpesa_sync.jobs.worker import Jobs
from mpesa_sync.settings import ALERT_SPOOL, ALERT_URLS, Settings
from mpesa_sync.sync import spool


def run(settings: Settings, database_url: str | None) -> ExitCode:
    """Do background jobs until SIGTERM or SIGINT; return 0.

    Raises:
        MpesaSyncError: the work cannot begin: no database is named, or it is away or not prepared; a setting is wrong.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_work(settings, database_url))


async def _work(settings: Settings, database_url: str | None) -> ExitCode:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with bootstrap.opened(settings, database_url=database_url) as opened:
        await announce(opened)
        async with opened.database.reading() as connection:
            await require_installed(connection)
        await warn_of_spool(opened)
        jobs = await _prepared(settings, opened)
        output.note("Doing background jobs. Stop it with Ctrl-C or SIGTERM.", "green")
        await worker.run(jobs, stop)
        output.note("Stopped.")
    return ExitCode.OK


@asynccontextmanager
async def beside(settings: Settings, opened: Opened, stop: asyncio.Event) -> AsyncIterator[None]:
    """Do background jobs beside what the block does, until `stop` is set.

    Raises:
        ConfigurationError: the URL of a channel cannot be used.
    """
    async with worker.running(await _prepared(settings, opened), stop):
        yield


async def warn_of_spool(opened: Opened) -> None:
    """Say at start, and not at the first alert, that alerts could not wait in files while the database is away."""
    database = opened.database
    fault = await asyncio.to_thread(spool.fault, database)
    if fault is not None:
        output.note(
            "Alerts cannot wait in files while the database is away: "
            f"{ALERT_SPOOL} {database.alert_spool or ''}{fault}. "
            f"Set {ALERT_SPOOL} to a folder that this program may write to; until then such alerts are kept in memory "
            "and lost when it ends.",
            "yellow",
        )


async def _prepared(settings: Settings, opened: Opened) -> Jobs:
    jobs = await worker.prepared(opened.database, settings.listen_url or opened.place.url, settings)
    if jobs.channels:
        output.note(f"Alerts go to: {', '.join(sorted(jobs.channels))}.")
    else:
        output.note(f"Alerts go nowhere: {ALERT_URLS} is not set. See them with 'mpesa-sync alerts list'.", "yellow")
    if not opened.database.keys:
        output.note("Owners of venues are not told: without MPESA_KMS_KEY their channels cannot be opened.", "yellow")
    return jobs
