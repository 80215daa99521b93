-- Guards (G1, G2): what the triggers of guards.sql run, which `guard install` puts on the platform's two tables. Bound by
-- facts/races.md: deferred to the commit, the row of bars first, then decide in a new statement (VOLATILE, so with a
-- snapshot of its own under READ COMMITTED). No row of bar_state is touched here: those come after bars, by the notices.
--
-- The trigger functions are SECURITY DEFINER, since writers need no right on this schema, with a search_path that only
-- we can fill. Their one statement that fires triggers of the platform runs under the path that was in force at
-- `guard install`, with pg_temp last: names that those triggers leave unqualified are found, and a writer cannot put
-- objects of its own before them.

-- One row where guards are meant to be installed. definitions: digests of the triggers as the server prints them.
create table mpesa_sync.guard_settings (
  id boolean primary key default true check (id),
  mode text not null check (mode in ('heal', 'log', 'reject')),
  search_path text not null,
  definitions jsonb not null,
  server_major integer not null,
  installed_at timestamptz not null default now(),
  installed_by text not null default session_user
);

-- What a guard met: carried (a change of credentials alone), healed or logged (a direct write to bars that disagreed).
-- previous and current: bars.mpesa_enabled before and after. What was rejected is rolled back, and with it its row.
create table mpesa_sync.guard_hits (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  kind text not null check (kind in ('carried', 'healed', 'logged')),
  bar_id uuid not null,
  table_name text not null,
  operation text not null,
  previous boolean,
  current boolean,
  session_user_name text not null default session_user,
  application_name text not null default current_setting('application_name'),
  client_address inet default inet_client_addr(),
  backend_pid integer not null default pg_backend_pid(),
  transaction_id xid8 not null default pg_current_xact_id()
);
create index guard_hits_newest on mpesa_sync.guard_hits (at desc, id desc);
create index guard_hits_of_bar on mpesa_sync.guard_hits (bar_id, transaction_id);

-- A TRUNCATE fires no row trigger, and its own trigger cannot be deferred: it leaves a row here, whose trigger is. Empty
-- outside of such a transaction.
create table mpesa_sync.guard_truncations (
  id bigint generated always as identity primary key
);

-- Write mpesa_enabled of a locked bar under the path of the platform; returns what is stored then. The path is restored
-- by hand for the rest of the caller, and by the caller's own SET clause where an error leaves.
create function mpesa_sync.guard_write_v1(p_bar uuid, p_shown boolean) returns boolean
language plpgsql volatile as $$
declare
  v_path text := current_setting('search_path');
  v_stored boolean;
  v_found boolean;
begin
  perform set_config('search_path',
                     coalesce((select s.search_path from mpesa_sync.guard_settings s), 'public, pg_temp'), true);
  update public.bars as b set mpesa_enabled = p_shown where b.id = p_bar returning b.mpesa_enabled into v_stored;
  v_found := found;
  perform set_config('search_path', v_path, true);
  return case when v_found then coalesce(v_stored, false) end;
end $$;

-- Refuse to go on where a policy may hide rows from the role that the guards work as: what it does not see would be
-- taken for bars that are gone and credentials that are off.
create function mpesa_sync.guard_require_sight_v1() returns void language plpgsql stable as $$
begin
  if row_security_active('public.bars') or row_security_active('public.mpesa_credentials') then
    raise exception using errcode = 'insufficient_privilege', constraint = 'mpesa_sync_guard',
      message = format('mpesa-sync guard: row level security may hide rows of bars or mpesa_credentials from %s, as whom '
                       'the guards work', current_user),
      hint = 'Give that role BYPASSRLS, or remove the guards: mpesa-sync guard remove.';
  end if;
end $$;

-- Settle one bar at the end of a transaction that wrote its credentials (p_direct false) or its row in bars (true).
-- A change of credentials always leaves a new version of the bar's row: under REPEATABLE READ a second transaction,
-- which cannot see this one's credentials, must fail there and not decide from what it sees (races.md).
create function mpesa_sync.guard_settle_v1(p_bar uuid, p_table text, p_operation text, p_direct boolean) returns void
language plpgsql volatile as $$
declare
  v_shown boolean;
  v_is_ours boolean;
  v_authority boolean;
  v_mode text;
  v_stored boolean;
begin
  perform mpesa_sync.guard_require_sight_v1();
  perform 1 from public.bars b where b.id = p_bar for no key update;
  if not found then
    return;
  end if;
  select b.mpesa_enabled, b.xmin = pg_current_xact_id()::xid,
         exists (select 1 from public.mpesa_credentials c
                  where c.tenant_id = b.id and c.is_active and c.environment in ('sandbox', 'production'))
    into v_shown, v_is_ours, v_authority
    from public.bars b where b.id = p_bar;
  if coalesce(v_shown, false) = v_authority then
    if not p_direct and not v_is_ours then
      perform mpesa_sync.guard_write_v1(p_bar, v_shown);
    end if;
    return;
  end if;
  if p_direct then
    v_mode := coalesce((select s.mode from mpesa_sync.guard_settings s), 'heal');
    if v_mode = 'reject' then
      raise exception using errcode = 'check_violation', constraint = 'mpesa_sync_guard', schema = 'public',
        table = 'bars', column = 'mpesa_enabled',
        message = format('mpesa-sync guard: bars.mpesa_enabled must be %s, as mpesa_credentials says', v_authority::text),
        hint = 'Write mpesa_credentials.is_active in the same transaction, or that alone.';
    elsif v_mode = 'log' then
      insert into mpesa_sync.guard_hits (kind, bar_id, table_name, operation, previous, current)
      select 'logged', p_bar, p_table, p_operation, v_shown, v_shown
       where not exists (select 1 from mpesa_sync.guard_hits h
                          where h.bar_id = p_bar and h.transaction_id = pg_current_xact_id() and h.kind = 'logged');
      return;
    end if;
  end if;
  if (select count(*) from mpesa_sync.guard_hits h
       where h.bar_id = p_bar and h.transaction_id = pg_current_xact_id()) >= 100 then
    raise exception using errcode = 'integrity_constraint_violation', constraint = 'mpesa_sync_guard',
      message = 'mpesa-sync guard: another trigger on bars changes mpesa_enabled back, again and again';
  end if;
  insert into mpesa_sync.guard_hits (kind, bar_id, table_name, operation, previous, current)
  values (case when p_direct then 'healed' else 'carried' end, p_bar, p_table, p_operation, v_shown, v_authority);
  v_stored := mpesa_sync.guard_write_v1(p_bar, v_authority);
  if v_stored is distinct from v_authority then
    raise exception using errcode = 'integrity_constraint_violation', constraint = 'mpesa_sync_guard',
      message = format('mpesa-sync guard: a trigger or rule on bars keeps mpesa_enabled from becoming %s', v_authority::text);
  end if;
end $$;

-- Deferred, on bars. Of a bar that is gone by then nothing is left to settle.
create function mpesa_sync.guard_bars_v1() returns trigger language plpgsql volatile
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  perform mpesa_sync.guard_settle_v1(new.id, 'bars', tg_op, true);
  return null;
end $$;

-- Deferred, on mpesa_credentials: both bars of a row that moved, in the order of their ids.
create function mpesa_sync.guard_credentials_v1() returns trigger language plpgsql volatile
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  if tg_op = 'UPDATE' and new.tenant_id <> old.tenant_id then
    perform mpesa_sync.guard_settle_v1(least(old.tenant_id, new.tenant_id), 'mpesa_credentials', tg_op, false);
    perform mpesa_sync.guard_settle_v1(greatest(old.tenant_id, new.tenant_id), 'mpesa_credentials', tg_op, false);
  elsif tg_op = 'DELETE' then
    perform mpesa_sync.guard_settle_v1(old.tenant_id, 'mpesa_credentials', tg_op, false);
  else
    perform mpesa_sync.guard_settle_v1(new.tenant_id, 'mpesa_credentials', tg_op, false);
  end if;
  return null;
end $$;

-- After TRUNCATE of mpesa_credentials. A transaction with one old snapshot cannot see which bars are shown by then.
create function mpesa_sync.guard_truncated_v1() returns trigger language plpgsql volatile
  security definer set search_path = pg_catalog, pg_temp as $$
begin
  if current_setting('transaction_isolation') in ('repeatable read', 'serializable') then
    raise exception using errcode = 'feature_not_supported',
      message = 'mpesa-sync guard: mpesa_credentials can be truncated under READ COMMITTED only';
  end if;
  insert into mpesa_sync.guard_truncations default values;
  return null;
end $$;

-- Deferred, on guard_truncations. What was inserted since has been, or will be, settled by its own triggers; nobody else
-- can write credentials before this transaction ends.
create function mpesa_sync.guard_truncation_v1() returns trigger language plpgsql volatile
  security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_bar uuid;
begin
  perform mpesa_sync.guard_require_sight_v1();
  delete from mpesa_sync.guard_truncations t where t.id = new.id;
  for v_bar in
    select b.id from public.bars b
     where b.mpesa_enabled
       and not exists (select 1 from public.mpesa_credentials c
                        where c.tenant_id = b.id and c.is_active and c.environment in ('sandbox', 'production'))
     order by b.id
  loop
    perform mpesa_sync.guard_settle_v1(v_bar, 'mpesa_credentials', 'TRUNCATE', false);
  end loop;
  return null;
end $$;

-- Our writers let deferred triggers speak before they read back, and SET CONSTRAINTS lasts as long as the transaction,
-- which may be a caller's. What storing an operation therefore does at its end: guards wait for the commit again, so that
-- the caller's next pair of writes, or ours, is not judged between the two.
create function mpesa_sync.guard_defer_v1() returns trigger language plpgsql volatile as $$
begin
  if (select count(*) from pg_catalog.pg_constraint c
       where c.connamespace = 'public'::regnamespace
         and c.conname in ('mpesa_sync_guard_insert', 'mpesa_sync_guard_update', 'mpesa_sync_guard_delete')) = 5 then
    set constraints public.mpesa_sync_guard_insert, public.mpesa_sync_guard_update, public.mpesa_sync_guard_delete
      deferred;
  end if;
  return null;
end $$;
create trigger operations_defer_guards after insert or update on mpesa_sync.operations
  for each statement execute function mpesa_sync.guard_defer_v1();

create constraint trigger mpesa_sync_guard_insert after insert on mpesa_sync.guard_truncations
  deferrable initially deferred for each row execute function mpesa_sync.guard_truncation_v1();
alter table mpesa_sync.guard_truncations enable always trigger mpesa_sync_guard_insert;
