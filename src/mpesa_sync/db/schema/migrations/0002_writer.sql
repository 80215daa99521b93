-- The writer's steps as functions: each a sequence of separate statements with a snapshot of its own (VOLATILE,
-- READ COMMITTED), in one round trip. Only `sync.writer` calls them. Bound by facts/races.md: credentials by id,
-- then the bar, then bar_state; then decide in a new statement.

-- Lock one bar and everything that decides about it, then read it anew. No row: there is no such bar. A bar
-- without credentials is one row with credentials_id null. Secrets are handed out only where they are asked for.
create function mpesa_sync.lock_bar_v1(p_bar uuid, p_with_secrets boolean)
returns table (
  mpesa_enabled boolean, bar_active boolean, bar_holds_secrets boolean, last_environment text, credentials_id uuid,
  environment text, is_active boolean, consumer_key text, consumer_secret text, passkey text, has_open_alerts boolean
)
language plpgsql volatile as $$
#variable_conflict use_column
begin
  perform pg_advisory_xact_lock(hashtextextended(p_bar::text, 19990606));
  perform 1 from public.mpesa_credentials c where c.tenant_id = p_bar order by c.id for update;
  perform 1 from public.bars b where b.id = p_bar for update;
  -- A row that came while we waited for the bar; nowait, because this is out of the one order (races.md).
  perform 1 from public.mpesa_credentials c where c.tenant_id = p_bar order by c.id for update nowait;
  perform 1 from mpesa_sync.bar_state s where s.bar_id = p_bar for update;
  return query
    select b.mpesa_enabled, (j.bar ->> 'active')::boolean,
           coalesce(
             nullif(btrim(j.bar ->> 'mpesa_consumer_key_encrypted'), ''),
             nullif(btrim(j.bar ->> 'mpesa_consumer_secret_encrypted'), ''),
             nullif(btrim(j.bar ->> 'mpesa_passkey_encrypted'), '')) is not null,
           s.last_environment, c.id, c.environment::text, c.is_active,
           case when p_with_secrets then to_jsonb(c) ->> 'consumer_key_enc' end,
           case when p_with_secrets then to_jsonb(c) ->> 'consumer_secret_enc' end,
           case when p_with_secrets then to_jsonb(c) ->> 'passkey_enc' end,
           exists (select 1 from mpesa_sync.alerts a where a.bar_id = p_bar and a.state <> 'resolved')
      from public.bars b
      cross join lateral (select to_jsonb(b) as bar) j
      left join public.mpesa_credentials c on c.tenant_id = b.id and c.environment in ('sandbox', 'production')
      left join mpesa_sync.bar_state s on s.bar_id = b.id
     where b.id = p_bar
     order by c.id;
end $$;

-- Make p_environment the one active environment and show M-Pesa; null switches every environment off and hides it.
-- Rows that already say so are not touched. Deferred triggers speak before the read-back, which is what is returned.
create function mpesa_sync.write_status_v1(p_bar uuid, p_environment text)
returns table (
  credentials_changed bigint, bar_changed bigint, active_environments text[], mpesa_enabled boolean
)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  v_credentials bigint;
  v_bar bigint;
begin
  update public.mpesa_credentials c
     set is_active = (p_environment is not null and c.environment = p_environment)
   where c.tenant_id = p_bar
     and c.is_active is distinct from (p_environment is not null and c.environment = p_environment);
  get diagnostics v_credentials = row_count;
  update public.bars b set mpesa_enabled = (p_environment is not null)
   where b.id = p_bar and b.mpesa_enabled is distinct from (p_environment is not null);
  get diagnostics v_bar = row_count;
  if p_environment is not null then
    insert into mpesa_sync.bar_state as s (bar_id, last_environment) values (p_bar, p_environment)
    on conflict (bar_id) do update set last_environment = excluded.last_environment, changed_at = now()
      where s.last_environment is distinct from excluded.last_environment;
  end if;
  if v_credentials + v_bar > 0 then
    perform mpesa_sync.notice_v1(p_bar);
  end if;
  set constraints all immediate;
  return query select v_credentials, v_bar, r.* from mpesa_sync.read_status_v1(p_bar) r;
end $$;

-- Correct the customer-facing flag of one locked bar to p_shown; credentials are never written (R2.2, R5.4).
create function mpesa_sync.write_shown_v1(p_bar uuid, p_shown boolean)
returns table (bar_changed bigint, active_environments text[], mpesa_enabled boolean)
language plpgsql volatile as $$
#variable_conflict use_column
declare
  v_bar bigint;
begin
  update public.bars b set mpesa_enabled = p_shown where b.id = p_bar and b.mpesa_enabled is distinct from p_shown;
  get diagnostics v_bar = row_count;
  if v_bar > 0 then
    perform mpesa_sync.notice_v1(p_bar);
  end if;
  set constraints all immediate;
  return query select v_bar, r.* from mpesa_sync.read_status_v1(p_bar) r;
end $$;

-- Both fields of one bar in one statement (faults.md 3). No row: there is no such bar.
create function mpesa_sync.read_status_v1(p_bar uuid)
returns table (active_environments text[], mpesa_enabled boolean)
language plpgsql volatile as $$
#variable_conflict use_column
begin
  return query
    select array(select c.environment::text from public.mpesa_credentials c
                  where c.tenant_id = b.id and c.is_active and c.environment in ('sandbox', 'production') order by 1),
           b.mpesa_enabled
      from public.bars b where b.id = p_bar;
end $$;
