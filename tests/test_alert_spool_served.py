"""`serve` takes in alerts that wait in files by itself: nobody has to wait for a success, or for background jobs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import spool
from mpesa_sync.web import composition
from tests.support.faults import logged, until
from tests.support.occurrences import occurrence
from tests.support.serving import served
from tests.support.venues import KEY, add_bar

_COUNT: Final = "select count(*) from mpesa_sync.alerts"


def none_waits(database: Database) -> Callable[[], Awaitable[bool]]:
    """What to ask until no file is left; an alert's row is committed before its file goes."""

    async def none() -> bool:
        return spool.waiting(database) == 0

    return none


async def test_alerts_are_taken_in_without_a_success(database_url: str, sql: Any, tmp_path: Path) -> None:
    """R5.2: the database was away and is back: its alerts are stored although nothing else is asked of it."""
    bar = await add_bar(sql)
    async with (
        TcpProxy.before(database_url) as proxy,
        connect(proxy.url_for(database_url), alert_spool=tmp_path) as database,
        composition.taking_in(database, every_s=0.05),
    ):
        await proxy.close_port()
        proxy.reset_all()
        await spool.keep(database, occurrence(bar))
        await proxy.open_port()
        await until(lambda: sql.fetchval(_COUNT))
        await until(none_waits(database))
    assert await sql.fetchval(_COUNT) == 1


async def test_one_thing_that_goes_wrong_does_not_end_it(database_url: str, sql: Any, tmp_path: Path) -> None:
    """R5.2: it is said in the log, and the next try is made."""
    bar = await add_bar(sql)
    async with connect(database_url, alert_spool=tmp_path) as database:
        folder = database.alert_spool
        await spool.keep(database, occurrence(bar))
        database.alert_spool = object()  # type: ignore[assignment]  # what nobody thought of
        with logged() as events:
            async with composition.taking_in(database, every_s=0.05):

                async def said() -> bool:
                    return any(event["event"] == Event.ALERT_NOT_STORED for event in events)

                await until(said)
                database.alert_spool = folder
                await until(lambda: sql.fetchval(_COUNT))
                await until(none_waits(database))
    assert await sql.fetchval(_COUNT) == 1


async def test_serve_without_jobs_takes_in_what_waits(tmp_path: Path, database_url: str, sql: Any) -> None:
    """R5.2: `serve --no-jobs`, no worker, no request: what an earlier process left in files is stored."""
    bar = await add_bar(sql)
    folder = tmp_path / "spool"
    async with connect(database_url, alert_spool=folder) as database:
        await spool.keep(database, occurrence(bar))
    keyed = {"MPESA_KMS_KEY": KEY.reveal(), "MPESA_SYNC_ALERT_SPOOL": str(folder)}
    async with served(tmp_path, "--no-jobs", url=database_url, **keyed) as serving:
        await until(lambda: sql.fetchval(_COUNT))
        assert await serving.stop() == 0
