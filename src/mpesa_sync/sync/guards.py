"""Guards on the platform's tables (G1–G5): install them, see how they stand, remove them, while the platform runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mpesa_sync.backoff import Backoff
from mpesa_sync.db import detection, guard_triggers, guards, installation, migrations, session, shape
from mpesa_sync.db.guards import GuardHit, GuardMode, GuardState, GuardStatus, TriggerStatus
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.migrations import Migration
from mpesa_sync.db.patience import GAPS, between_writers
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import AccessDenied, SchemaError
from mpesa_sync.monitoring import logs
from mpesa_sync.monitoring.names import Event

__all__ = ["GuardHit", "GuardMode", "GuardState", "GuardStatus", "Installed", "TriggerStatus"]

_log: Final = logs.get("guards")
_SECOND_LOOK_S: Final = 0.5
"""As of every verification (races.md): transactions under way are not drift."""
_CHUNK: Final = 5_000


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install` did. `changed`: anything at all; `drifted`: the bars that had drifted before, and still are.

    From a first check that finds none on, no committed state is drifted (G5); in mode log direct writes still make
    drift. `drifted` is empty where only notices were asked for, and no check was made.
    """

    changed: bool
    status: GuardStatus
    drifted: tuple[UUID, ...]


async def install(
    database: Database,
    *,
    mode: GuardMode = GuardMode.HEAL,
    notices_only: bool = False,
    tries: Backoff = GAPS,
) -> Installed:
    """Install guards and notices, or what is missing, disabled or outdated of them; then look at all bars (G4, G5).

    Arguments:
        mode: what becomes of a direct write that disagrees: healed, logged, or rejected.
        notices_only: install the notices alone (G3); guards stay as they are.
        tries: how often and how long it is tried again while other programs hold one of the tables.
    Returns:
        How the guards stand then, and which bars are drifted; a repair or migration corrects those.
    Raises:
        SchemaError: the schema `mpesa_sync` is not there or of another version, or the tables do not fit.
        AccessDenied: this role does not own the tables, or the owner of our functions may not work on them.
        TransientFault: other programs held the tables during every try. Nothing was changed.
    """
    await _require(database)

    async def work(connection: Any) -> bool:
        await migrations.lock(connection)
        changed = await guard_triggers.install_notices(connection)
        return changed if notices_only else await guard_triggers.install(connection, mode) or changed

    changed = await between_writers(database, work, tries=tries)
    found = await status(database)
    if not notices_only and found.state is not GuardState.INSTALLED:
        raise SchemaError(f"The guards are {found.state} right after their installation: another program changes them.")
    _log.info(Event.GUARDS_INSTALLED, changed=changed, state=found.state, mode=found.mode)
    return Installed(changed, found, () if notices_only else await first_check(database))


async def install_with(database: Database, applied: Sequence[Migration]) -> Installed | None:
    """Install guards in mode heal where a database of our own has just got what they need; None: not now.

    Arguments:
        applied: what `migrations.migrate` has returned. Later calls leave alone what an operator has removed.
    Raises:
        As `install`.
    """
    if not any(migration.name == "guards" for migration in applied):
        return None
    async with database.reading() as connection:
        if await installation.mode(connection) is not Mode.GREENFIELD:
            return None
    return await install(database)


async def status(database: Database) -> GuardStatus:
    """Return how the guards stand (G4); reads only, works without the schema `mpesa_sync`.

    Raises:
        DatabaseFault: the database cannot be asked.
    """
    async with database.reading() as connection:
        return await guards.status(connection)


async def remove(database: Database, *, tries: Backoff = GAPS) -> int:
    """Remove the guards, their settings and their hits, and, where we are attached, the notices (G4).

    Returns:
        How many hits were kept until now.
    Raises:
        TransientFault: other programs held the tables during every try. Nothing was changed.
    """

    async def work(connection: Any) -> int:
        await migrations.lock(connection)
        return await guard_triggers.remove(connection)

    gone = await between_writers(database, work, tries=tries)
    _log.info(Event.GUARDS_REMOVED, hits=gone)
    return gone


async def first_check(database: Database) -> tuple[UUID, ...]:
    """Return the bars that are drifted and stay so at a second look: all bars, in one statement."""
    found: list[UUID] = []
    async with database.reading(session.SCAN) as connection:
        allow_sandbox = await installation.allows_sandbox(connection, database)
        await detection.scan(connection, allow_sandbox=allow_sandbox, each=lambda drifted: found.append(drifted.bar_id))
    if not found:
        return ()
    await database.clock.sleep(_SECOND_LOOK_S)
    still: list[UUID] = []
    async with database.reading() as connection:
        for start in range(0, len(found), _CHUNK):
            looked = await detection.still_drifted(connection, found[start : start + _CHUNK])
            still += [bar_id for bar_id, _ in looked]
    return tuple(still)


async def _require(database: Database) -> None:
    async with database.reading() as connection:
        await shape.require(connection)
        if not (await migrations.state(connection)).is_current:
            raise SchemaError(
                "The schema mpesa_sync is not there, or of another version than this program. "
                "Run 'mpesa-sync db init' first."
            )
        rights = await guards.rights(connection)
    if foreign := [right.name for right in rights if not right.is_owner]:
        raise AccessDenied(
            f"Only the owner of {' and '.join(foreign)} can install guards there. Nothing was changed. Connect as that "
            "role; it need not be a superuser."
        )
    if powerless := [right for right in rights if right.is_powerless]:
        tables = " and ".join(right.name for right in powerless)
        raise AccessDenied(
            f"Guards would work as {powerless[0].definer}, who made the schema mpesa_sync, and that role may not read "
            f"and write {tables} as a whole. Nothing was changed. Grant it SELECT on both tables, UPDATE on "
            "bars.mpesa_enabled, and BYPASSRLS where row level security is on."
        )
