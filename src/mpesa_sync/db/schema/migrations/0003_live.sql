-- The live path (facts/live.md): every change of what customers see moves the bar's version and sends its id. Our
-- writers call notice_v1 themselves; in a database of our own, triggers (notices.sql) do it for every other writer.

-- Which history versions belong to: another one after a copy, a restore or a failover, where versions may go back.
create function mpesa_sync.epoch_v1() returns text language sql stable as $$
  select left(md5(concat_ws('|', i.id, s.system_identifier, c.timeline_id, d.oid)), 12)
    from mpesa_sync.installation i, pg_control_system() s, pg_control_checkpoint() c, pg_database d
   where d.datname = current_database();
$$;

-- Whether this transaction has moved the version of a bar already; then it holds the bar's row, and its notice is sent.
create function mpesa_sync.noticed_v1(p_bar uuid) returns boolean language plpgsql volatile as $$
begin
  return exists (
    select 1 from mpesa_sync.bar_state s where s.bar_id = p_bar and s.changed_in = pg_current_xact_id_if_assigned());
end $$;

-- Move the version of a bar whose row in public.bars is locked by this transaction, once a transaction, and send its
-- id with the commit. The id and nothing else: a longer payload could break the write (faults.md 6).
create function mpesa_sync.notice_v1(p_bar uuid) returns void language plpgsql volatile as $$
begin
  insert into mpesa_sync.bar_state as s (bar_id, version, changed_in) values (p_bar, 1, pg_current_xact_id())
  on conflict (bar_id) do update set version = s.version + 1, changed_in = excluded.changed_in, changed_at = now()
    where s.changed_in is distinct from excluded.changed_in;
  perform pg_notify('mpesa_sync', p_bar::text);
end $$;

-- The same for the triggers of any writer, who may hold none of the locks: the bars by id, then their bar_state. In a
-- transaction of REPEATABLE READ a row that moved meanwhile can be neither locked nor moved: the writer must not fail
-- for it, so the ids are sent alone, and whoever reads the difference moves the version.
create function mpesa_sync.notice_of_writer_v1(p_bars uuid[]) returns void language plpgsql volatile as $$
declare
  v_bar uuid;
begin
  if current_setting('transaction_isolation') = 'read committed' then
    perform mpesa_sync.lock_and_notice_v1(p_bars);
    return;
  end if;
  begin
    perform mpesa_sync.lock_and_notice_v1(p_bars);
  exception when serialization_failure then
    foreach v_bar in array p_bars loop
      perform pg_notify('mpesa_sync', v_bar::text);
    end loop;
  end;
end $$;

create function mpesa_sync.lock_and_notice_v1(p_bars uuid[]) returns void language plpgsql volatile as $$
declare
  v_bar uuid;
begin
  perform 1 from public.bars b where b.id = any(p_bars) order by b.id for no key update;
  foreach v_bar in array p_bars loop
    perform mpesa_sync.notice_v1(v_bar);
  end loop;
end $$;

-- Deferred, on bars. Most often our own writer was here before.
create function mpesa_sync.notice_bar_v1() returns trigger language plpgsql volatile
  security definer set search_path = pg_catalog as $$
begin
  if tg_op = 'UPDATE' and new.id <> old.id then
    perform mpesa_sync.notice_of_writer_v1(array[least(old.id, new.id), greatest(old.id, new.id)]);
  elsif tg_op = 'DELETE' then
    perform mpesa_sync.notice_of_writer_v1(array[old.id]);
  elsif not mpesa_sync.noticed_v1(new.id) then
    perform mpesa_sync.notice_of_writer_v1(array[new.id]);
  end if;
  return null;
end $$;

-- Deferred, on mpesa_credentials: both bars of a row that moved, in the order of their ids.
create function mpesa_sync.notice_credentials_v1() returns trigger language plpgsql volatile
  security definer set search_path = pg_catalog as $$
begin
  if tg_op = 'UPDATE' and new.tenant_id <> old.tenant_id then
    perform mpesa_sync.notice_of_writer_v1(
      array[least(old.tenant_id, new.tenant_id), greatest(old.tenant_id, new.tenant_id)]);
  elsif tg_op = 'DELETE' then
    perform mpesa_sync.notice_of_writer_v1(array[old.tenant_id]);
  elsif not mpesa_sync.noticed_v1(new.tenant_id) then
    perform mpesa_sync.notice_of_writer_v1(array[new.tenant_id]);
  end if;
  return null;
end $$;

-- After TRUNCATE: any bar may have changed.
create function mpesa_sync.notice_all_v1() returns trigger language plpgsql volatile as $$
begin
  perform pg_notify('mpesa_sync', '*');
  return null;
end $$;
