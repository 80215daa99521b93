"""Looking at runs and asking something of them from another process: status, pause, cancel, taking one over (R2)."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID, uuid4

import msgspec

from mpesa_sync.db import candidates, guards, holder, runs, session, transaction
from mpesa_sync.db.guards import GuardMode
from mpesa_sync.db.patience import patiently
from mpesa_sync.db.pool import Database
from mpesa_sync.db.runs import StoredRun
from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration import lease
from mpesa_sync.migration.lease import is_left
from mpesa_sync.migration.options import RunOptions
from mpesa_sync.migration.report import RunState
from mpesa_sync.refusals import RunNotFound, RunRefused, RunUnderWay
from mpesa_sync.sync.reconciler_policy import Policy, policy_on

SHORTEST_ID: Final = 4
_WAITS_S: Final = 0.25
_ASKED: Final = {"pause": frozenset({RunState.PAUSED, RunState.INTERRUPTED}), "cancel": frozenset({RunState.CANCELLED})}
_OVER: Final = frozenset({RunState.DONE, RunState.CANCELLED})


def state_of(run: StoredRun) -> RunState:
    """Return the state of a run, `interrupted` where its process has left it behind without a word."""
    return RunState.INTERRUPTED if run.is_active and is_left(run) else RunState(run.state)


async def named(database: Database, text: str) -> StoredRun:
    """Return the run whose id begins like this.

    Arguments:
        text: at least 4 characters of an id.
    Raises:
        InvalidInput: it is too short, or several runs begin so.
        RunNotFound: none does.
    """
    prefix = text.strip().lower()
    if len(prefix) < SHORTEST_ID or prefix.strip("0123456789abcdef-"):
        raise InvalidInput("RUN", f"must be a run's id, or at least its first {SHORTEST_ID} characters")

    async def ask() -> list[StoredRun]:
        async with database.reading() as connection:
            return await runs.starting_with(connection, prefix)

    found = await patiently(database, ask)
    if not found:
        raise RunNotFound(f"No run begins with '{prefix}'. 'mpesa-sync migrate status' lists them.")
    if len(found) > 1:
        raise InvalidInput("RUN", "several runs begin so; give more of the id")
    return found[0]


async def latest(database: Database, limit: int = 10) -> list[StoredRun]:
    """Return the last runs, the newest first."""

    async def ask() -> list[StoredRun]:
        async with database.reading() as connection:
            return await runs.latest(connection, limit)

    return await patiently(database, ask)


async def pause(database: Database, run_id: UUID) -> StoredRun:
    """Ask the process of a run to pause after the batch in hand (R2); a run left behind is marked as interrupted.

    Raises:
        RunNotFound: there is no such run.
        RunRefused: it is not under way.
    """
    return await _ask(database, run_id, "pause")


async def cancel(database: Database, run_id: UUID) -> StoredRun:
    """End a run for good: its process after the batch in hand, or here where it has none. What is corrected stays.

    Raises:
        RunNotFound: there is no such run.
        RunRefused: it is over already.
    """
    return await _ask(database, run_id, "cancel")


async def _ask(database: Database, run_id: UUID, wanted: str) -> StoredRun:
    is_again = False

    async def work(connection: Any) -> StoredRun:
        nonlocal is_again
        was_sent, is_again = is_again, True
        run = await _locked(connection, run_id)
        if run.is_active and not is_left(run):
            await runs.ask(connection, run_id, wanted)
        elif was_sent and run.state in _ASKED[wanted]:
            return run  # an attempt whose answer was lost has done it, or the run's process since
        elif wanted == "cancel":
            if run.state in _OVER:
                raise RunRefused(f"This run is {run.state}: there is nothing to cancel.")
            await runs.cancel(connection, run_id)
            await candidates.drop(connection, run_id)
        elif run.is_active:
            await runs.left_behind(connection, run_id)
        else:
            raise RunRefused(f"This run is {run.state}: there is nothing to pause.")
        return await _locked(connection, run_id)

    return await patiently(database, lambda: transaction.once(database, session.SCHEMA, work))


async def settled(database: Database, run_id: UUID, *, within_s: float) -> StoredRun:
    """Return a run as soon as no process works on it any more; as it is after `within_s` seconds."""

    async def ask() -> StoredRun:
        async with database.reading() as connection:
            found = await runs.find(connection, run_id)
        if found is None:
            raise RunNotFound("This run is gone.")
        return found

    clock = database.clock
    end = clock.monotonic() + within_s
    while True:
        run = await patiently(database, ask)
        if not run.is_active or is_left(run) or clock.monotonic() >= end:
            return run
        await clock.sleep(_WAITS_S)


async def taken_over(database: Database, run_id: UUID, changes: dict[str, Any]) -> tuple[StoredRun, RunOptions, UUID]:
    """Take a run over that nobody works on, to go on with it; return it, its options, and the token that holds it.

    Arguments:
        changes: options that are given anew, such as the batch size.
    Raises:
        RunNotFound: there is no such run.
        RunRefused: it is over, or is an undo that would be fought by now.
        RunUnderWay: its process, or that of another run, works.
    """
    token = uuid4()

    async def work(connection: Any) -> tuple[StoredRun, RunOptions]:
        run = await _locked(connection, run_id)
        options = msgspec.json.decode(run.options, type=RunOptions)
        options = msgspec.structs.replace(options, **changes).checked()
        if run.token == token:
            return run, options  # an attempt whose answer was lost has done it
        if run.is_active and not is_left(run):
            raise RunUnderWay("This run is under way.", run_id=run_id)
        if run.state in _OVER or (run.state == RunState.FAILED and run.stopped_by is None):
            raise RunRefused(
                f"This run is {run.state}: there is nothing left to resume. 'mpesa-sync check' looks again."
            )
        if run.kind == "undo":
            await _require_unfought(connection, database)
        if not run.is_active:
            await lease.make_way(connection, token)
        await runs.take_over(
            connection, run_id, token=token, holder=holder.here(), options=msgspec.json.encode(options).decode()
        )
        return run, options

    run, options = await lease.alone(
        lambda: patiently(database, lambda: transaction.once(database, session.SCHEMA, work))
    )
    return run, options, token


async def require_undoable(database: Database, run_id: UUID) -> bool:
    """Refuse to undo what cannot be undone, or what guards or the reconciler would at once do again.

    Returns:
        Whether the run has mirrored `payment_mpesa_enabled`.

    Raises:
        RunNotFound: there is no such run.
        RunRefused: it is under way, is itself an undo, or would be fought; says what to do.
    """

    async def ask() -> StoredRun:
        async with database.reading() as connection:
            run = await runs.find(connection, run_id)
            if run is None:
                raise RunNotFound("There is no run with this id. 'mpesa-sync migrate status' lists them.")
            if run.kind == "undo":
                raise RunRefused("This run took another one back. 'mpesa-sync migrate' corrects those bars again.")
            if run.is_active and not is_left(run):
                raise RunRefused(f"This run is under way. Stop it first: 'mpesa-sync migrate cancel {run_id}'.")
            await _require_unfought(connection, database)
            return run

    run = await patiently(database, ask)
    return msgspec.json.decode(run.options, type=RunOptions).mirror_legacy


async def _require_unfought(connection: Any, database: Database) -> None:
    """Refuse to take back what guards or the reconciler would at once do again; says what to do first."""
    if (await guards.status(connection)).mode not in (None, GuardMode.LOG):
        raise RunRefused(
            "Guards would heal or refuse what is taken back. Remove them first ('mpesa-sync guard remove'), or have "
            "them log alone ('mpesa-sync guard install --mode log')."
        )
    if await policy_on(connection, database) is Policy.REPAIR:
        raise RunRefused(
            "The reconciler would repair what is taken back. Set MPESA_SYNC_RECONCILE=observe for every program first."
        )


async def _locked(connection: Any, run_id: UUID) -> StoredRun:
    run = await runs.find(connection, run_id, locked=True)
    if run is None:
        raise RunNotFound("There is no run with this id. 'mpesa-sync migrate status' lists them.")
    return run
