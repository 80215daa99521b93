"""Stale authority where a key is at hand: secrets in `bars` and in a credentials row are opened and compared (R2)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync import MpesaMigrationService, MpesaSyncManager, RunOptions
from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.comparing import are_others
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.db.pool import Database, connect
from mpesa_sync.errors import StaleAuthority
from mpesa_sync.migration.report import Outcome, RunState
from mpesa_sync.secret import MASK, Secret
from mpesa_sync.sync.reconciler import Reconciler, Rhythm
from mpesa_sync.sync.reconciler_repair import Fate
from tests.support.cli import cli
from tests.support.clocks import HurriedClock
from tests.support.fleets import stored_rows
from tests.support.migrating import adds_up, drifted
from tests.support.venues import KEY, KEYS, SEALED, SECRETS, add_bar

COLUMNS: Final = """
alter table public.bars add column mpesa_consumer_key_encrypted text,
  add column mpesa_consumer_secret_encrypted text, add column mpesa_passkey_encrypted text
"""
_PUT: Final = """
update public.bars set mpesa_consumer_key_encrypted = $2, mpesa_consumer_secret_encrypted = $3,
                       mpesa_passkey_encrypted = $4
 where id = $1
"""
_PUT_IN_ROWS: Final = "update public.mpesa_credentials set passkey_enc = $2 where tenant_id = $1"
OTHER: Final = Secret("another-passkey-than-theirs")


@pytest.fixture
async def keyed(database_url: str) -> AsyncIterator[Database]:
    """The database, with the key, and a clock whose waits take no time."""
    async with connect(database_url, kms_keys=[KEY], clock=HurriedClock(), reconcile="repair") as database:
        yield database


@pytest.fixture
async def keyless(database_url: str) -> AsyncIterator[Database]:
    """The same without a key."""
    async with connect(database_url, clock=HurriedClock()) as database:
        yield database


def hex_of(secret: Secret) -> str:
    """Seal a secret anew, in the form that a column of text holds."""
    return "\\x" + seal(KEYS, secret).hex()


async def put(sql: Any, bar: UUID, passkey: str) -> UUID:
    """Put secrets into `bars`: those of the credentials rows, sealed anew, and this passkey."""
    await sql.execute(_PUT, bar, hex_of(SECRETS[0]), hex_of(SECRETS[1]), passkey)
    return bar


async def fleet(sql: Any) -> tuple[UUID, UUID]:
    """Return a bar whose secrets are the same in both places, and one where they are not; both have drifted."""
    await sql.execute(COLUMNS)
    same = await put(sql, await add_bar(sql, production=True), hex_of(SECRETS[2]))
    other = await put(sql, await add_bar(sql, sandbox=False, production=True), hex_of(OTHER))
    return same, other


async def stale(service: MpesaMigrationService) -> dict[UUID, bool]:
    """Return of each drifted bar whether its `is_active` may not be the truth."""
    records = service.find_inconsistent_records()
    return {record.bar_id: "stale_authority" in record.warnings async for record in records}


def forms(text: str) -> list[bytes]:
    """A secret in every form that is read."""
    blob = seal(KEYS, Secret(text))
    return [blob, f'{{"type":"Buffer","data":{list(blob)}}}'.encode(), b"\\x" + blob.hex().encode(), text.encode()]


ELSEWHERE: Final = seal(KeyRing.from_texts([generate_key()]), SECRETS[2])
SAYS_NOTHING: Final = [None, b"", seal(KEYS, Secret(MASK)), MASK.encode(), seal(KEYS, Secret("changeme")), ELSEWHERE]


def test_secrets_differ_where_what_they_hold_does() -> None:
    """R2: in any form, sealed anew or not; what is blank, the mask, a placeholder or sealed elsewhere proves nothing.

    Red where stored bytes are compared, where one field is left out, and where `any` row suffices.
    """
    key, secret, passkey = SEALED
    for stored in forms(SECRETS[2].reveal()):
        assert not are_others(KEYS, (key, secret, stored), [SEALED]), stored[:2]
    for stored in forms(OTHER.reveal()):
        assert are_others(KEYS, (key, secret, stored), [SEALED]), stored[:2]
        assert are_others(KEYS, (key, stored, passkey), [SEALED])
        assert are_others(KEYS, (stored, secret, passkey), [SEALED])
        assert are_others(KEYS, (stored, None, None), [SEALED, SEALED])
        assert not are_others(KEYS, (key, secret, stored), [SEALED, (key, secret, forms(OTHER.reveal())[0])])
    for nothing in SAYS_NOTHING:
        assert not are_others(KEYS, (key, secret, nothing), [SEALED])
    for nothing in SAYS_NOTHING[:-1]:
        assert are_others(KEYS, SEALED, [(key, secret, nothing)])
    assert not are_others(KEYS, SEALED, [(key, secret, ELSEWHERE)])


async def test_a_bar_whose_secrets_differ_is_left_out_reported_and_quarantined(keyed: Database, sql: Any) -> None:
    """R2: unless it is accepted knowingly. Credentials are never written.

    Red without the comparison in `fleet.look`.
    """
    same, other = await fleet(sql)
    rows = await stored_rows(sql, "mpesa_credentials")
    service = MpesaMigrationService(keyed)
    assert await stale(service) == {same: False, other: True}
    dry = await service.run(RunOptions(dry_run=True))
    assert (dry.report.deferred, dry.report.quarantined, dry.warnings["stale_authority"]) == (1, 1, 1)
    _, planned = await service.plan()
    assert [record.bar_id for record in planned] == [same]
    run = await service.run()
    assert (run.report.state, run.report.fixed, run.report.quarantined, adds_up(run)) == (RunState.DONE, 1, 1, True)
    assert [(record.bar_id, record.code) for record in run.records] == [(other, "stale_authority")]
    assert "the credentials row holds others" in run.records[0].message
    assert OTHER.reveal() not in str(run)
    assert await drifted(sql) == {other}
    accepted = await service.run(RunOptions(accept_stale_authority=True))
    assert (accepted.report.fixed, accepted.report.verified, await drifted(sql)) == (1, True, set())
    assert await stored_rows(sql, "mpesa_credentials") == rows


async def test_without_a_key_nothing_is_opened(keyless: Database, sql: Any) -> None:
    """R2: only that secrets are there is seen, and a row is there."""
    same, other = await fleet(sql)
    service = MpesaMigrationService(keyless)
    assert await stale(service) == {same: False, other: False}
    run = await service.run()
    assert (run.report.fixed, run.report.quarantined) == (2, 0)


async def test_it_is_decided_anew_under_the_locks(keyed: Database, sql: Any) -> None:
    """R2, races.md: secrets that came to differ after the look. Red where `correct_bars` opens none."""
    same, other = await fleet(sql)
    service = MpesaMigrationService(keyed)
    [record] = [one async for one in service.find_inconsistent_records() if one.bar_id == same]
    await put(sql, same, hex_of(OTHER))
    result = await service.migrate_record(record)
    assert result.error is not None
    assert (result.outcome, result.error.code) == (Outcome.QUARANTINED, "stale_authority")
    run = await service.run(plan=[(same, True), (other, True)])
    assert (run.report.quarantined, run.report.fixed, await drifted(sql)) == (2, 0, {same, other})
    await sql.execute(_PUT_IN_ROWS, same, seal(KEYS, OTHER))
    assert (await service.retry_quarantined()).report.fixed == 1
    assert await drifted(sql) == {other}


async def test_repair_and_the_reconciler_leave_it_alone_too(keyed: Database, sql: Any) -> None:
    """existing-platform.md: nobody repairs from the stale side without an explicit choice."""
    same, other = await fleet(sql)
    assert await Reconciler(keyed).noticed([same, other]) == {same: Fate.REPAIRED, other: Fate.LEFT_ALONE}
    cycle = await Reconciler(keyed, Rhythm(page=2)).sweep()
    assert cycle is not None
    assert (cycle.hidden, cycle.left_alone, cycle.repaired) == (1, 1, 0)
    manager = MpesaSyncManager(keyed)
    assert "stale_authority" in (await manager.validate_sync(other)).warnings
    assert "stale_authority" not in (await manager.validate_sync(same)).warnings
    with pytest.raises(StaleAuthority):
        await manager.repair_inconsistency(other, actor="Asha")
    assert await drifted(sql) == {other}
    assert (await manager.repair_inconsistency(other, actor="Asha", authority="credentials")).repaired


async def test_the_commands_open_secrets_where_the_key_is_set(database_url: str, sql: Any) -> None:
    """Spec 6: `check`, `explain`, `migrate` with MPESA_KMS_KEY and without; no secret in what they print."""
    _, other = await fleet(sql)
    key = KEY.reveal()
    looks = [
        cli("check", "--json", url=database_url),
        cli("check", "--json", url=database_url, MPESA_KMS_KEY=key),
    ]
    assert [json.loads(look.out)["warnings"].get("stale_authority") for look in looks] == [None, 1]
    one = json.loads(cli("check", "--json", "--bar", str(other), url=database_url, MPESA_KMS_KEY=key).out)
    assert "stale_authority" in one["records"][0]["warnings"]
    explained = json.loads(cli("explain", str(other), "--json", url=database_url, MPESA_KMS_KEY=key).out)
    assert "stale_authority" in [warned["code"] for warned in explained["warnings"]]
    ended = cli("migrate", "--yes", url=database_url, MPESA_KMS_KEY=key)
    assert (ended.code, await drifted(sql)) == (3, {other}), ended.err
    for text in (ended.out, ended.err, str(explained), str(looks)):
        assert OTHER.reveal() not in text
        assert SECRETS[0].reveal() not in text
    assert cli("migrate", "--yes", "--authority", "credentials", url=database_url, MPESA_KMS_KEY=key).code == 0
    assert await drifted(sql) == set()
