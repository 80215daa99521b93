"""Alerts while the database cannot keep them: on disk at once, in the database later, none lost, none twice (R5.2)."""

from __future__ import annotations

import asyncio
import shutil
import stat
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.demo.proxy import TcpProxy
from mpesa_sync.errors import DatabaseFault, PermanentFault, TransientFault
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync import spool
from mpesa_sync.sync.alerts import raise_occurrence
from tests.support.faults import QUICK, logged, named, until
from tests.support.occurrences import occurrence, rows
from tests.support.venues import KEY, add_bar


def files(database: Database, pattern: str = "[!.]*") -> list[Path]:
    """What stands in the spool."""
    assert database.alert_spool is not None
    return sorted(database.alert_spool.glob(pattern)) if database.alert_spool.is_dir() else []


async def test_a_dead_database_cannot_hide_an_alert(database_url: str, sql: Any, tmp_path: Path) -> None:
    """R5.2: logged and counted first, on disk while the port is closed, and in the database after the next success."""
    bar = await add_bar(sql, production=False)
    proxy = TcpProxy.before(database_url)
    async with (
        proxy,
        connect(proxy.url_for(database_url), kms_keys=[KEY], retry=QUICK, alert_spool=tmp_path) as database,
    ):
        manager = MpesaSyncManager(database)
        await manager.validate_sync(bar)
        with logged() as events:
            await proxy.close_port()
            assert proxy.reset_all() > 0
            for _ in range(3):
                with pytest.raises(TransientFault) as failed:
                    await manager.sync_mpesa_status(bar, True)
        assert failed.value.attempts == 4
        ours = [event["event"] for event in events if str(event["event"]).startswith("alert.")]
        assert ours == [Event.ALERT_RAISED, Event.ALERT_NOT_STORED, Event.ALERT_SPOOLED] * 3
        assert await rows(sql) == []
        assert spool.waiting(database) == 1, "three failures of one cause are one file"
        await proxy.open_port()
        done = await manager.sync_mpesa_status(bar, True)

        async def taken_in() -> bool:
            return spool.waiting(database) == 0

        await until(taken_in)
    assert await rows(sql) == [("resolved", 3, 1, f"operation:{done.operation_id}", None)], "that success answered it"


async def test_a_spool_is_taken_in_once_by_however_many_programs(spooling: Database, sql: Any) -> None:
    """R5.2: eight at once, and each failure is counted once."""
    bars = [await add_bar(sql) for _ in range(6)]
    for bar in bars * 3:
        await raise_occurrence(spooling, occurrence(bar), can_store=False)
    assert len(files(spooling, "*.json")) == 6
    done = await asyncio.gather(*(spool.take_in(spooling) for _ in range(8)))
    assert sum(done) >= 6
    assert [row[:2] for row in await rows(sql)] == [("firing", 3)] * 6
    assert files(spooling) == []


async def test_a_file_that_could_not_be_removed_counts_no_second_time(
    spooling: Database, sql: Any, tmp_path: Path
) -> None:
    """R5.2: a program that died between the commit and the removal leaves a file of something that is stored."""
    bar = await add_bar(sql)
    await raise_occurrence(spooling, occurrence(bar), can_store=False)
    (waiting,) = files(spooling, "*.json")
    kept = shutil.copy(waiting, tmp_path / "kept")
    assert await spool.take_in(spooling) == 1
    shutil.copy(kept, waiting)
    assert await spool.take_in(spooling) == 1
    assert await rows(sql) == [("firing", 1, 1, None, None)]
    assert spool.waiting(spooling) == 0


async def test_failures_while_it_is_taken_in_begin_a_file_of_their_own(spooling: Database, sql: Any) -> None:
    """R5.2: what is added to a file that is on its way into the database would be lost with it."""
    bar = await add_bar(sql)
    await raise_occurrence(spooling, occurrence(bar), can_store=False)
    async with connect_away(spooling) as away:
        with pytest.raises(DatabaseFault):
            await spool.take_in(away)
        assert away.alerts_may_wait, "a later call tries again"
    assert [path.suffix for path in files(spooling)] == [".taken"]
    await raise_occurrence(spooling, occurrence(bar), can_store=False)
    assert spool.waiting(spooling) == 2
    assert await spool.take_in(spooling) == 2
    assert await rows(sql) == [("firing", 2, 1, None, None)]


def connect_away(database: Database) -> Any:
    """A database that is not there, with the spool of another."""
    return _Away(database)


class _Away:
    def __init__(self, database: Database) -> None:
        self._opening = connect("postgresql://nobody@127.0.0.1:1/none", retry=QUICK)
        self._spool = database.alert_spool

    async def __aenter__(self) -> Database:
        opened = await self._opening.__aenter__()
        opened.alert_spool = self._spool
        return opened

    async def __aexit__(self, *ended: Any) -> None:
        await self._opening.__aexit__(*ended)


async def test_a_file_that_cannot_be_read_is_set_aside_and_said(spooling: Database, sql: Any) -> None:
    """R5.2: half a file stops none of the others, and is kept for a person."""
    bar = await add_bar(sql)
    await raise_occurrence(spooling, occurrence(bar), can_store=False)
    (waiting,) = files(spooling, "*.json")
    waiting.with_name("0" * 32 + ".json").write_bytes(b'{"id": "ha')
    with logged() as events:
        assert await spool.take_in(spooling) == 1
    assert [event["file"] for event in named(events, Event.ALERT_SPOOL_UNREADABLE)] == ["0" * 32 + ".unreadable"]
    assert [row[:2] for row in await rows(sql)] == [("firing", 1)]
    assert files(spooling, "*.unreadable")[0].read_bytes() == b'{"id": "ha'


async def test_nobody_else_can_read_the_spool_and_it_holds_no_address(spooling: Database) -> None:
    """R5.2: 0700 and 0600; the folder is named by a digest of the database's place, not by its password."""
    await raise_occurrence(spooling, occurrence(uuid4()), can_store=False)
    (waiting,) = files(spooling, "*.json")
    assert stat.S_IMODE(waiting.stat().st_mode) == 0o600
    assert stat.S_IMODE(waiting.parent.stat().st_mode) == 0o700
    assert len(waiting.parent.name) == 16


async def test_a_spool_of_another_database_is_left_alone(
    spooling: Database, empty_database_url: str, tmp_path: Path
) -> None:
    """R5.2: alerts of one database never turn up in another, although both programs share a folder."""
    await raise_occurrence(spooling, occurrence(uuid4()), can_store=False)
    async with connect(empty_database_url, alert_spool=tmp_path) as other:
        assert other.alert_spool != spooling.alert_spool
        assert await spool.take_in(other) == 0
    assert spool.waiting(spooling) == 1


async def test_a_folder_that_cannot_be_written_is_said_and_raises_nothing(database_url: str, tmp_path: Path) -> None:
    """R5.2: the log and the counter are what is left then."""
    blocked = tmp_path / "a file"
    blocked.write_text("")
    async with connect(database_url, alert_spool=blocked) as database:
        with logged() as events:
            await raise_occurrence(database, occurrence(uuid4()), can_store=False)
    assert [event["event"] for event in events] == [Event.ALERT_RAISED, Event.ALERT_NOT_SPOOLED]


async def test_an_alert_that_not_even_the_folder_can_keep_waits_in_memory(
    database_url: str, sql: Any, tmp_path: Path
) -> None:
    """R5.2: a full disk is often why the database is away; one alert a bar and kind waits for it in this program."""
    blocked = tmp_path / "a file"
    blocked.write_text("")
    bar = await add_bar(sql)
    async with connect(database_url, alert_spool=blocked) as database:
        for _ in range(3):
            await raise_occurrence(database, occurrence(bar), can_store=False)
        blocked.unlink()
        async with sql.transaction():
            await sql.execute("lock table mpesa_sync.alert_occurrences in access exclusive mode")
            with pytest.raises(DatabaseFault):
                await spool.take_in(database)
        await raise_occurrence(database, occurrence(bar), can_store=False)
        assert await spool.take_in(database) == 2
    assert await rows(sql) == [("firing", 4, 1, None, None)]


@pytest.mark.parametrize("lost_first", [True, False])
async def test_an_alert_whose_answer_was_lost_counts_once_with_what_is_spooled(
    database_url: str, sql: Any, tmp_path: Path, lost_first: bool
) -> None:
    """R5.2: it may be stored already under its own id, so it is neither added to another file nor added to."""
    bar = await add_bar(sql)
    async with (
        TcpProxy.before(database_url) as proxy,
        connect(proxy.url_for(database_url), kms_keys=[KEY], retry=QUICK, alert_spool=tmp_path) as database,
    ):
        for is_lost in (lost_first, not lost_first):
            if is_lost:
                proxy.cut_after_commit()
            await raise_occurrence(database, occurrence(bar), can_store=is_lost)
        await spool.take_in(database)
    assert [row[:2] for row in await rows(sql)] == [("firing", 2)]


async def test_what_is_refused_for_good_keeps_no_other_back_and_is_said(spooling: Database, sql: Any) -> None:
    """R5.2: one file that the database never takes must not silence all that come after it."""
    bars = [await add_bar(sql) for _ in range(3)]
    for number, bar in enumerate(bars):  # the first file is the one that is refused
        one = occurrence(bar, id=UUID(int=number), count=min(number, 1))
        await raise_occurrence(spooling, one, can_store=False)
    await sql.execute("alter table mpesa_sync.alerts add constraint counted check (count > 0)")
    with pytest.raises(PermanentFault):
        await spool.take_in(spooling)
    assert [row[:2] for row in await rows(sql)] == [("firing", 1)] * 2
    assert spool.waiting(spooling) == 1
    with logged() as events:
        await spool.take_in_when_it_can(spooling)
    assert [(event["error"], event["sqlstate"]) for event in named(events, Event.ALERT_NOT_TAKEN_IN)] == [
        ("constraint_refused", "23514")
    ]
    assert spooling.alerts_may_wait


async def test_a_spool_that_cannot_be_opened_is_said(spooling: Database) -> None:
    """R5.2: a folder of another user keeps its alerts for ever, and nobody would know."""
    await raise_occurrence(spooling, occurrence(uuid4()), can_store=False)
    assert spooling.alert_spool is not None
    lock = spooling.alert_spool / ".lock"
    lock.unlink()
    lock.mkdir()
    with logged() as events:
        await spool.take_in_when_it_can(spooling)
    assert [event["error"] for event in named(events, Event.ALERT_NOT_TAKEN_IN)] == ["IsADirectoryError"]
    assert spooling.alerts_may_wait
