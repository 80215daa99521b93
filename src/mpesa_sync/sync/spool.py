"""Alerts that wait in files while the database cannot keep them, and how it takes them in: none lost, none twice.

One file for each bar and kind, which counts: a million failures of one cause are one small file. The id in it makes
what is taken in count once, also where the database took it in and the file could not be removed any more. For that
nothing is ever added to, or added up from, a file whose id the database may have counted: it has an ending of its own.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from mpesa_sync.db import alerts, session, transaction
from mpesa_sync.db.alerts import Occurrence
from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError, PermanentFault
from mpesa_sync.monitoring import logs, metrics
from mpesa_sync.monitoring.names import Event
from mpesa_sync.sync.alert_kinds import RESOLVED_BY_SUCCESS

_log: Final = logs.get("alerts")
_WAITING: Final = ".json"
_TAKEN: Final = ".taken"
_UNREADABLE: Final = ".unreadable"
_LOCK: Final = ".lock"


async def keep(database: Database, occurrence: Occurrence, *, may_be_stored: bool = False) -> bool:
    """Write an alert into the spool; False, and said in the log, where that cannot be done either.

    Then it is kept in the memory of this program, one for a bar and kind, for as long as it runs.

    Arguments:
        may_be_stored: the answer to the COMMIT that stores it was lost.
    """
    folder = database.alert_spool
    try:
        if folder is None:
            raise OSError("no folder")
        await asyncio.to_thread(_keep_alone if may_be_stored else _keep, folder, occurrence)
    except OSError as exc:
        word = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
        _log.error(Event.ALERT_NOT_SPOOLED, kind=occurrence.kind, error=word)
        _remember(database, occurrence, may_be_stored=may_be_stored)
        return False
    database.alerts_may_wait = True
    metrics.alerts_spooled.inc()
    _log.warning(Event.ALERT_SPOOLED, kind=occurrence.kind, bar_id=occurrence.bar_id and str(occurrence.bar_id))
    return True


def _remember(database: Database, occurrence: Occurrence, *, may_be_stored: bool) -> None:
    """Keep an alert in memory; what may be stored already is never added to, as in the folder."""
    key = (occurrence.bar_id, str(occurrence.id) if may_be_stored else occurrence.kind)
    earlier = database.alerts_in_memory.get(key)
    database.alerts_in_memory[key] = _added(earlier, occurrence) if earlier else occurrence
    database.alerts_may_wait = True


def _added(earlier: Occurrence, later: Occurrence) -> Occurrence:
    return replace(later, id=earlier.id, count=earlier.count + later.count, first_seen=earlier.first_seen)


def waiting(database: Database) -> int | None:
    """Return how many spooled alerts the database has not taken in yet: each of a bar and kind, however often.

    None where their folder cannot be read: then nobody knows.
    """
    try:
        found = [] if database.alert_spool is None else list(database.alert_spool.iterdir())
    except FileNotFoundError:
        return 0
    except OSError:  # also where a file stands in its place
        return None
    return sum(1 for path in found if path.suffix in (_WAITING, _TAKEN))


def fault(database: Database) -> str | None:
    """Return why no alert could be kept in the spool, to follow the name of its folder; None: nothing is known.

    Nothing is made: the folder is, with its parents, when it is first needed. A disk that is full is not seen.
    """
    folder = database.alert_spool
    if folder is None:
        return " is not set"
    for place in (folder, *folder.absolute().parents):
        named = "" if place == folder else f" cannot be made: {place}"
        try:
            if not stat.S_ISDIR(place.stat().st_mode):
                return f"{named} is not a folder"
        except FileNotFoundError:
            continue
        except NotADirectoryError:  # one above it is a file, and is named instead
            continue
        except OSError as exc:
            return f"{named} cannot be looked at ({errno.errorcode.get(exc.errno or 0, type(exc).__name__)})"
        return None if os.access(place, os.W_OK | os.X_OK) else f"{named} cannot be written to by this program"
    return " cannot be made"


async def take_in(database: Database) -> int:
    """Store what waits in the spool; return how many files were taken in.

    What cannot be stored stays; a file that is refused for good, or cannot be read, does not keep back the others.
    Several programs may do it at once: each occurrence counts once. One that a verified success of its bar has answered
    meanwhile is stored as resolved by it.

    Raises:
        DatabaseFault, SchemaError: the database cannot take them yet, or refuses one.
        OSError: the folder or a file of it cannot be read or written.
    """
    folder = database.alert_spool
    database.alerts_may_wait = False
    done, failed = 0, None
    try:
        done += await _take_in_memory(database)
        if folder is None or not folder.is_dir():
            return done
        for path in await asyncio.to_thread(_take, folder):
            try:
                done += await _take_in_one(database, path)
            except (PermanentFault, OSError) as exc:
                failed = exc
        if failed is not None:
            raise failed
    except BaseException:
        database.alerts_may_wait = True
        raise
    return done


async def take_in_when_it_can(database: Database) -> None:
    """Do `take_in`; where something cannot be taken in yet, that is logged, and a later call tries again."""
    try:
        await take_in(database)
    except MpesaSyncError as exc:
        _log.warning(Event.ALERT_NOT_TAKEN_IN, error=exc.code, sqlstate=exc.sqlstate)
    except OSError as exc:
        _log.warning(Event.ALERT_NOT_TAKEN_IN, error=type(exc).__name__)


async def store(database: Database, occurrence: Occurrence, connection: Any) -> None:
    """Count an occurrence on `connection`; resolved where a success of its bar, since it was seen, has answered it."""
    alert_id = await alerts.count_occurrence(connection, occurrence)
    if alert_id is not None:
        await alerts.resolve_answered(
            connection, alert_id, RESOLVED_BY_SUCCESS, age=database.clock.now() - occurrence.last_seen
        )


async def _take_in_memory(database: Database) -> int:
    """Store what is kept in memory; what cannot be stored is put back."""
    done = 0
    while database.alerts_in_memory:
        _key, occurrence = database.alerts_in_memory.popitem()
        try:
            await transaction.once(database, session.WRITE, partial(store, database, occurrence))
        except BaseException:
            _remember(database, occurrence, may_be_stored=True)  # its COMMIT may have been sent
            raise
        done += 1
        _log.info(Event.ALERT_TAKEN_IN, kind=occurrence.kind, count=occurrence.count)
    return done


async def _take_in_one(database: Database, path: Path) -> bool:
    occurrence = await asyncio.to_thread(_read, path)
    if occurrence is None:
        return False
    await transaction.once(database, session.WRITE, partial(store, database, occurrence))
    await asyncio.to_thread(path.unlink, missing_ok=True)
    _log.info(Event.ALERT_TAKEN_IN, kind=occurrence.kind, count=occurrence.count)
    return True


def _keep(folder: Path, occurrence: Occurrence) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    named = f"{occurrence.bar_id}|{occurrence.kind}"
    path = folder / (hashlib.sha256(named.encode()).hexdigest()[:32] + _WAITING)
    with _locked(folder):
        earlier = _read(path) if path.exists() else None
        if earlier is not None:
            occurrence = _added(earlier, occurrence)
        _write(path, occurrence)


def _keep_alone(folder: Path, occurrence: Occurrence) -> None:
    """Write what may be stored already: set aside at once, as what is on its way into the database."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(folder):
        _write(folder / f"{occurrence.id}{_TAKEN}", occurrence)


def _write(path: Path, occurrence: Occurrence) -> None:
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(occurrence))
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    _sync(path.parent)


def _take(folder: Path) -> list[Path]:
    """Set aside what waits, so that later failures begin files of their own; with what was set aside before."""
    with _locked(folder):
        for path in folder.glob(f"*{_WAITING}"):
            occurrence = _read(path)
            if occurrence is not None:
                path.replace(folder / f"{occurrence.id}{_TAKEN}")
        return sorted(folder.glob(f"*{_TAKEN}"))


def _read(path: Path) -> Occurrence | None:
    """Return what a file holds; one that cannot be read is set aside for a person, None where it is gone, too."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Occurrence)
    except FileNotFoundError:  # another program took it in
        return None
    except msgspec.MsgspecError:
        path.replace(path.with_suffix(_UNREADABLE))
        _log.error(Event.ALERT_SPOOL_UNREADABLE, file=path.with_suffix(_UNREADABLE).name)
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock against the other threads and programs of this machine."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
