"""A crowd that writes all the time, each in its own way: staff, old programs that know one field, rows and bars that
come and go. What each of them came to is counted."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import asyncpg

from mpesa_sync import MpesaSyncManager
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import AmbiguousEnvironment, BarNotFound, CredentialsMissing, TransientFault
from tests.support.databases import plain
from tests.support.faults import until
from tests.support.guarding import INSERT
from tests.support.states import ENVIRONMENTS
from tests.support.venues import SEALED, add_bar

_ROW: Final = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1 and environment = $3"
_ROWS: Final = "update public.mpesa_credentials set is_active = $2 where tenant_id = $1"
_FLAG: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_NO_ROW: Final = "delete from public.mpesa_credentials where tenant_id = $1 and environment = $2"
_NO_BAR: Final = "delete from public.bars where id = $1"
KINDS: Final = ("row", "rows", "flag", "credentials first", "bars first", "second row", "no row", "another bar")
LEGAL: Final = frozenset({"40P01", "40001", "55P03", "23505", "23503"})
"""What the database may answer to an old program that met somebody; counted, never hidden."""
_HOT: Final = 4
_REFUSED: Final = (AmbiguousEnvironment, BarNotFound, CredentialsMissing)


class Crowd:
    """Writers on some bars until told to stop. `ended`: by kind how often it committed, by SQLSTATE how often not."""

    def __init__(self, url: str, bars: list[UUID], seed: int) -> None:
        self.ended: Counter[str] = Counter()
        self._url = url
        self._bars = bars
        self._seed = seed
        self._stop = asyncio.Event()

    @contextlib.asynccontextmanager
    async def writing(self, database: Database, *, programs: int = 4, staff: int = 2) -> AsyncIterator[None]:
        """Let them write inside the block; at its end they have stopped, and none of them has failed otherwise."""
        tasks = [asyncio.create_task(self._program(self._seed + number)) for number in range(programs)]
        tasks += [asyncio.create_task(self._staff(database, self._seed - 1 - number)) for number in range(staff)]
        try:
            yield
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def has_written(self, times: int) -> None:
        """Wait until every kind of writer has committed so many times more."""
        before = self.ended.copy()

        async def is_so() -> bool:
            return all(self.ended[kind] - before[kind] >= times for kind in (*KINDS, "staff"))

        await until(is_so, deadline_s=90)

    async def _program(self, seed: int) -> None:
        drawn = random.Random(seed)
        async with plain(self._url) as sql:
            await sql.execute("set deadlock_timeout = '100ms'")
            while not self._stop.is_set():
                kind = drawn.choice(KINDS)
                try:
                    async with sql.transaction():
                        await self._write(sql, drawn, kind)
                except asyncpg.PostgresError as refused:
                    if refused.sqlstate not in LEGAL:
                        raise
                    self.ended[str(refused.sqlstate)] += 1
                else:
                    self.ended[kind] += 1

    async def _write(self, sql: Any, drawn: random.Random, kind: str) -> None:
        place = self._place(drawn)
        bar, environment = self._bars[place], drawn.choice(ENVIRONMENTS)
        on = drawn.choice([True, False, None])
        match kind:
            case "row":
                await sql.execute(_ROW, bar, on, environment)
            case "rows":
                await sql.execute(_ROWS, bar, on)
            case "flag":
                await sql.execute(_FLAG, bar, on)
            case "credentials first" | "bars first":
                for statement in (_ROWS, _FLAG) if kind == "credentials first" else (_FLAG, _ROWS):
                    await sql.execute(statement, bar, on)
            case "second row":
                await sql.execute(INSERT + " on conflict do nothing", bar, environment, *SEALED, on)
            case "no row":
                await sql.execute(_NO_ROW, bar, environment)
            case _:
                await sql.execute(_NO_BAR, bar)
                rows: dict[str, Any] = {environment: drawn.random() < 0.5}
                self._bars[place] = await add_bar(sql, mpesa_enabled=on, **rows)

    def _place(self, drawn: random.Random) -> int:
        """Draw a bar: often one of a few, where all meet."""
        return drawn.randrange(_HOT if drawn.random() < 0.4 else len(self._bars))

    async def _staff(self, database: Database, seed: int) -> None:
        """Save; beside deadlocks of a second each, a save may end as busy, and is counted so."""
        drawn, manager = random.Random(seed), MpesaSyncManager(database)
        while not self._stop.is_set():
            bar, on = self._bars[self._place(drawn)], drawn.random() < 0.6
            environment = drawn.choice(ENVIRONMENTS) if on else None
            try:
                await manager.sync_mpesa_status(bar, on, environment=environment)
            except TransientFault:
                self.ended["busy"] += 1
            except _REFUSED as refused:
                self.ended[type(refused).__name__] += 1
            else:
                self.ended["staff"] += 1
