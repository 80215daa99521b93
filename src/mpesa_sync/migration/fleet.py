"""Looking at all bars: one detection, the second look, and making the schema ready for a run that writes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.db import detection, installation, migrations, session, shape
from mpesa_sync.db import full_pass as full_pass_of
from mpesa_sync.db.detection import DriftedBar, FleetSummary
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.migrations import SchemaState
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.domain.availability import BarWarning
from mpesa_sync.errors import InvalidInput
from mpesa_sync.sync.stale_authority import with_other_secrets

SECOND_LOOK_S: Final = 0.5
"""How long a mismatch must last to count in a verification: in-flight writes are not drift (races.md)."""
_CHUNK: Final = 5_000


async def look(
    database: Database,
    collector: Callable[[], Callable[[DriftedBar], object]],
    *,
    with_versions: bool = False,
    with_legacy: bool = False,
) -> FleetSummary:
    """Hand every drifted bar to a collector and return the counts over all bars, of the same moment. READ ONLY.

    Where a key is given, the secrets of drifted bars that hold them in `bars` and in a credentials row are opened right
    after it; such bars come last.

    Arguments:
        collector: makes what takes the drifted bars; called anew where the database has to be asked again.
        with_versions: read also which rows each of them was read from.
        with_legacy: hand on also bars whose `payment_mpesa_enabled` alone is not as the authority; the counts are
            without them.
    Raises:
        SchemaError: tables or columns are missing or odd; names them.
        DatabaseFault: the database cannot be asked.
    """

    async def ask() -> FleetSummary:
        async with database.reading(session.SCAN) as connection:
            await shape.require(connection)
            allow_sandbox = await installation.allows_sandbox(connection, database)
            sorting = _Sorting(collector(), opens=bool(database.keys))
            summary = await detection.scan(
                connection,
                allow_sandbox=allow_sandbox,
                each=sorting.each,
                with_versions=with_versions,
                with_legacy=with_legacy,
            )
            return await sorting.finished(connection, database.keys, summary)

    return await patiently(database, ask)


class _Sorting:
    """Hands drifted bars on; those whose secrets stand in both places once they have been opened and compared (R2).

    Arguments:
        opens: there is a key; without one nothing is opened.
    """

    def __init__(self, each: Callable[[DriftedBar], object], *, opens: bool) -> None:
        self._hand_on = each
        self._opens = opens
        self._kept: list[DriftedBar] = []

    def each(self, bar: DriftedBar) -> None:
        """Take one drifted bar."""
        if self._opens and bar.holds_both:
            self._kept.append(bar)
        else:
            self._hand_on(bar)

    async def finished(self, connection: Any, keys: KeyRing, summary: FleetSummary) -> FleetSummary:
        """Hand on those that were kept; return the counts with those of them that may be stale."""
        counts = dict(summary.warnings)
        for start in range(0, len(self._kept), _CHUNK):
            part = self._kept[start : start + _CHUNK]
            stale = await with_other_secrets(connection, keys, [bar.bar_id for bar in part])
            counts[BarWarning.STALE_AUTHORITY] += len(stale)
            for bar in part:
                warnings = (*bar.warnings, BarWarning.STALE_AUTHORITY) if bar.bar_id in stale else bar.warnings
                self._hand_on(msgspec.structs.replace(bar, warnings=warnings))
        return replace(summary, warnings=counts)


async def detect(database: Database, *, with_versions: bool = False) -> tuple[list[DriftedBar], FleetSummary]:
    """Return every drifted bar and the counts over all bars; otherwise as `look`."""
    drifted: list[DriftedBar] = []

    def collector() -> Callable[[DriftedBar], object]:
        drifted.clear()
        return drifted.append

    summary = await look(database, collector, with_versions=with_versions)
    return drifted, summary


async def full_pass(database: Database, *, with_legacy: bool = False) -> list[UUID]:
    """Return every bar that is drifted; otherwise as `look`, which reads counts and warnings, too. READ ONLY."""

    async def ask() -> list[UUID]:
        async with database.reading(session.SCAN) as connection:
            await shape.require(connection)
            return await full_pass_of.drifted(connection, with_legacy=with_legacy)

    return await patiently(database, ask)


async def second_look(
    database: Database, bar_ids: Sequence[UUID], *, with_legacy: bool = False
) -> list[tuple[UUID, bool]]:
    """Wait, then return which of these bars are drifted still, with their authority; `with_legacy` as for `look`."""

    async def ask(chunk: Sequence[UUID]) -> list[tuple[UUID, bool]]:
        async with database.reading() as connection:
            return await detection.still_drifted(connection, chunk, with_legacy=with_legacy)

    await database.clock.sleep(SECOND_LOOK_S)
    found: list[tuple[UUID, bool]] = []
    for start in range(0, len(bar_ids), _CHUNK):
        found += await patiently(database, partial(ask, bar_ids[start : start + _CHUNK]))
    return found


async def has_legacy_flag(database: Database) -> bool:
    """Return whether this shape of the platform still has `bars.payment_mpesa_enabled`."""

    async def ask() -> bool:
        async with database.reading() as connection:
            return (await shape.inspect(connection)).has_legacy_flag

    return await patiently(database, ask)


async def require_legacy_flag(database: Database) -> None:
    """Refuse to mirror `bars.payment_mpesa_enabled` where there is no such column.

    Raises:
        InvalidInput: there is none.
    """
    if not await has_legacy_flag(database):
        raise InvalidInput("mirror_legacy", "bars has no column payment_mpesa_enabled here; leave it out")


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
