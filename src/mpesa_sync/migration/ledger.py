"""The stored row of one run, as far as this process holds it: its lease, its cursor, its counters (R2).

Cursor and counters move in the transaction that changes the bars, which first asks whether this process still holds
the run. So a run that was killed at any point is gone on with exactly where it was, and a process that was taken for
dead can commit nothing more.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from mpesa_sync.db import candidates as candidates_of
from mpesa_sync.db import failpoints, holder, quarantine, runs, session, transaction
from mpesa_sync.db.candidates import Candidate
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.db.runs import StoredRun
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.migration import lease
from mpesa_sync.migration.candidates import Candidates
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.report import Outcome, Quarantined, RunReport, RunState
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event
from mpesa_sync.refusals import RunUnderWay

_log: Final = logs.get("migration")
_BEAT_S: Final = 2.0
_OPEN_STATES: Final = frozenset({RunState.PAUSED, RunState.INTERRUPTED})
"""How a run ends that is gone on with: its candidates are kept. So is that of one that a limit stopped."""


class Ledger:
    """One run's row.

    Arguments:
        report: its counters, moved here only once they are committed.
        kind: `migrate`, `record`, `retry` or `undo`.
        of_run: the run that is undone.
        is_bound: it corrects its first candidates alone.
    """

    def __init__(
        self,
        database: Database,
        report: RunReport,
        *,
        kind: str = "migrate",
        of_run: UUID | None = None,
        is_bound: bool = False,
    ) -> None:
        self._db = database
        self._token = uuid4()
        self.run_id = report.run
        self.report = report
        self.kind = kind
        self.of_run = of_run
        self._is_bound = is_bound
        self.round = 0
        self.cursor: UUID | None = None
        self.total = 0
        self.wanted: str | None = None
        self.is_open = False
        self._lost = False

    async def open(
        self,
        options: RunOptions,
        candidates: Candidates,
        set_aside: Sequence[Quarantined] = (),
        at_rest: Sequence[UUID] = (),
    ) -> None:
        """Write the run down with what it is to correct, before it changes anything.

        Arguments:
            set_aside: bars that it leaves out.
            at_rest: bars in the quarantine that need no correction any more.
        Raises:
            RunUnderWay: another one is.
        """

        async def work(connection: Any) -> None:
            if self.kind != "record":
                await lease.make_way(connection, self._token)
            await runs.insert(
                connection,
                self.run_id,
                kind=self.kind,
                of_run=self.of_run,
                is_bound=self._is_bound,
                state=RunState.DONE if self.kind == "record" else RunState.RUNNING,
                actor=options.actor,
                reason=options.reason,
                options=msgspec.json.encode(options).decode(),
                report=_text(self.report),
                candidates=len(candidates),
                token=self._token,
                holder=holder.here(),
            )
            await candidates_of.drop(connection, self.run_id)  # of an attempt whose answer was lost
            await candidates_of.add(connection, self.run_id, self.round, candidates)
            await _put_aside(connection, self.run_id, set_aside)
            await quarantine.settle(connection, self.run_id, at_rest)
            failpoints.hit(Failpoint.RUN_PLANNED)

        await lease.alone(lambda: self._committed(work, Failpoint.RUN_OPENED))
        self.total, self.is_open = len(candidates), True

    def taken_over(self, stored: StoredRun, token: UUID) -> None:
        """Hold a run that `control.taken_over` has given to this process."""
        self._token, self.round, self.cursor, self.total = token, stored.round, stored.cursor, stored.candidates
        self.is_open = True

    async def next_round(self, candidates: Candidates, *, found: int) -> None:
        """Begin another round with what a verification has found; `found` bars are looked at and drifted anew."""
        report, number = msgspec.structs.replace(self.report), self.round + 1
        report.scanned += found
        report.drifted += found

        async def work(connection: Any) -> bool:
            claim = await runs.claim(connection, self.run_id, self._token)
            if claim is None:
                return False
            if claim.round < number:
                await runs.next_round(
                    connection,
                    self.run_id,
                    self._token,
                    number=number,
                    report=_text(report),
                    candidates=len(candidates),
                )
                await candidates_of.add(connection, self.run_id, number, candidates)
            failpoints.hit(Failpoint.ROUND_PLANNED)
            return True

        if not await self._committed(work, Failpoint.ROUND_BEGUN):
            raise self._taken()
        self._take(report)
        self.round, self.cursor, self.total = number, None, len(candidates)

    async def candidates(self, after: UUID | None, most: int) -> list[Candidate]:
        """Return the next candidates of the round behind one of them, at most so many; none where that was the last."""

        async def ask() -> list[Candidate]:
            async with self._db.reading() as connection:
                return await candidates_of.after(connection, self.run_id, self.round, after, most)

        return await patiently(self._db, ask)

    async def is_done(self, connection: Any, last: UUID) -> Counter[Outcome] | None:
        """Claim the run in a batch's transaction; return what an attempt counted that had committed this batch.

        Arguments:
            last: the last bar of the batch.
        Raises:
            RunUnderWay: this process does not hold the run any more.
        """
        claim = await runs.claim(connection, self.run_id, self._token)
        if claim is None:
            raise self._taken()
        self.wanted = claim.wanted
        if claim.round == self.round and claim.cursor is not None and claim.cursor >= last:
            stored = msgspec.json.decode(claim.report, type=RunReport)
            return Counter({outcome: stored.of(outcome) - self.report.of(outcome) for outcome in Outcome})
        return None

    async def advance(
        self,
        connection: Any,
        last: UUID,
        counts: Counter[Outcome],
        settled: Iterable[UUID],
        aside: Sequence[Quarantined],
    ) -> None:
        """Move cursor and counters in the transaction of a batch, and what stands in the quarantine.

        Arguments:
            settled: bars of the batch that need no correction any more.
            aside: those that could not be corrected.
        """
        await quarantine.settle(connection, self.run_id, list(settled))
        await _put_aside(connection, self.run_id, aside)
        report = _counted(self.report, counts)
        await runs.advance(connection, self.run_id, self._token, cursor=last, report=_text(report))

    def committed(self, last: UUID, counts: Counter[Outcome]) -> None:
        """Take over what is known to be committed."""
        self._take(_counted(self.report, counts))
        self.cursor = last

    async def verifying(self) -> None:
        """Say that the run verifies."""
        await self._touch(runs.verifying, Failpoint.RUN_VERIFYING)

    async def end(self, state: RunState, *, limit: str | None, fault: str | None) -> None:
        """Write down how the run ended, where that is possible, and let it go.

        What cannot be written down is seen by whoever looks at the run next: nobody gives signs of life for it.
        """
        report = msgspec.structs.replace(self.report, state=state)
        over = state not in _OPEN_STATES and limit is None

        async def work(connection: Any) -> None:
            held = await runs.end(
                connection,
                self.run_id,
                self._token,
                state=state,
                report=_text(report),
                stopped_by=limit,
                fault=fault,
            )
            if held and over:
                await candidates_of.drop(connection, self.run_id)
            failpoints.hit(Failpoint.RUN_ENDING)

        self.is_open = False
        try:
            await self._committed(work, Failpoint.RUN_ENDED)
        except MpesaSyncError as error:
            lease.let_go.add(self._token)
            _log.warning(Event.MIGRATION_NOT_RECORDED, run=str(self.run_id), error=error.code, sqlstate=error.sqlstate)

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Give signs of life inside the block, also while it waits for something else than a batch."""
        task = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT_S)
            with suppress(MpesaSyncError):  # the database is away: the run itself meets that, too
                await self.beat()

    async def beat(self) -> None:
        """Give a sign of life, where the run is written down: one that has found nothing yet has no row."""
        if self.is_open:
            await self._touch(runs.beat)

    async def _touch(self, write: Any, point: Failpoint = Failpoint.COMMITTED) -> None:
        async def work(connection: Any) -> tuple[bool, str | None]:
            answer: tuple[bool, str | None] = await write(connection, self.run_id, self._token)
            return answer

        held, wanted = await transaction.once(self._db, session.WRITE, work, committed=point)
        self._lost, self.wanted = not held, wanted or self.wanted

    async def _committed(self, work: Callable[[Any], Awaitable[Any]], point: Failpoint) -> Any:
        return await patiently(self._db, lambda: transaction.once(self._db, session.SCHEMA, work, committed=point))

    def require_held(self) -> None:
        """Refuse to go on with a run that is another process's.

        Raises:
            RunUnderWay: it is.
        """
        if self._lost:
            raise self._taken()

    def _taken(self) -> RunUnderWay:
        return RunUnderWay("Another process has taken this run over.", run_id=self.run_id)

    def _take(self, report: RunReport) -> None:
        for name in report.__struct_fields__:
            setattr(self.report, name, getattr(report, name))


async def _put_aside(connection: Any, run_id: UUID, records: Sequence[Quarantined]) -> None:
    if records:
        await quarantine.set_aside(
            connection,
            run_id,
            [(one.bar_id, one.code, one.sqlstate, one.message, one.attempts) for one in records],
        )


def _counted(report: RunReport, counts: Counter[Outcome]) -> RunReport:
    counted = msgspec.structs.replace(report)
    for outcome, number in counts.items():
        counted.count(outcome, number)
    return counted


def _text(report: RunReport) -> str:
    return msgspec.json.encode(report).decode()
