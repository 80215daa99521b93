"""200 cuts at COMMIT, before and after it was forwarded: 0 partial, 0 lost, 0 doubled (faults.md)."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import pytest

from mpesa_sync import MpesaSyncManager, connect
from mpesa_sync.db import unit
from mpesa_sync.db.operations import Operation
from mpesa_sync.db.pool import Database
from mpesa_sync.db.transaction import Done
from mpesa_sync.demo.proxy import Fault, TcpProxy
from mpesa_sync.errors import OperationConflict, OutcomeUnknown, TransientFault
from tests.prove.figures import COMMIT_CUTS, SEED, limit_s
from tests.support.databases import plain
from tests.support.faults import QUICK
from tests.support.observer import see
from tests.support.venues import KEY, add_bar

pytestmark = pytest.mark.prove
AT_ONCE: Final = 4
LOST: Final = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)

_TALLY: Final = "create schema tally; create table tally.marks (bar_id uuid primary key, n int not null)"
_MARK: Final = "update tally.marks set n = n + 1 where bar_id = $1 returning n"


class Story:
    """What was asked for, what was answered, and what must therefore be committed of each bar."""

    def __init__(self, database: Database, proxy: TcpProxy, sql: Any, draw: random.Random) -> None:
        self.db = database
        self.proxy = proxy
        self.sql = sql
        self.draw = draw
        self.gave_up = 0
        self.on: dict[UUID, bool] = {}
        self.marks: dict[UUID, int] = {}

    @property
    def cuts(self) -> int:
        return self.proxy.fired[Fault.CUT_BEFORE_COMMIT] + self.proxy.fired[Fault.CUT_AFTER_COMMIT]

    def arm(self) -> None:
        """Arm one or two cuts before, after, or of both kinds, for whichever commits come next."""
        for cut in self.draw.sample(
            (self.proxy.cut_before_commit, self.proxy.cut_after_commit), self.draw.randint(1, 2)
        ):
            cut(times=self.draw.randint(1, 6))

    async def toggle(self, bar: UUID) -> tuple[UUID, bool]:
        """Switch the bar the other way, through the manager; until the outcome is known, under the same id."""
        wanted, operation_id = not self.on[bar], uuid4()

        async def call() -> None:
            result = await MpesaSyncManager(self.db).sync_mpesa_status(bar, wanted, operation_id=operation_id)
            assert (result.success, result.changed) == (True, True), "a repeat answers as the first attempt did"

        applied = await self.applied(call)
        if applied:
            self.on[bar] = wanted
        return operation_id, applied

    async def mark(self, bar: UUID) -> tuple[UUID, bool]:
        """Add one to the bar's tally: work that shows when it was done twice."""
        operation = Operation(uuid4(), "mark", bar, "prove")

        async def work(connection: Any) -> Done[int]:
            n = await connection.fetchval(_MARK, bar)
            return Done(n, before=n - 1, after=n)

        async def call() -> None:
            committed = await unit.run(self.db, operation, work, int)
            assert committed.result == self.marks[bar] + 1, "the stored answer of the one attempt that counts"

        applied = await self.applied(call)
        self.marks[bar] += applied
        return operation.id, applied

    async def applied(self, call: Any) -> bool:
        """Return whether the operation is applied, asking again for as long as nobody knows."""
        for _ in range(20):
            try:
                await call()
            except OutcomeUnknown:
                continue
            except (TransientFault, OperationConflict):  # it is known: nothing was written, nor ever will be
                self.gave_up += 1
                return False
            return True
        raise AssertionError("nobody knows after twenty calls")

    async def check(self, bar: UUID, operation_id: UUID, applied: bool) -> None:
        """Hold what is committed against what is to be expected, in one statement for the pair."""
        seen = await see(self.sql, bar)
        assert seen is not None
        assert (seen.mpesa_enabled, seen.authority) == (self.on[bar], self.on[bar]), "partial, lost or doubled"
        assert await self.sql.fetchval("select n from tally.marks where bar_id = $1", bar) == self.marks[bar]
        outcome = await self.sql.fetchval("select outcome from mpesa_sync.operations where id = $1", operation_id)
        assert (outcome == "applied") is applied, "the answer and the record of the operation differ"


@pytest.mark.timeout(limit_s(900))
async def test_commits_that_are_cut_are_applied_exactly_once_or_not_at_all(database_url: str) -> None:
    """R5.3: four callers at once, cuts of both kinds at random; the tally and the pair are as the answers say."""
    print(f"MPESA_SYNC_PROVE_SEED={SEED}")
    async with TcpProxy.before(database_url) as proxy, plain(database_url) as sql:
        await sql.execute(_TALLY)
        async with connect(proxy.url_for(database_url), kms_keys=[KEY], retry=QUICK, pool_size=AT_ONCE) as database:
            story = Story(database, proxy, sql, random.Random(SEED))
            for _ in range(AT_ONCE):
                bar = await add_bar(sql, production=False)
                await sql.execute("insert into tally.marks values ($1, 0)", bar)
                story.on[bar], story.marks[bar] = False, 0
            bar, rounds = sorted(story.on)[0], 0
            proxy.cut_before_commit(times=4)  # every attempt: one operation at least is buried
            await story.check(bar, *await story.mark(bar))
            while story.cuts < COMMIT_CUTS:
                rounds += 1
                assert rounds < 20 * COMMIT_CUTS, "the cuts do not fire"
                story.arm()
                doing = story.draw.choice((story.toggle, story.mark))
                bars = story.draw.sample(sorted(story.on), story.draw.choice((1, AT_ONCE)))
                answers = await asyncio.gather(*(doing(bar) for bar in bars))
                proxy.disarm()
                for bar, answer in zip(bars, answers, strict=True):
                    await story.check(bar, *answer)
        check_totals(story, await sql.fetchval("select sum(n) from tally.marks"))
        applied = "select count(*) from mpesa_sync.operations where kind = 'mark' and outcome = 'applied'"
        assert await sql.fetchval(applied) == sum(story.marks.values())


def check_totals(story: Story, tallied: int) -> None:
    """Every mark that was answered is there, once; and both kinds of cut did happen."""
    assert tallied == sum(story.marks.values())
    assert story.proxy.fired[Fault.CUT_BEFORE_COMMIT] >= COMMIT_CUTS // 10
    assert story.proxy.fired[Fault.CUT_AFTER_COMMIT] >= COMMIT_CUTS // 10
    assert story.gave_up > 0, "no operation was cut often enough to be buried"
    print(f"fired {dict(story.proxy.fired)}, given up {story.gave_up}")


async def test_a_retry_without_an_operation_id_doubles_what_was_cut_after_commit(database_url: str) -> None:
    """The twin: the same tally, retried blindly: cuts after COMMIT are done twice, and the tally shows it."""
    async with TcpProxy.before(database_url) as proxy, plain(database_url) as sql:
        await sql.execute(_TALLY)
        bar = uuid4()
        await sql.execute("insert into tally.marks values ($1, 0)", bar)
        asked = 10
        for number in range(asked):
            (proxy.cut_after_commit if number % 2 else proxy.cut_before_commit)()
            for _ in range(2):
                connection = await asyncpg.connect(proxy.url_for(database_url))
                try:
                    async with connection.transaction():
                        await connection.fetchval(_MARK, bar)
                    break
                except LOST:
                    continue
                finally:
                    connection.terminate()
        assert proxy.fired == {Fault.CUT_AFTER_COMMIT: 5, Fault.CUT_BEFORE_COMMIT: 5}
        assert await sql.fetchval("select n from tally.marks") == asked + 5
