"""Looking at all bars: one detection, the second look, and making the schema ready for a run that writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Final
from uuid import UUID

from mpesa_sync.db import detection, installation, migrations, session, shape
from mpesa_sync.db.detection import DriftedBar, FleetSummary
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.migrations import SchemaState
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database

SECOND_LOOK_S: Final = 0.5
"""How long a mismatch must last to count in a verification: in-flight writes are not drift (races.md)."""
_CHUNK: Final = 5_000


async def look(
    database: Database, collector: Callable[[], Callable[[DriftedBar], object]], *, with_versions: bool = False
) -> FleetSummary:
    """Hand every drifted bar to a collector and return the counts over all bars, of the same moment. READ ONLY.

    Arguments:
        collector: makes what takes the drifted bars; called anew where the database has to be asked again.
        with_versions: read also which rows each of them was read from.
    Raises:
        SchemaError: tables or columns are missing or odd; names them.
        DatabaseFault: the database cannot be asked.
    """

    async def ask() -> FleetSummary:
        async with database.reading(session.SCAN) as connection:
            await shape.require(connection)
            allow_sandbox = await installation.allows_sandbox(connection, database)
            return await detection.scan(
                connection, allow_sandbox=allow_sandbox, each=collector(), with_versions=with_versions
            )

    return await patiently(database, ask)


async def detect(database: Database, *, with_versions: bool = False) -> tuple[list[DriftedBar], FleetSummary]:
    """Return every drifted bar and the counts over all bars; otherwise as `look`."""
    drifted: list[DriftedBar] = []

    def collector() -> Callable[[DriftedBar], object]:
        drifted.clear()
        return drifted.append

    summary = await look(database, collector, with_versions=with_versions)
    return drifted, summary


async def second_look(database: Database, bar_ids: Sequence[UUID]) -> list[tuple[UUID, bool]]:
    """Wait, then return which of these bars are drifted still, with their authority."""

    async def ask(chunk: Sequence[UUID]) -> list[tuple[UUID, bool]]:
        async with database.reading() as connection:
            return await detection.still_drifted(connection, chunk)

    await database.clock.sleep(SECOND_LOOK_S)
    found: list[tuple[UUID, bool]] = []
    for start in range(0, len(bar_ids), _CHUNK):
        found += await patiently(database, partial(ask, bar_ids[start : start + _CHUNK]))
    return found


async def prepare(database: Database) -> bool:
    """Make the schema `mpesa_sync` current before something is written; return whether it was absent."""

    async def ask() -> SchemaState:
        async with database.reading() as connection:
            await shape.require(connection)
            return await migrations.state(connection)

    state = await patiently(database, ask)
    if not state.is_current:
        await patiently(database, lambda: migrations.migrate(database, mode=Mode.ATTACHED))
    return state.applied is None
