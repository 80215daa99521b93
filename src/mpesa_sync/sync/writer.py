"""The only code that changes `is_active` and `mpesa_enabled`: lock, decide anew, write, read back.

It knows neither retries nor commits; `db.transaction` calls it through the manager, the migration through batches.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final
from uuid import UUID

from mpesa_sync.crypto.forms import from_json_text
from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.db import detection, failpoints
from mpesa_sync.db.failpoints import Failpoint
from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.errors import BarNotFound, IntegrityFault, TransientFault
from mpesa_sync.sync import statements
from mpesa_sync.sync.alert_kinds import RESOLVED_BY_SUCCESS
from mpesa_sync.sync.locked import LockedBar, LockedRow, Settled, Written
from mpesa_sync.sync.stale_authority import with_other_secrets

__all__ = [
    "LockedBar",
    "LockedRow",
    "Settled",
    "Written",
    "correct_bars",
    "let_deferred_speak",
    "lock",
    "take_back",
    "write_credentials",
    "write_shown",
    "write_status",
]

_NO_KEYS: Final = KeyRing.empty()


async def lock(connection: Any, bar_id: UUID, *, with_secrets: bool = False) -> LockedBar:
    """Lock one bar in the one order (races.md) and return its facts, read in a new statement.

    Raises:
        BarNotFound: there is no such bar.
    """
    records = await connection.fetch(statements.LOCK_BAR, bar_id, with_secrets)
    if not records:
        raise BarNotFound("There is no bar with this id.")
    failpoints.hit(Failpoint.BAR_LOCKED)
    rows = tuple(_locked_row(record) for record in records if record["credentials_id"])
    first = records[0]
    last = first["last_environment"]
    facts = BarFacts(
        bar_id=bar_id,
        mpesa_enabled=first["mpesa_enabled"],
        active=first["bar_active"],
        bar_holds_secrets=first["bar_holds_secrets"],
        rows=tuple(row.row for row in rows),
    )
    return LockedBar(facts, rows, Environment(last) if last else None, first["has_open_alerts"])


def _locked_row(record: Any) -> LockedRow:
    secrets = (record["consumer_key"], record["consumer_secret"], record["passkey"])
    key, secret, passkey = (from_json_text(text) for text in secrets)
    row = CredentialsRow(Environment(record["environment"]), record["is_active"])
    return LockedRow(row, (key, secret, passkey))


async def write_status(connection: Any, bar_id: UUID, environment: Environment | None) -> Written:
    """Make `environment` the one active environment and show M-Pesa; None switches all off and hides it (R1).

    The bar must be locked by `lock` in this transaction. Rows that already say so are not touched.

    Raises:
        IntegrityFault: what is stored afterwards is not what was asked: a foreign trigger or rule.
        BarNotFound: the bar is gone.
    """
    record = await connection.fetchrow(statements.WRITE_STATUS, bar_id, environment)
    failpoints.hit(Failpoint.PAIR_WRITTEN)
    if record is None:
        raise BarNotFound("There is no bar with this id.")
    written = _written(record, bool(record["credentials_changed"]))
    wanted = () if environment is None else (environment.value,)
    if written.active != wanted or written.mpesa_enabled is not (environment is not None):
        raise _undone()
    return written


async def let_deferred_speak(connection: Any) -> None:
    """Let deferred triggers and constraints speak now: before what was written is read back (races.md)."""
    await connection.execute(statements.DEFERRED_SPEAK)


async def write_credentials(
    connection: Any,
    bar_id: UUID,
    environment: Environment,
    *,
    shortcode: str | None,
    secrets: Sequence[bytes | None],
    as_text: bool = False,
    callback_url: str | None = None,
) -> None:
    """Store the credentials of one environment of a locked bar; a row that is new is inactive (R1.4).

    Arguments:
        shortcode: None keeps what is stored.
        secrets: consumer key, consumer secret and passkey, sealed; None keeps what is stored.
        as_text: the columns of the secrets are text in this shape.
        callback_url: for the shape that has this column; None for the others.
    """
    await connection.execute(
        statements.WRITE_CREDENTIALS, bar_id, environment, shortcode, *secrets, as_text, callback_url
    )


async def write_shown(connection: Any, bar_id: UUID, shown: bool) -> Written:
    """Set the customer-facing flag of a locked bar; credentials are never written (R2.2, R5.4).

    Raises:
        IntegrityFault: the flag read back does not equal the authority.
        BarNotFound: the bar is gone.
    """
    record = await connection.fetchrow(statements.WRITE_SHOWN, bar_id, shown)
    failpoints.hit(Failpoint.PAIR_WRITTEN)
    if record is None:
        raise BarNotFound("There is no bar with this id.")
    written = _written(record, credentials_changed=False)
    if written.mpesa_enabled is not shown or bool(written.active) is not shown:
        raise _undone()
    return written


def _written(record: Any, credentials_changed: bool) -> Written:
    return Written(
        credentials_changed=credentials_changed,
        bar_changed=bool(record["bar_changed"]),
        active=tuple(record["active_environments"]),
        mpesa_enabled=record["mpesa_enabled"],
    )


def _undone() -> IntegrityFault:
    return IntegrityFault(
        "What was read back is not what was written: a trigger or rule of the database changes it. Nothing was saved."
    )


async def correct_bars(
    connection: Any,
    run_id: UUID,
    expected: Sequence[tuple[UUID, bool]],
    *,
    keys: KeyRing = _NO_KEYS,
    accept_stale_authority: bool = False,
    mirror_legacy: bool = False,
) -> dict[UUID, Settled]:
    """Lock some bars and set the flag of those still drifted as expected, journalled (R2.2).

    Arguments:
        expected: bar ids with the authority that detection saw for each.
        keys: open the secrets of bars that hold them in both places; an empty ring opens none.
        accept_stale_authority: write also where `bars` holds secrets that no credentials row holds.
        mirror_legacy: set `payment_mpesa_enabled` of these bars, too, once the pair is as expected.
    Returns:
        What became of each bar, in no particular order; all of them or an error.
    Raises:
        IntegrityFault: a bar written disagrees when read back.
        TransientFault: credentials come to locked bars, as may be where no foreign key makes them wait.
    """
    ids = [bar_id for bar_id, _ in expected]
    authorities = [authority for _, authority in expected]
    held, bars = await _lock_bars(connection, ids)
    everything = mirror_legacy or bars < len(ids)  # else those that are not returned are written
    for _ in range(2):  # a second time where credentials came while we waited for their bar
        differing = set() if accept_stale_authority else await with_other_secrets(connection, keys, ids)
        decided = (accept_stale_authority, RESOLVED_BY_SUCCESS, list(differing), held, everything)
        records = await connection.fetch(statements.CORRECT_BARS, run_id, ids, authorities, *decided)
        if not records or records[0]["is_whole"]:
            break
        held = await connection.fetchval(statements.LOCK_NEW_CREDENTIALS_OF_BARS, ids)
    else:
        raise TransientFault("Credentials came while their bars were locked. Nothing was saved.")
    settled = dict.fromkeys(ids, Settled.VANISHED if everything else Settled.FIXED)
    settled.update({record["id"]: _settled(record, differing) for record in records})
    fixed = [bar_id for bar_id, result in settled.items() if result is Settled.FIXED]
    mirrored = await _mirror(connection, run_id, records, differing) if mirror_legacy else {}
    settled.update(mirrored)
    await connection.execute(statements.DEFERRED_SPEAK)
    failpoints.hit(Failpoint.BATCH_WRITTEN)
    if await detection.still_drifted(connection, fixed):
        raise _undone()
    written = [bar_id for bar_id, result in mirrored.items() if result is Settled.FIXED]
    if written and await connection.fetch(statements.READ_BACK_MIRRORED, written):
        raise _undone()
    return settled


async def _mirror(
    connection: Any, run_id: UUID, records: Sequence[Any], differing: Collection[UUID]
) -> dict[UUID, Settled]:
    """Set `payment_mpesa_enabled` of locked bars whose pair agrees; return what became of those where it differed."""
    agreeing = {
        record["id"]: record
        for record in records
        if record["changed"] or (record["previous"] is True) == record["authority"]
    }
    may_write = [
        record["authority"] == record["expected"] and not record["stale_authority"] for record in agreeing.values()
    ]
    found: dict[UUID, Settled] = {}
    for bar_id, written in await connection.fetch(statements.MIRROR_BARS, run_id, list(agreeing), may_write):
        found[bar_id] = Settled.FIXED if written else _left(agreeing[bar_id], differing)
    return found


async def take_back(
    connection: Any,
    run_id: UUID,
    changed: Sequence[tuple[UUID, bool, bool | None]],
    *,
    mirrored_by: UUID | None = None,
) -> dict[UUID, Settled]:
    """Lock some bars and give them the flag from before a run, where it is the run's still; journalled (R2).

    The only write of ours that makes drift, and only where somebody asks for it.

    Arguments:
        run_id: the run that takes back.
        changed: bar ids, each with what the run undone has left and what was there before it; the same twice where it
            has not changed `mpesa_enabled`.
        mirrored_by: the run undone, where it has set `payment_mpesa_enabled`, too: that is taken back likewise.
    Returns:
        What became of each bar: `STALE` where somebody has changed it since.
    Raises:
        IntegrityFault: a bar written has another value when read back.
    """
    ids = [bar_id for bar_id, _, _ in changed]
    await _lock_bars(connection, ids)
    before = {bar_id: target for bar_id, _, target in changed}
    left = [left for _, left, _ in changed]
    records = await connection.fetch(statements.TAKE_BACK_BARS, run_id, ids, left, list(before.values()))
    mirrored: Sequence[Any] = ()
    if mirrored_by is not None:
        mirrored = await connection.fetch(statements.TAKE_BACK_MIRRORED, run_id, ids, mirrored_by)
    settled = dict.fromkeys(ids, Settled.VANISHED) | {record["id"]: _taken(record) for record in records}
    untouched = {bar_id for bar_id, left, target in changed if left is target}
    for record in mirrored:
        bar_id, result = record["id"], _taken(record)
        both = {result} if bar_id in untouched else {settled[bar_id], result}
        settled[bar_id] = next(one for one in (Settled.FIXED, Settled.STALE, Settled.ALREADY_CONSISTENT) if one in both)
    await connection.execute(statements.DEFERRED_SPEAK)
    failpoints.hit(Failpoint.BATCH_WRITTEN)
    fixed = [record["id"] for record in records if record["changed"]]
    again = [record for record in mirrored if record["changed"]]
    if await connection.fetch(statements.READ_BACK_TAKEN, fixed, [before[bar_id] for bar_id in fixed]) or (
        again
        and await connection.fetch(
            statements.READ_BACK_TAKEN_MIRRORED,
            [record["id"] for record in again],
            [record["target"] for record in again],
        )
    ):
        raise _undone()
    return settled


def _taken(record: Any) -> Settled:
    if record["changed"]:
        return Settled.FIXED
    return Settled.ALREADY_CONSISTENT if record["is_there"] else Settled.STALE


async def _lock_bars(connection: Any, ids: Sequence[UUID]) -> tuple[int, int]:
    """Lock some bars and their credentials in the one order (races.md); return how many credentials, and bars."""
    held = await connection.fetchval(statements.LOCK_CREDENTIALS_OF_BARS, ids)
    bars = await connection.fetchval(statements.LOCK_BARS, ids)
    failpoints.hit(Failpoint.BATCH_LOCKED)
    return held, bars


def _settled(record: Any, differing: Collection[UUID]) -> Settled:
    if record["changed"]:
        return Settled.FIXED
    if (record["previous"] is True) == record["authority"]:
        return Settled.ALREADY_CONSISTENT
    return _left(record, differing)


def _left(record: Any, differing: Collection[UUID]) -> Settled:
    """Return why a bar was left as it is, although it is not as it should be."""
    if record["stale_authority"]:
        return Settled.SECRETS_DIFFER if record["id"] in differing else Settled.STALE_AUTHORITY
    return Settled.STALE
