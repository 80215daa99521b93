"""Every statement that changes `is_active` or `mpesa_enabled`, or locks for it. Only `sync.writer` runs them.

The functions stand in `db/schema/migrations/0002_writer.sql`. Bound by facts/races.md: credentials by id, then
bars by id `FOR UPDATE`, then decide in a new statement. Beware of shortening: one statement that reads the truth
and writes the flag makes drift.
"""

from __future__ import annotations

from typing import Final

LOCK_BAR: Final = "select * from mpesa_sync.lock_bar_v1($1, $2)"
WRITE_STATUS: Final = "select * from mpesa_sync.write_status_v1($1, $2)"
WRITE_SHOWN: Final = "select * from mpesa_sync.write_shown_v1($1, $2)"
WRITE_CREDENTIALS: Final = "select mpesa_sync.write_credentials_v1($1, $2, $3, $4, $5, $6, $7, $8)"

LOCK_CREDENTIALS_OF_BARS: Final = """
select count(*) from (
  select 1 from public.mpesa_credentials where tenant_id = any($1::uuid[]) order by id for share
) locked
"""
LOCK_BARS: Final = """
select count(*) from (
  select 1 from public.bars where id = any($1::uuid[]) order by id for update
) locked
"""
LOCK_NEW_CREDENTIALS_OF_BARS: Final = """
select count(*) from (
  select 1 from public.mpesa_credentials where tenant_id = any($1::uuid[]) order by id for share nowait
) locked
"""
"""Rows that came while we waited for `bars`; nowait, because this is out of the one order."""
CORRECT_BARS: Final = """
with truth as materialized (
  select b.id, b.ctid as place, b.mpesa_enabled as previous, w.expected, a.authority, a.seen,
         not $4 and (b.id = any($6::uuid[]) or not a.has_rows and coalesce(
           nullif(btrim(o.mpesa_consumer_key_encrypted), ''),
           nullif(btrim(o.mpesa_consumer_secret_encrypted), ''),
           nullif(btrim(o.mpesa_passkey_encrypted), '')) is not null) as stale_authority
    from unnest($2::uuid[], $3::boolean[]) as w (id, expected)
    join public.bars b on b.id = w.id
   cross join lateral (
     select coalesce(bool_or(c.is_active) filter (where e.counts), false) as authority,
            coalesce(bool_or(e.counts), false) as has_rows, count(*) as seen
       from public.mpesa_credentials c
      cross join lateral (select c.environment in ('sandbox', 'production') as counts) e
      where c.tenant_id = b.id
   ) a
   cross join (
     select null::text as mpesa_consumer_key_encrypted, null::text as mpesa_consumer_secret_encrypted,
            null::text as mpesa_passkey_encrypted
   ) absent
   cross join lateral (
     -- a column that this shape of bars lacks is found one level further out, in "absent"
     select mpesa_consumer_key_encrypted::text, mpesa_consumer_secret_encrypted::text, mpesa_passkey_encrypted::text
       from (select b.*) present
   ) o
), held as materialized (
  select coalesce(sum(seen), 0) = $7::bigint as is_whole from truth
), changed as (
  update public.bars b set mpesa_enabled = t.authority
    from truth t
   where b.ctid = t.place and b.id = t.id and coalesce(t.previous, false) <> t.authority and t.authority = t.expected
     and not t.stale_authority and (select is_whole from held)
  returning b.id, t.previous, t.authority
), journalled as (
  insert into mpesa_sync.migration_journal (run_id, bar_id, previous, current)
  select $1, c.id, c.previous, c.authority from changed c
), noticed as (
  insert into mpesa_sync.bar_state as s (bar_id, version, changed_in)
  select c.id, 1, pg_current_xact_id() from changed c
  on conflict (bar_id) do update set version = s.version + 1, changed_in = excluded.changed_in, changed_at = now()
    where s.changed_in is distinct from excluded.changed_in
  returning pg_notify('mpesa_sync', s.bar_id::text)
), answered as (
  update mpesa_sync.alerts a set state = 'resolved', resolved_at = now(), resolved_by = 'migration:' || $1
    from (select e.id from mpesa_sync.alerts e join changed c on c.id = e.bar_id
           where e.state <> 'resolved' and e.kind = any($5::text[]) for update of e skip locked) open
   where a.id = open.id
)
select t.id, t.previous, t.expected, t.authority, t.stale_authority, t.id in (select c.id from changed c) as changed,
       (select is_whole from held) as is_whole
  from truth t
 where $8 or t.id not in (select c.id from changed c)
"""
"""Correct locked bars in one statement, which decides anew: a bar is written only while it still is drifted in the
direction expected, and none at all where it sees other credentials than were locked. $1 run, $2 bars, $3 the authority
expected of each, $4 whether stale authority is accepted, $5 the kinds of alerts that a correction answers, $6 those of
the bars whose secrets are known to differ, $7 how many credentials of these bars are locked, $8 whether the bars that
are written are returned, too, and not only the others: to send and read them would cost a quarter of the statement.
Each bar written gets a new version and sends its notice (facts/live.md). A locked bar stays in its place, so it is
found there."""
TAKE_BACK_BARS: Final = """
with held as materialized (
  select b.id, b.mpesa_enabled as now, w.expected, w.target
    from unnest($2::uuid[], $3::boolean[], $4::boolean[]) as w (id, expected, target)
    join public.bars b on b.id = w.id
), changed as (
  update public.bars b set mpesa_enabled = h.target
    from held h
   where b.id = h.id and h.now is not distinct from h.expected and h.now is distinct from h.target
  returning b.id, h.now as previous, h.target
), journalled as (
  insert into mpesa_sync.migration_journal (run_id, bar_id, previous, current)
  select $1, c.id, c.previous, c.target from changed c
), noticed as (
  insert into mpesa_sync.bar_state as s (bar_id, version, changed_in)
  select c.id, 1, pg_current_xact_id() from changed c
  on conflict (bar_id) do update set version = s.version + 1, changed_in = excluded.changed_in, changed_at = now()
    where s.changed_in is distinct from excluded.changed_in
  returning pg_notify('mpesa_sync', s.bar_id::text)
)
select h.id, c.id is not null as changed, h.now is not distinct from h.target as is_there
  from held h left join changed c on c.id = h.id
"""
"""Give locked bars the flag that they had before a run, while it is the run's still. $1 the run that takes back, $2
bars, $3 what the run undone has left in each, $4 what was there before it."""
MIRROR_BARS: Final = """
with held as materialized (
  select b.id, b.payment_mpesa_enabled as previous, coalesce(b.mpesa_enabled, false) as shown, w.may_write
    from unnest($2::uuid[], $3::boolean[]) as w (id, may_write)
    join public.bars b on b.id = w.id
   where coalesce(b.payment_mpesa_enabled, false) <> coalesce(b.mpesa_enabled, false)
), changed as (
  update public.bars b set payment_mpesa_enabled = h.shown
    from held h
   where b.id = h.id and h.may_write
  returning b.id, h.previous, h.shown
), journalled as (
  insert into mpesa_sync.migration_journal (run_id, bar_id, field, previous, current)
  select $1, c.id, 'payment_mpesa_enabled', c.previous, c.shown from changed c
)
select h.id, c.id is not null as changed
  from held h left join changed c on c.id = h.id
"""
"""Set the older flag of locked bars, whose pair agrees, to what the newer one says; return those where it differed.
$1 run, $2 bars, $3 whether each may be written. Only for a shape that has `payment_mpesa_enabled`."""
READ_BACK_MIRRORED: Final = """
select b.id
  from public.bars b
 where b.id = any($1::uuid[]) and coalesce(b.payment_mpesa_enabled, false) <> coalesce(b.mpesa_enabled, false)
"""
"""Those of the bars just mirrored whose flags differ all the same."""
TAKE_BACK_MIRRORED: Final = """
with written as materialized (
  select j.bar_id, (array_agg(j.current order by j.id desc))[1] as expected,
         (array_agg(j.previous order by j.id))[1] as target
    from mpesa_sync.migration_journal j
   where j.run_id = $3 and j.bar_id = any($2::uuid[]) and j.field = 'payment_mpesa_enabled'
   group by j.bar_id
), older as materialized (
  select b.id, b.payment_mpesa_enabled as now, w.expected, w.target
    from written w join public.bars b on b.id = w.bar_id
), changed as (
  update public.bars b set payment_mpesa_enabled = o.target
    from older o
   where b.id = o.id and o.now is not distinct from o.expected and o.now is distinct from o.target
  returning b.id, o.now as previous, o.target
), journalled as (
  insert into mpesa_sync.migration_journal (run_id, bar_id, field, previous, current)
  select $1, c.id, 'payment_mpesa_enabled', c.previous, c.target from changed c
)
select o.id, o.target, c.id is not null as changed, o.now is not distinct from o.target as is_there
  from older o left join changed c on c.id = o.id
"""
"""Give locked bars the older flag that they had before a run, while it is the run's still. $1 the run that takes back,
$2 bars, $3 the run undone. Only for a shape that has `payment_mpesa_enabled`."""
READ_BACK_TAKEN_MIRRORED: Final = """
select b.id
  from unnest($1::uuid[], $2::boolean[]) as w (id, target)
  join public.bars b on b.id = w.id
 where b.payment_mpesa_enabled is distinct from w.target
"""
"""Those of the bars whose older flag was just taken back that have another value all the same."""
READ_BACK_TAKEN: Final = """
select b.id
  from unnest($1::uuid[], $2::boolean[]) as w (id, target)
  join public.bars b on b.id = w.id
 where b.mpesa_enabled is distinct from w.target
"""
"""Those of the bars just taken back that have another value all the same."""
DEFERRED_SPEAK: Final = "set constraints all immediate"
"""Before every read-back: deferred triggers must have spoken (races.md)."""
