-- The schema mpesa_sync as it is after all migrations, to be read. A test proves that it equals migrating from zero.
-- Change it together with a new file in migrations/; never edit a migration that has been released.

create schema mpesa_sync;
comment on schema mpesa_sync is 'mpesa-sync: alerts, journal, operations. Removed by mpesa-sync db uninstall.';

create table mpesa_sync.schema_migrations (
  version integer primary key,
  name text not null,
  digest text not null,
  applied_at timestamptz not null default now()
);

-- What mpesa-sync keeps for itself. Nothing here refers to the schema public in the catalog (spec 7): a bar's id
-- is a plain uuid, so that `db uninstall` is one DROP SCHEMA and attaching locks none of the platform's tables.

create table mpesa_sync.installation (
  singleton boolean primary key default true check (singleton),
  id uuid not null default gen_random_uuid(),
  mode text not null check (mode in ('greenfield', 'attached')),
  installed_at timestamptz not null default now()
);

-- One row an operation: its idempotency and its audit in one. The id is inserted first, in the transaction that
-- does the work, so a committed row with outcome 'applied' proves that the work was committed with it. A row
-- with outcome 'failed' is a tombstone: whoever used this id before can never commit any more (faults.md 1).
create table mpesa_sync.operations (
  id uuid primary key,
  kind text not null,
  bar_id uuid not null,
  actor text not null,
  reason text not null default '',
  request jsonb not null,
  outcome text not null default 'applied' check (outcome in ('applied', 'failed')),
  before jsonb,
  after jsonb,
  result jsonb,
  started_at timestamptz not null default clock_timestamp()
);
create index operations_of_bar on mpesa_sync.operations (bar_id, started_at desc);

-- What we remember of a bar: the environment that was last switched on, which decides a later switch-on where
-- both environments have credentials (R1), and the version of what customers see, moved at most once a transaction.
-- Locked only while the bar's row in public.bars is held (races.md).
create table mpesa_sync.bar_state (
  bar_id uuid primary key,
  last_environment text check (last_environment in ('sandbox', 'production')),
  version bigint not null default 0,
  changed_in xid8,
  changed_at timestamptz not null default now()
);

create table mpesa_sync.alerts (
  id uuid primary key default gen_random_uuid(),
  bar_id uuid,
  kind text not null,
  state text not null default 'firing' check (state in ('firing', 'acknowledged', 'resolved')),
  cause text not null,
  sqlstate text,
  what_to_do text not null,
  operation_id uuid,
  count bigint not null default 1,
  first_seen timestamptz not null default now(),
  last_seen timestamptz not null default now(),
  resolved_at timestamptz
);
-- One open alert per (bar, kind) as a fact of the database (R5.2).
create unique index one_open_alert on mpesa_sync.alerts (bar_id, kind) nulls not distinct where state <> 'resolved';

-- Who ran a migration, when and why; what it changed stands in the journal.
create table mpesa_sync.migration_runs (
  id uuid primary key,
  actor text not null,
  reason text not null default '',
  started_at timestamptz not null default now()
);

-- Every value that a migration changed, in the transaction that changed it.
create table mpesa_sync.migration_journal (
  id bigint generated always as identity primary key,
  run_id uuid not null,
  bar_id uuid not null,
  previous boolean,
  current boolean not null,
  changed_at timestamptz not null default now()
);
create index migration_journal_of_bar on mpesa_sync.migration_journal (bar_id, run_id);

create function mpesa_sync.refuse_change_v1() returns trigger language plpgsql as $$
begin
  raise exception 'mpesa_sync.% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end $$;

-- An operation's result is filled in once, before its first commit; nothing is changed or removed after that.
create trigger operations_keep before update on mpesa_sync.operations
  for each row when (old.result is not null) execute function mpesa_sync.refuse_change_v1();
create trigger operations_stay before delete or truncate on mpesa_sync.operations
  for each statement execute function mpesa_sync.refuse_change_v1();
create trigger migration_journal_stays before update or delete or truncate on mpesa_sync.migration_journal
  for each statement execute function mpesa_sync.refuse_change_v1();

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

-- Local accounts, their memberships and sessions. public.user_bars of a platform is read beside them, never written.

create table mpesa_sync.accounts (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  password_hash text not null,
  is_operator boolean not null default false,
  created_at timestamptz not null default now(),
  password_changed_at timestamptz not null default now()
);
create unique index one_account_of_a_name on mpesa_sync.accounts (lower(name));

create table mpesa_sync.memberships (
  account_id uuid not null references mpesa_sync.accounts (id) on delete cascade,
  bar_id uuid not null,
  role text not null check (role in ('owner', 'manager', 'staff')),
  granted_at timestamptz not null default now(),
  primary key (account_id, bar_id)
);

-- A session is known by the SHA-256 of its token; the token itself stands in the cookie only.
create table mpesa_sync.sessions (
  token_digest bytea primary key,
  account_id uuid not null references mpesa_sync.accounts (id) on delete cascade,
  created_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now(),
  expires_at timestamptz not null
);
create index sessions_of_account on mpesa_sync.sessions (account_id);

-- Failed sign-ins by what was guessed at and from where, counted in windows; success from an address is remembered,
-- so that somebody else's guessing does not lock a person out.
create table mpesa_sync.sign_in_failures (
  bucket text primary key,
  count integer not null,
  window_began_at timestamptz not null
);
create table mpesa_sync.sign_in_addresses (
  account_id uuid not null references mpesa_sync.accounts (id) on delete cascade,
  address text not null,
  last_at timestamptz not null default now(),
  primary key (account_id, address)
);

-- The role of a person in a bar, the strongest of our membership and the platform's; null: none.
create function mpesa_sync.role_of_v1(p_person uuid, p_bar uuid) returns text language plpgsql volatile as $$
begin
  return (select b.role from mpesa_sync.bars_of_v1(p_person) b where b.bar_id = p_bar);
end $$;

-- Every bar a person belongs to, with the strongest role. A membership of a bar that is gone is none.
create function mpesa_sync.bars_of_v1(p_person uuid) returns table (bar_id uuid, role text)
language plpgsql volatile as $$
#variable_conflict use_column
begin
  if to_regclass('public.user_bars') is null then
    return query
      select m.bar_id, m.role from mpesa_sync.memberships m
       where m.account_id = p_person and exists (select 1 from public.bars b where b.id = m.bar_id);
  else
    return query
      select distinct on (m.bar_id) m.bar_id, m.role
        from (select bar_id, role from mpesa_sync.memberships where account_id = p_person
              union all
              select u.bar_id, u.role::text from public.user_bars u
               where u.user_id = p_person and u.role::text in ('owner', 'manager', 'staff')) m
       where exists (select 1 from public.bars b where b.id = m.bar_id)
       order by m.bar_id, array_position(array['owner', 'manager', 'staff'], m.role);
  end if;
end $$;

-- What the settings form stores of a bar's credentials.

-- Beside the platform's columns: how the venue is paid. No row: a paybill.
create table mpesa_sync.credential_details (
  bar_id uuid not null,
  environment text not null check (environment in ('sandbox', 'production')),
  account_type text not null check (account_type in ('paybill', 'till')),
  till_number text not null default '',
  primary key (bar_id, environment)
);

-- Store the credentials of one environment of a locked bar; null keeps what is stored. A new row is inactive: only
-- write_status_v1 makes it active. p_is_text: the secrets' columns are text, which holds hex (form 3).
-- p_callback_url: for the shape that requires one, null for the others. Each statement is planned when it is reached,
-- so that one function serves every shape.
create function mpesa_sync.write_credentials_v1(
  p_bar uuid, p_environment text, p_shortcode text, p_key bytea, p_secret bytea, p_passkey bytea,
  p_is_text boolean, p_callback_url text
)
returns void language plpgsql volatile as $$
begin
  if p_is_text then
    if exists (select 1 from public.mpesa_credentials c where c.tenant_id = p_bar and c.environment = p_environment) then
      update public.mpesa_credentials c
         set business_shortcode = coalesce(p_shortcode, c.business_shortcode),
             consumer_key_enc = coalesce('\x' || encode(p_key, 'hex'), c.consumer_key_enc),
             consumer_secret_enc = coalesce('\x' || encode(p_secret, 'hex'), c.consumer_secret_enc),
             passkey_enc = coalesce('\x' || encode(p_passkey, 'hex'), c.passkey_enc)
       where c.tenant_id = p_bar and c.environment = p_environment;
    elsif p_callback_url is null then
      insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                            consumer_secret_enc, passkey_enc, is_active)
      values (p_bar, p_environment, p_shortcode, '\x' || encode(p_key, 'hex'), '\x' || encode(p_secret, 'hex'),
              '\x' || encode(p_passkey, 'hex'), false);
    else
      insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                            consumer_secret_enc, passkey_enc, is_active, callback_url)
      values (p_bar, p_environment, p_shortcode, '\x' || encode(p_key, 'hex'), '\x' || encode(p_secret, 'hex'),
              '\x' || encode(p_passkey, 'hex'), false, p_callback_url);
    end if;
  elsif exists (select 1 from public.mpesa_credentials c where c.tenant_id = p_bar and c.environment = p_environment) then
    update public.mpesa_credentials c
       set business_shortcode = coalesce(p_shortcode, c.business_shortcode),
           consumer_key_enc = coalesce(p_key, c.consumer_key_enc),
           consumer_secret_enc = coalesce(p_secret, c.consumer_secret_enc),
           passkey_enc = coalesce(p_passkey, c.passkey_enc)
     where c.tenant_id = p_bar and c.environment = p_environment;
  elsif p_callback_url is null then
    insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                          consumer_secret_enc, passkey_enc, is_active)
    values (p_bar, p_environment, p_shortcode, p_key, p_secret, p_passkey, false);
  else
    insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                          consumer_secret_enc, passkey_enc, is_active, callback_url)
    values (p_bar, p_environment, p_shortcode, p_key, p_secret, p_passkey, false, p_callback_url);
  end if;
  perform mpesa_sync.notice_v1(p_bar);
end $$;
