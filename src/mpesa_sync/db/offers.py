"""SQL of the live path: what customers see of many bars in one moment, and the versions of that. `bump` alone writes.

Every statement reads one snapshot; the version that comes with the facts is the version of these facts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from mpesa_sync.db import session, transaction
from mpesa_sync.db.credentials import StoredSecrets, as_bytes
from mpesa_sync.db.detection import OPTIONAL_COLUMNS, NamedFacts
from mpesa_sync.db.installation import Mode
from mpesa_sync.db.pool import Database
from mpesa_sync.db.session import Begin
from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import Environment

OFFERS: Final = (
    """
select b.id, b.name, o.slug, b.mpesa_enabled, o.active, o.payment_mpesa_enabled, o.mpesa_environment,
       o.payment_card_enabled, o.payment_cash_enabled, o.holds_secrets,
       c.environment, c.is_active, c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc,
       coalesce(s.version, 0) as version, e.epoch, e.mode
  from public.bars b
  left join lateral (
    select c.environment::text as environment, c.is_active, c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc
      from public.mpesa_credentials c
     where c.tenant_id = b.id and c.environment in ('sandbox', 'production')
    offset 0
  ) c on true
  left join lateral (select s.version from mpesa_sync.bar_state s where s.bar_id = b.id offset 0) s on true
"""  # noqa: S608 - put together from constants
    + OPTIONAL_COLUMNS
    + """
  cross join (
    select mpesa_sync.epoch_v1() as epoch, (select mode from mpesa_sync.installation) as mode offset 0
  ) e
 where b.id = any($1::uuid[])
"""
)
MOVED: Final = """
select e.epoch, m.bar_id
  from (select mpesa_sync.epoch_v1() as epoch offset 0) e
  left join (
    select k.bar_id
      from unnest($1::uuid[], $2::bigint[]) k (bar_id, version)
      left join mpesa_sync.bar_state s on s.bar_id = k.bar_id
     where coalesce(s.version, 0) <> k.version
  ) m on true
"""
LOCK_BAR: Final = "select 1 from public.bars where id = $1 for no key update"
RAISE: Final = """
insert into mpesa_sync.bar_state as s (bar_id, version) values ($1, $2)
on conflict (bar_id) do update set version = excluded.version where s.version < excluded.version
"""
NOTICE: Final = "select mpesa_sync.notice_v1($1)"
LISTENER_SETUP: Final = (
    session.CONNECTION_SETUP
    + """
set default_transaction_read_only = on;
set statement_timeout = '2s';
"""
)
"""Of the connection that listens: it is its own, so its limits may be those of the session."""

READ: Final = Begin(
    """
begin isolation level read committed, read only;
set local lock_timeout = '1s';
set local statement_timeout = '1500ms';
set local idle_in_transaction_session_timeout = '2s';
set local row_security = off;
set local plan_cache_mode = force_generic_plan;
""",
    budget_s=2.5,
)
"""How a read for open pages begins: it gives up before the feed has to be called stale."""

_ORDER: Final = tuple(Environment)


@dataclass(frozen=True, slots=True)
class StoredOffer:
    """All that decides what customers of a bar are offered, of one moment, its secrets still sealed.

    `secrets` belong to `named.facts.rows`, one to one. `allow_sandbox` is what the installation says.
    """

    named: NamedFacts
    secrets: tuple[StoredSecrets, ...]
    epoch: str
    version: int
    allow_sandbox: bool


async def read(connection: Any, bar_ids: Sequence[UUID]) -> Mapping[UUID, StoredOffer]:
    """Return the bars of these ids that exist, read in one statement."""
    found: dict[UUID, list[Any]] = {}
    for record in await connection.fetch(OFFERS, bar_ids):
        found.setdefault(record["id"], []).append(record)
    return {bar_id: _offer(records) for bar_id, records in found.items()}


async def moved(connection: Any, versions: Mapping[UUID, int]) -> tuple[str, list[UUID]]:
    """Return the epoch, and which of these bars have another version than the one given."""
    records = await connection.fetch(MOVED, list(versions), list(versions.values()))
    return str(records[0]["epoch"]), [record["bar_id"] for record in records if record["bar_id"] is not None]


async def bump(database: Database, bar_id: UUID, *, above: int = 0) -> None:
    """Move the version of a bar under its lock and send its notice, in a transaction of its own.

    A bar that does not exist is left alone, as are programs that add rows which refer to the bar.

    Arguments:
        above: a version that pages have been shown: the new one is higher, whatever the database holds now.
    Raises:
        DatabaseFault, SchemaError: nothing was written, or it may have been: doing it again does no harm.
    """

    async def work(connection: Any) -> None:
        if await connection.fetchval(LOCK_BAR, bar_id) is None:
            return
        await connection.execute(RAISE, bar_id, above)
        await connection.execute(NOTICE, bar_id)

    await transaction.once(database, session.WRITE, work)


def _offer(records: list[Any]) -> StoredOffer:
    first = records[0]
    with_row = [record for record in records if record["environment"] is not None]
    with_row.sort(key=lambda record: _ORDER.index(Environment(record["environment"])))
    facts = BarFacts(
        bar_id=first["id"],
        mpesa_enabled=first["mpesa_enabled"],
        rows=tuple(CredentialsRow(Environment(record["environment"]), record["is_active"]) for record in with_row),
        active=first["active"],
        card_enabled=first["payment_card_enabled"],
        cash_enabled=first["payment_cash_enabled"],
        legacy_mpesa_enabled=first["payment_mpesa_enabled"],
        named_environment=first["mpesa_environment"],
        bar_holds_secrets=first["holds_secrets"],
    )
    return StoredOffer(
        named=NamedFacts(first["name"] or "", first["slug"], facts),
        secrets=tuple(_secrets(record) for record in with_row),
        epoch=first["epoch"],
        version=first["version"],
        allow_sandbox=first["mode"] == Mode.GREENFIELD,
    )


def _secrets(record: Any) -> StoredSecrets:
    return (
        as_bytes(record["consumer_key_enc"]),
        as_bytes(record["consumer_secret_enc"]),
        as_bytes(record["passkey_enc"]),
    )
