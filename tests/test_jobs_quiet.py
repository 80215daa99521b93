"""What is lost again and again while a database is away fills no log: once, once a minute, and when it is over."""

from __future__ import annotations

import logging
from typing import Any

from mpesa_sync.db.pool import Database
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.demo.proxy_link import Fault
from mpesa_sync.jobs import worker
from mpesa_sync.jobs.quiet import EVERY_S, Quiet
from tests.support.channels import FAST, Endpoints, prepared, raised, until
from tests.support.clocks import HurriedClock
from tests.support.faults import logged, named
from tests.support.venues import add_bar


async def test_a_lost_connection_is_said_once_and_so_is_its_return(
    db: Database, sql: Any, database_url: str, there: Endpoints
) -> None:
    """Issue 4, 8: a database that is away for an hour is one line at its loss and one at its return."""
    async with TcpProxy.before(database_url) as proxy:
        jobs = await prepared(db, proxy.url_for(database_url), there.url("a"), pace=FAST)
        with logged() as events:
            async with worker.running(jobs):
                await raised(sql, await add_bar(sql))
                await there.has("a")
                proxy.refuse_connections(4)
                proxy.reset_all()
                await until(sql, "select 1", says=lambda _: bool(named(events, "jobs.back")))
                assert proxy.fired[Fault.REFUSE] == 4
                for _ in range(3):
                    logging.getLogger("pgqueuer").error("Lost %s", "CANARY")
                await raised(sql, await add_bar(sql))
                await there.has("a", 2)
    assert [len(named(events, name)) for name in ("jobs.lost", "jobs.back")] == [1, 1]
    said = [(entry.get("said"), entry.get("error")) for entry in named(events, "jobs.job_failed")]
    assert ("Lost %s", None) in said
    assert len(said) == len(set(said)), "each of the library's lines once"


async def test_what_goes_on_is_said_once_a_minute() -> None:
    """Issue 4, 8: whoever begins to read the log later still learns of it."""
    clock = HurriedClock()
    quiet = Quiet(clock)
    assert [quiet.may_say("a"), quiet.may_say("a"), quiet.may_say("b")] == [True, False, True]
    await clock.sleep(EVERY_S)
    assert [quiet.may_say("a"), quiet.may_say("a")] == [True, False]
    assert [quiet.over("a"), quiet.over("a"), quiet.may_say("a")] == [True, False, True]
