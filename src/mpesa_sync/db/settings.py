"""SQL of what the settings form shows: stored credentials without their secrets, beside the bar's own columns."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from mpesa_sync.domain.credentials import AccountType, Environment
from mpesa_sync.domain.saving import StoredCredentials

STORED: Final = """
select j.bar ->> 'mpesa_setup_completed' as setup_completed, j.bar ->> 'mpesa_last_test_at' as last_test_at,
       j.bar ->> 'mpesa_test_status' as test_status, s.last_environment, c.environment::text as environment,
       c.is_active, c.business_shortcode::text as shortcode,
       coalesce(octet_length(c.consumer_key_enc), 0) > 0 as has_consumer_key,
       coalesce(octet_length(c.consumer_secret_enc), 0) > 0 as has_consumer_secret,
       coalesce(octet_length(c.passkey_enc), 0) > 0 as has_passkey,
       d.account_type, d.till_number, to_jsonb(c) ->> 'callback_url' as callback_url, b.mpesa_enabled,
       encode(sha256(convert_to(jsonb_build_array(
         to_jsonb(c) -> 'consumer_key_enc', to_jsonb(c) -> 'consumer_secret_enc', to_jsonb(c) -> 'passkey_enc'
       )::text, 'UTF8')), 'hex') as secrets_hash
  from public.bars b
 cross join lateral (select to_jsonb(b) as bar) j
  left join public.mpesa_credentials c on c.tenant_id = b.id and c.environment in ('sandbox', 'production')
  left join mpesa_sync.credential_details d on d.bar_id = b.id and d.environment = c.environment
  left join mpesa_sync.bar_state s on s.bar_id = b.id
 where b.id = $1
 order by c.is_active is true desc, case when c.is_active then c.environment = 'production' end desc nulls last,
          to_jsonb(c) ->> 'updated_at' desc nulls last, c.id
"""
"""The row that is meant comes first: the active one, production where both are, else the newer."""
KEEP_DETAILS: Final = """
insert into mpesa_sync.credential_details as d (bar_id, environment, account_type, till_number)
values ($1, $2, $3, $4)
on conflict (bar_id, environment) do update
   set account_type = excluded.account_type, till_number = excluded.till_number
"""
_TOLD_APART: Final = ("environment", "is_active", "shortcode", "account_type", "till_number", "secrets_hash")
OPERATION: Final = """
select bar_id, kind, outcome, result::text as result, started_at as at from mpesa_sync.operations where id = $1
"""


@dataclass(frozen=True, slots=True)
class StoredSettings:
    """What is stored for a bar. `rows` has the one that is meant first; None where the shape lacks a column.

    `digest` (32 hex digits) differs where the bar, a flag, a number or the stored bytes of a secret does.
    """

    rows: tuple[StoredCredentials, ...]
    last_environment: Environment | None
    setup_completed: bool | None
    last_test_at: str | None
    test_status: str | None
    callback_url: str | None
    digest: str


@dataclass(frozen=True, slots=True)
class StoredOperation:
    """What became of an operation: `applied` with its result, or `failed` for good; `at` is when that was written."""

    bar_id: UUID
    kind: str
    outcome: str
    result: Mapping[str, Any] | None
    at: datetime


async def stored_of(connection: Any, bar_id: UUID) -> StoredSettings | None:
    """Return what is stored for a bar, read in one statement; None where there is no such bar."""
    records = await connection.fetch(STORED, bar_id)
    if not records:
        return None
    first = records[0]
    return StoredSettings(
        rows=tuple(_row(record) for record in records if record["environment"]),
        last_environment=Environment(first["last_environment"]) if first["last_environment"] else None,
        setup_completed=None if first["setup_completed"] is None else first["setup_completed"] == "true",
        last_test_at=first["last_test_at"],
        test_status=first["test_status"],
        callback_url=next((record["callback_url"] for record in records if record["callback_url"]), None),
        digest=_digest(bar_id, records),
    )


def _digest(bar_id: UUID, records: Sequence[Any]) -> str:
    """Return what tells two states of a bar's settings apart; of secrets the hash of their stored bytes alone."""
    rows = [tuple(record[name] for name in _TOLD_APART) for record in records if record["environment"]]
    state = (bar_id, records[0]["mpesa_enabled"], sorted(rows, key=lambda row: str(row[0])))
    return hashlib.sha256(msgspec.json.encode(state)).hexdigest()[:32]


def _row(record: Any) -> StoredCredentials:
    return StoredCredentials(
        environment=Environment(record["environment"]),
        is_active=record["is_active"],
        shortcode=record["shortcode"] or "",
        has=(record["has_consumer_key"], record["has_consumer_secret"], record["has_passkey"]),
        account_type=record["account_type"] or AccountType.PAYBILL,
        till_number=record["till_number"] or "",
    )


async def keep_details(connection: Any, bar_id: UUID, environment: str, account_type: str, till_number: str) -> None:
    """Store how the venue is paid, beside the platform's columns."""
    await connection.execute(KEEP_DETAILS, bar_id, environment, account_type, till_number)


async def operation(connection: Any, operation_id: UUID) -> StoredOperation | None:
    """Return what is stored of an operation, None where nothing is, which proves nothing."""
    record = await connection.fetchrow(OPERATION, operation_id)
    if record is None:
        return None
    result = msgspec.json.decode(record["result"]) if record["result"] and record["outcome"] == "applied" else None
    return StoredOperation(record["bar_id"], record["kind"], record["outcome"], result, record["at"])
