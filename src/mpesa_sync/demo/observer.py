"""What is committed, read by a plain connection in one statement; shares no SQL with the product."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

_SEE: Final = """
select b.id, b.mpesa_enabled, b.xmin::text as transaction,
       (select json_object_agg(k.environment, k.is_active)::text
          from public.mpesa_credentials k where k.tenant_id = b.id) as flags,
       array(select k.xmin::text from public.mpesa_credentials k where k.tenant_id = b.id
              order by k.environment) as others
  from public.bars b
"""
SEE_ONE: Final = _SEE + " where b.id = $1"
SEE_ALL: Final = _SEE + " order by b.name"

DIGESTS: Final = """
select 'public.bars' as name, md5(string_agg(t.xmin::text || t::text, ',' order by t.id)) as digest
  from public.bars t
union all
select 'public.mpesa_credentials', md5(string_agg(t.xmin::text || t::text, ',' order by t.id))
  from public.mpesa_credentials t
union all
select 'public, the rest', md5(concat(
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from public.mpesa_credential_events t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from public.audit_logs t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from public.user_bars t)))
union all
select 'mpesa_sync', md5(concat(
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from mpesa_sync.operations t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.bar_id) from mpesa_sync.bar_state t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from mpesa_sync.alerts t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from mpesa_sync.migration_runs t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from mpesa_sync.migration_journal t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.id) from mpesa_sync.installation t),
  (select string_agg(t.xmin::text || t::text, ',' order by t.version) from mpesa_sync.schema_migrations t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.credential_details t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.accounts t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.memberships t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.sessions t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.sign_in_failures t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.sign_in_addresses t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.alert_occurrences t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.alert_deliveries t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.alert_channels t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.venue_channels t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.idempotency_keys t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.queue t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.queue_log t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.queue_schedules t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.queue_statistics t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.reconciler t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.reconciler_cycles t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.migration_candidates t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.migration_quarantine t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.guard_settings t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.guard_hits t),
  (select string_agg(t.xmin::text || t::text, ',' order by t) from mpesa_sync.guard_truncations t)))
"""
"""A digest of every row of every table with the transaction that wrote it: equal means that nothing was written."""

OPERATION: Final = """
select count(*) as times, min(xmin::text) as transaction, min(outcome) as outcome, min(actor) as actor,
       min(before ->> 'mpesa_enabled') as before, min(after ->> 'mpesa_enabled') as after
  from mpesa_sync.operations where id = $1
"""
LAST_OPERATION: Final = """
select o.actor, o.kind, o.xmin::text as transaction, o::text as line, o.xmin = s.changed_in::xid as moved_the_version
  from mpesa_sync.operations o join mpesa_sync.bar_state s using (bar_id)
 where o.bar_id = $1 and o.kind = 'settings' order by o.started_at desc limit 1
"""
"""The last save of a bar, and whether its transaction is the one that moved the bar's version."""
ALERTS: Final = """
select id, kind, state, cause, sqlstate, what_to_do, count
  from mpesa_sync.alerts where bar_id = $1 order by last_seen desc
"""
SECRETS: Final = """
select md5(string_agg(k.environment || k.consumer_key_enc::text || k.consumer_secret_enc::text || k.passkey_enc::text,
                      ',' order by k.environment))
  from public.mpesa_credentials k where k.tenant_id = $1
"""
LAST_RUN: Final = "select id from mpesa_sync.migration_runs order by started_at desc limit 1"
CHANGED: Final = "select bar_id from mpesa_sync.migration_journal where run_id = $1"
"""The bars that a run has changed, one row for each change."""
QUARANTINE: Final = """
select bar_id, sqlstate, message from mpesa_sync.migration_quarantine where resolved_at is null order by id
"""
HITS: Final = """
select kind, operation || ' of ' || table_name as deed, previous, current, session_user_name as who,
       application_name as program, transaction_id::xid::text as transaction
  from mpesa_sync.guard_hits where bar_id = $1 order by id
"""
"""What the guards have met at a bar."""
TRIGGERS: Final = """
select c.relname || '.' || t.tgname || ' ' || t.tgenabled::text as trigger
  from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid
 where c.relnamespace = 'public'::regnamespace order by 1
"""
GUARD_ROWS: Final = """
select (select count(*) from mpesa_sync.guard_settings) + (select count(*) from mpesa_sync.guard_hits)
       + (select count(*) from mpesa_sync.guard_truncations)
"""
LAST_REPAIR: Final = """
select o.actor, o.reason, o.outcome, o.xmin::text as transaction,
       o.before ->> 'mpesa_enabled' as before, o.after ->> 'mpesa_enabled' as after
  from mpesa_sync.operations o
 where o.bar_id = $1 and o.kind = 'repair' order by o.started_at desc limit 1
"""
THIS_TRANSACTION: Final = "select pg_current_xact_id()::xid::text"


@dataclass(frozen=True, slots=True)
class Fields:
    """Both fields of one bar at one moment, and which transactions wrote its rows last."""

    bar_id: UUID
    mpesa_enabled: bool | None
    is_active: dict[str, bool | None]
    transaction: str
    credentials_transactions: tuple[str, ...]

    @property
    def active(self) -> list[str]:
        """Return the environments that are switched on."""
        return [name for name, flag in self.is_active.items() if flag is True]

    @property
    def drift(self) -> str | None:
        """Return `hidden` or `exposed` where the two fields disagree, None where they agree."""
        shown = self.mpesa_enabled is True
        if shown == bool(self.active):
            return None
        return "exposed" if shown else "hidden"

    def values(self) -> dict[str, bool | None]:
        """Return both fields by the names that people know them by."""
        flags = {f"is_active ({name})": flag for name, flag in sorted(self.is_active.items())}
        return flags | {"mpesa_enabled": self.mpesa_enabled}


def _fields(record: Any) -> Fields:
    flags: dict[str, bool | None] = json.loads(record["flags"] or "{}")
    return Fields(record["id"], record["mpesa_enabled"], flags, record["transaction"], tuple(record["others"]))


async def see(connection: Any, bar_id: UUID) -> Fields:
    """Return both fields of a bar as committed, read in one statement."""
    return _fields(await connection.fetchrow(SEE_ONE, bar_id))


async def see_all(connection: Any) -> dict[UUID, Fields]:
    """Return both fields of every bar as committed, of one moment."""
    return {record["id"]: _fields(record) for record in await connection.fetch(SEE_ALL)}


async def stored_secrets(connection: Any, bar_id: UUID) -> str | None:
    """Return a digest of the stored secrets of a bar, None where there are none."""
    found: str | None = await connection.fetchval(SECRETS, bar_id)
    return found


async def digests(connection: Any) -> dict[str, str]:
    """Return a digest of the content of every table, in four parts."""
    return {record["name"]: record["digest"] for record in await connection.fetch(DIGESTS)}
