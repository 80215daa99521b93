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

-- Alerts with their whole life (R5.2): firing, acknowledged, resolved; what comes after that is a new episode, a new
-- row. What has to be told, and to whom, is kept beside them: jobs of the queue read it and write down what became of it.

alter table mpesa_sync.alerts
  add column episode integer not null default 1,
  add column acknowledged_at timestamptz,
  add column acknowledged_by text,
  add column resolved_by text,
  add column note text not null default '',
  add column told_at timestamptz,           -- when the job to tell people of it was made; null: not yet
  add column reminders integer not null default 0,
  add column resolution_told_at timestamptz; -- the same, of its resolution
create index alerts_newest on mpesa_sync.alerts (last_seen desc, id);
create index alerts_of_bar on mpesa_sync.alerts (bar_id, kind);
create index alerts_to_tell on mpesa_sync.alerts (id)
  where told_at is null or (state = 'resolved' and resolution_told_at is null);
create index alerts_resolved on mpesa_sync.alerts (resolved_at) where state = 'resolved';

-- What was counted already: an occurrence that is sent twice, or was spooled and is taken in again, counts once.
create table mpesa_sync.alert_occurrences (
  id uuid primary key,
  counted_at timestamptz not null default now()
);
create index alert_occurrences_by_age on mpesa_sync.alert_occurrences (counted_at);

-- One row for everything that is told to one channel. A channel is named by a fingerprint of its URL, which is a secret
-- and stands in the environment or, sealed, in venue_channels.
create table mpesa_sync.alert_deliveries (
  alert_id uuid not null references mpesa_sync.alerts (id) on delete cascade,
  notice text not null check (notice in ('raised', 'reminder', 'resolved')),
  number integer not null default 0, -- of a reminder
  audience text not null check (audience in ('operators', 'owner')),
  channel text not null,
  state text not null default 'pending' check (state in ('pending', 'delivered', 'failed')),
  attempts integer not null default 0,
  fault text not null default '', -- a word, never what the channel said
  created_at timestamptz not null default now(),
  first_attempted_at timestamptz,
  attempted_at timestamptz,
  due_at timestamptz not null default now(), -- when it is tried next; while it is being sent, when that has failed
  delivered_at timestamptz,
  primary key (alert_id, notice, number, audience, channel)
);
create index alert_deliveries_pending on mpesa_sync.alert_deliveries (created_at) where state = 'pending';
create index alert_deliveries_due on mpesa_sync.alert_deliveries (audience, channel, due_at) where state = 'pending';

-- How each channel does: failures in a row, and the last one as a word.
create table mpesa_sync.alert_channels (
  audience text not null check (audience in ('operators', 'owner')),
  channel text not null,
  failures integer not null default 0,
  fault text not null default '',
  failing_since timestamptz,
  delivered_at timestamptz,
  primary key (audience, channel)
);

-- Where the owner of a venue hears of it: the URL is sealed with the key of the venue's other secrets.
create table mpesa_sync.venue_channels (
  bar_id uuid primary key,
  channel text not null,
  url bytea not null,
  set_by text not null,
  set_at timestamptz not null default now()
);

-- What bars are called, for whoever reads alerts. Alerts must be read, told and closed also where the bars themselves
-- cannot be (no right, a policy, another shape, a lock on the table): then there are no names.
create function mpesa_sync.bar_names_v1(p_bars uuid[]) returns table (bar_id uuid, name text, slug text)
language plpgsql volatile set lock_timeout = '200ms' as $$
#variable_conflict use_column
begin
  return query
    select b.id, to_jsonb(b) ->> 'name', to_jsonb(b) ->> 'slug' from public.bars b where b.id = any(p_bars);
exception when others then
  return;
end $$;

-- Count an occurrence: for the alert that is open, or for a new one, which is the next episode. Returns the alert; null:
-- this occurrence was counted before.
create function mpesa_sync.count_alert_v1(
  p_occurrence uuid, p_bar uuid, p_kind text, p_cause text, p_sqlstate text, p_what_to_do text, p_operation uuid,
  p_count bigint, p_first_seen timestamptz, p_last_seen timestamptz
)
returns uuid language plpgsql volatile as $$
declare
  v_alert uuid;
begin
  insert into mpesa_sync.alert_occurrences (id) values (p_occurrence) on conflict (id) do nothing;
  if not found then
    return null;
  end if;
  insert into mpesa_sync.alerts as a (bar_id, kind, cause, sqlstate, what_to_do, operation_id, count, first_seen,
                                      last_seen, episode)
  values (p_bar, p_kind, p_cause, p_sqlstate, p_what_to_do, p_operation, p_count, p_first_seen, p_last_seen,
          1 + (select count(*)::integer from mpesa_sync.alerts e where e.bar_id is not distinct from p_bar and e.kind = p_kind))
  on conflict (bar_id, kind) where state <> 'resolved'
  do update set count = a.count + excluded.count,
                first_seen = least(a.first_seen, excluded.first_seen),
                last_seen = greatest(a.last_seen, excluded.last_seen),
                cause = case when excluded.last_seen >= a.last_seen then excluded.cause else a.cause end,
                sqlstate = case when excluded.last_seen >= a.last_seen then excluded.sqlstate else a.sqlstate end,
                what_to_do = case when excluded.last_seen >= a.last_seen then excluded.what_to_do else a.what_to_do end,
                operation_id = case when excluded.last_seen >= a.last_seen then excluded.operation_id
                                    else a.operation_id end
  returning a.id into v_alert;
  return v_alert;
end $$;

-- The job queue: the tables of PgQueuer, which runs what is done in the background. Its own statements, as the version
-- in requirements/ writes them for the names in jobs/queue.py; a test compares the two.

CREATE TYPE mpesa_sync.queue_status AS ENUM ('queued', 'picked', 'successful', 'exception', 'canceled', 'deleted', 'failed');

CREATE TABLE mpesa_sync.queue (
    id bigserial NOT NULL PRIMARY KEY,
    priority integer NOT NULL,
    queue_manager_id uuid,
    created timestamp with time zone NOT NULL DEFAULT now(),
    updated timestamp with time zone NOT NULL DEFAULT now(),
    heartbeat timestamp with time zone NOT NULL DEFAULT now(),
    execute_after timestamp with time zone NOT NULL DEFAULT now(),
    status mpesa_sync.queue_status NOT NULL,
    entrypoint text NOT NULL,
    dedupe_key text,
    payload bytea,
    headers jsonb,
    attempts integer NOT NULL DEFAULT 0,
    slot bigint
);

CREATE TABLE mpesa_sync.queue_log (
    id bigint GENERATED BY DEFAULT AS IDENTITY NOT NULL PRIMARY KEY,
    created timestamp with time zone NOT NULL DEFAULT now(),
    job_id bigint NOT NULL,
    status mpesa_sync.queue_status NOT NULL,
    priority integer NOT NULL,
    entrypoint text NOT NULL,
    traceback jsonb,
    aggregated boolean DEFAULT false
);

CREATE TABLE mpesa_sync.queue_schedules (
    id bigserial NOT NULL PRIMARY KEY,
    expression text NOT NULL,
    entrypoint text NOT NULL,
    heartbeat timestamp with time zone NOT NULL DEFAULT now(),
    created timestamp with time zone NOT NULL DEFAULT now(),
    updated timestamp with time zone NOT NULL DEFAULT now(),
    next_run timestamp with time zone NOT NULL DEFAULT now(),
    last_run timestamp with time zone,
    status mpesa_sync.queue_status DEFAULT 'queued'::mpesa_sync.queue_status,
    UNIQUE (expression, entrypoint)
);

CREATE TABLE mpesa_sync.queue_statistics (
    id bigserial NOT NULL PRIMARY KEY,
    created timestamp with time zone NOT NULL DEFAULT date_trunc('sec'::text, now()),
    count bigint NOT NULL,
    priority integer NOT NULL,
    status mpesa_sync.queue_status NOT NULL,
    entrypoint text NOT NULL
);

CREATE INDEX queue_ep_ea_idx ON mpesa_sync.queue USING btree (entrypoint, execute_after) WHERE (status = 'queued'::mpesa_sync.queue_status);

CREATE INDEX queue_ep_prio_id_idx ON mpesa_sync.queue USING btree (entrypoint, priority DESC, id) WHERE (status = 'queued'::mpesa_sync.queue_status);

CREATE INDEX queue_log_created ON mpesa_sync.queue_log USING btree (created);

CREATE INDEX queue_log_job_id_status ON mpesa_sync.queue_log USING btree (job_id, created DESC);

CREATE INDEX queue_log_not_aggregated ON mpesa_sync.queue_log USING btree ((1)) WHERE (NOT aggregated);

CREATE INDEX queue_log_status ON mpesa_sync.queue_log USING btree (status);

CREATE INDEX queue_picked_heartbeat_idx ON mpesa_sync.queue USING btree (heartbeat) WHERE (status = 'picked'::mpesa_sync.queue_status);

CREATE UNIQUE INDEX queue_picked_slot_idx ON mpesa_sync.queue USING btree (entrypoint, slot) WHERE ((status = 'picked'::mpesa_sync.queue_status) AND (slot IS NOT NULL));

CREATE INDEX queue_priority_id_id1_idx ON mpesa_sync.queue USING btree (priority, id DESC) INCLUDE (id) WHERE (status = 'queued'::mpesa_sync.queue_status);

CREATE INDEX queue_queue_manager_id_idx ON mpesa_sync.queue USING btree (queue_manager_id) WHERE (queue_manager_id IS NOT NULL);

CREATE UNIQUE INDEX queue_statistics_unique_count ON mpesa_sync.queue_statistics USING btree (priority, date_trunc('sec'::text, timezone('UTC'::text, created)), status, entrypoint);

CREATE UNIQUE INDEX queue_unique_dedupe_key ON mpesa_sync.queue USING btree (dedupe_key) WHERE ((status = ANY (ARRAY['queued'::mpesa_sync.queue_status, 'picked'::mpesa_sync.queue_status])) AND (dedupe_key IS NOT NULL));

CREATE INDEX queue_updated_id_id1_idx ON mpesa_sync.queue USING btree (updated, id DESC) INCLUDE (id) WHERE (status = 'picked'::mpesa_sync.queue_status);

CREATE FUNCTION mpesa_sync.queue_changed() RETURNS TRIGGER AS $$
DECLARE
    to_emit BOOLEAN := false;  -- Flag to decide whether to emit a notification
BEGIN
    -- Check operation type and set the emit flag accordingly
    IF TG_OP = 'UPDATE' AND OLD IS DISTINCT FROM NEW THEN
        to_emit := true;
    ELSIF TG_OP = 'DELETE' THEN
        to_emit := true;
    ELSIF TG_OP = 'INSERT' THEN
        to_emit := true;
    ELSIF TG_OP = 'TRUNCATE' THEN
        to_emit := true;
    END IF;

    -- Perform notification if the emit flag is set
    IF to_emit THEN
        PERFORM pg_notify(
            'mpesa_sync_jobs',
            json_build_object(
                'channel', 'mpesa_sync_jobs',
                'operation', lower(TG_OP),
                'sent_at', NOW(),
                'table', TG_TABLE_NAME,
                'type', 'table_changed_event'
            )::text
        );
    END IF;

    -- Return appropriate value based on the operation
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        RETURN NEW;
    ELSIF TG_OP = 'DELETE' THEN
        RETURN OLD;
    ELSE
        RETURN NULL; -- For TRUNCATE and other non-row-specific contexts
    END IF;

END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER queue_changed
AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON mpesa_sync.queue
EXECUTE FUNCTION mpesa_sync.queue_changed();

-- Repeats of a request that are safe (R4), and where an operation was asked for.

-- The address and the client of who asked, and the person where one is known by id.
alter table mpesa_sync.operations
  add column person_id uuid,
  add column source_address text not null default '',
  add column client text not null default '';

-- One row an Idempotency-Key of a person. `operation_id` is the operation that the key stands for: a repeat after a
-- crash goes on under it. `answer` is null while the first request is in flight, until `held_until` at the latest.
-- Neither the key nor the body is kept, only keyed hashes.
create table mpesa_sync.idempotency_keys (
  person_id uuid not null,
  key_digest text not null,
  body_digest text not null,
  operation_id uuid not null,
  held_until timestamptz not null,
  status integer,
  answer jsonb,
  created_at timestamptz not null default now(),
  primary key (person_id, key_digest)
);
create index idempotency_keys_by_age on mpesa_sync.idempotency_keys (created_at);

-- The switch for programs in other languages (R1), and courtesy copies of the audit for the platform's own tables.

-- Copy an operation that changed something into the platform's own logs, where they exist and allow it. It never fails
-- the operation: each copy has an exception block, "others" does not catch a timeout or an assertion, and no lock is
-- waited for longer than 200 ms. Constraints are immediate by now, so deferred triggers speak inside the block. A
-- trigger there that moves the pair after it was read back loses its copy. Returns what became of each: written,
-- absent (no such table), unneeded, or the SQLSTATE that refused it.
create function mpesa_sync.courtesy_copy_v1(
  p_bar uuid, p_operation uuid, p_actor text, p_person uuid, p_act text, p_environment text, p_before jsonb,
  p_after jsonb
)
returns jsonb language plpgsql volatile as $$
declare
  v_lock_timeout text := current_setting('lock_timeout');
  v_status text;
  v_audit text := 'absent';
  v_events text := 'absent';
  v_saved text := p_after -> 'saved' ->> 'environment';
  v_user uuid;
  v_details jsonb := jsonb_build_object('operation_id', p_operation, 'actor', p_actor, 'environment', p_environment,
                                        'before', p_before, 'after', p_after);
begin
  if p_act is null or p_before is not distinct from p_after then
    return '{"audit_logs": "unneeded", "mpesa_credential_events": "unneeded"}';
  end if;
  perform set_config('lock_timeout', '200ms', true);
  v_status := (select r::text from mpesa_sync.read_status_v1(p_bar) r);
  if to_regclass('public.audit_logs') is not null then
    begin
      v_user := mpesa_sync.platform_user_v1(p_person);
      insert into public.audit_logs (bar_id, staff_id, action, details) values (p_bar, v_user, p_act, v_details);
      perform mpesa_sync.require_status_v1(p_bar, v_status);
      v_audit := 'written';
    exception when query_canceled or assert_failure or others then
      v_audit := sqlstate;
    end;
  end if;
  if v_audit = '57014' then
    v_events := v_audit; -- the statement's time is up, and nothing would end a second wait
  elsif to_regclass('public.mpesa_credential_events') is not null then
    begin
      v_user := mpesa_sync.platform_user_v1(p_person);
      insert into public.mpesa_credential_events (credential_id, tenant_id, event_type, event_data, user_id)
      select c.id, c.tenant_id,
             case when v_saved is not null
                   and (to_jsonb(c) ->> 'created_at')::timestamptz = transaction_timestamp() then 'created'
                  else 'updated' end,
             v_details || jsonb_build_object('action', p_act), v_user
        from public.mpesa_credentials c
       where c.tenant_id = p_bar
         and case when v_saved is not null then c.environment = v_saved
                  else p_before -> 'credentials' -> c.environment::text
                       is distinct from p_after -> 'credentials' -> c.environment::text end;
      v_events := case when found then 'written' else 'unneeded' end;
      perform mpesa_sync.require_status_v1(p_bar, v_status);
    exception when query_canceled or assert_failure or others then
      v_events := sqlstate;
    end;
  end if;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return jsonb_build_object('audit_logs', v_audit, 'mpesa_credential_events', v_events);
end $$;

-- Who the platform knows by this id; null for a local account, whose id is ours.
create function mpesa_sync.platform_user_v1(p_person uuid) returns uuid language plpgsql stable as $$
begin
  if p_person is null or exists (select 1 from mpesa_sync.accounts a where a.id = p_person) then
    return null;
  end if;
  return p_person;
end $$;

-- Refuse to go on where both fields of a bar are not what they were when they were read back.
create function mpesa_sync.require_status_v1(p_bar uuid, p_status text) returns void language plpgsql volatile as $$
begin
  if (select r::text from mpesa_sync.read_status_v1(p_bar) r) is distinct from p_status then
    raise exception 'What was read back has changed.' using errcode = 'MS008';
  end if;
end $$;

-- Store what an operation found, left and answers, and copy it where the platform keeps such things. p_act: which of
-- the audit acts it is, null for none of them. Returns what courtesy_copy_v1 does.
create function mpesa_sync.finish_operation_v1(p_id uuid, p_before jsonb, p_after jsonb, p_result jsonb, p_act text)
returns jsonb language plpgsql volatile as $$
declare
  v_operation record;
begin
  update mpesa_sync.operations o set before = p_before, after = p_after, result = p_result
   where o.id = p_id
  returning o.bar_id, o.actor, o.person_id into v_operation;
  return mpesa_sync.courtesy_copy_v1(v_operation.bar_id, p_id, v_operation.actor, v_operation.person_id, p_act,
                                     p_result ->> 'environment', p_before, p_after);
end $$;

-- A text of one line without the white space around it, as domain/inputs.py wants it; null where it is refused: empty,
-- longer than 200 characters, or with control, bidi or invisible characters in it.
create function mpesa_sync.line_of_text_v1(p_text text) returns text language plpgsql immutable as $$
declare
  v_text text := regexp_replace(p_text,
    '^[\t\n\r \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+|[\t\n\r \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+$',
    '', 'g');
begin
  if char_length(v_text) not between 1 and 200 or v_text ~ (
    '[\u0001-\u001f\u007f-\u009f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5'
    '\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000110bd\U000110cd'
    '\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]') then
    return null;
  end if;
  return v_text;
end $$;

-- What one stored secret is worth, as far as that can be told without a key: missing, unreadable, malformed, or usable
-- for all that is known. The forms are those of crypto/forms.py. p_text: the column as lock_bar_v1 hands it out.
create function mpesa_sync.secret_state_v1(p_text text) returns text language plpgsql immutable as $$
declare
  v_stored bytea;
  v_text text;
  v_json jsonb;
begin
  if coalesce(p_text, '') in ('', '\x') then
    return 'missing';
  end if;
  begin
    v_stored := case when p_text ~ '^\\x([0-9a-fA-F]{2})+$' then decode(substr(p_text, 3), 'hex')
                     else convert_to(p_text, 'UTF8') end;
    v_text := convert_from(v_stored, 'UTF8');
  exception when others then
    v_text := null;
  end;
  if v_text is null or v_text ~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]' then
    return case when length(v_stored) < 28 then 'unreadable' else 'usable' end; -- form 1
  end if;
  v_text := regexp_replace(v_text, '^\s+|\s+$', '', 'g');
  if v_text ~ '^\\x' then -- form 3
    return case when v_text !~ '^\\x[0-9a-fA-F]*$' then 'malformed'
                when length(v_text) % 2 = 1 or length(v_text) < 2 + 2 * 28 then 'unreadable' else 'usable' end;
  elsif v_text ~ '^\{' then -- form 2
    begin
      v_json := v_text::jsonb;
    exception when others then
      return 'malformed';
    end;
    if v_json ->> 'type' is distinct from 'Buffer' then
      return 'unreadable';
    elsif jsonb_typeof(v_json -> 'data') is distinct from 'array' or exists (
      select 1 from jsonb_array_elements(v_json -> 'data') n where n::text !~ '^(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])$')
    then
      return 'malformed';
    end if;
    return case when jsonb_array_length(v_json -> 'data') < 28 then 'unreadable' else 'usable' end;
  end if;
  return case when v_text ~ '^\u2022*$' then 'malformed' else 'unreadable' end; -- blank, the mask; forms 4 and 5
end $$;

-- The environment that a switch-on makes the active one, as domain/environments.py chooses where none is named: the
-- only row present, else the only row active, else the one last seen active. Raises where none of them says which.
create function mpesa_sync.choose_environment_v1(p_flags jsonb, p_last text) returns text
language plpgsql immutable as $$
declare
  v_present text[] := array(select jsonb_object_keys(p_flags));
  v_active text[] := array(select f.key from jsonb_each(p_flags) f where f.value = 'true');
begin
  if cardinality(v_present) = 0 then
    raise exception 'There are no M-Pesa credentials.'
      using errcode = 'MS004', hint = 'Save them first, then switch on.';
  elsif cardinality(v_present) = 1 then
    return v_present[1];
  elsif cardinality(v_active) = 1 then
    return v_active[1];
  elsif p_last = any(v_present) then
    return p_last;
  end if;
  raise exception 'Credentials exist for sandbox and production, and nothing says which is to be active.'
    using errcode = 'MS006', hint = 'Switch on once with mpesa-sync or on the staff page, where one can be named.';
end $$;

-- Refuse a switch-on that could not serve, as far as stored facts tell. p_secrets: the texts of consumer_key,
-- consumer_secret and passkey as stored.
create function mpesa_sync.require_switchable_v1(p_environment text, p_secrets jsonb)
returns void language plpgsql stable as $$
declare
  v_missing text;
  v_unusable text;
begin
  if p_environment = 'sandbox' and not exists (select 1 from mpesa_sync.installation i where i.mode = 'greenfield') then
    raise exception 'Sandbox credentials may not serve customers here.'
      using errcode = 'MS007', hint = 'Save production credentials, then switch on.';
  end if;
  select string_agg(s.key, ', ' order by s.key) filter (where s.state = 'missing'),
         string_agg(s.key, ', ' order by s.key) filter (where s.state in ('unreadable', 'malformed'))
    into v_missing, v_unusable
    from (select e.key, mpesa_sync.secret_state_v1(e.value) as state from jsonb_each_text(p_secrets) e) s;
  if v_missing is not null then
    raise exception 'The % credentials lack %.', p_environment, v_missing
      using errcode = 'MS004', hint = 'Save them first, then switch on.';
  elsif v_unusable is not null then
    raise exception 'The stored % secrets cannot serve (%).', p_environment, v_unusable
      using errcode = 'MS005', hint = 'Save them again, then switch on.';
  end if;
end $$;

-- write_status_v1, with a refusal by a constraint said without its DETAIL: PostgreSQL puts the whole row there.
create function mpesa_sync.write_status_or_refuse_v1(p_bar uuid, p_environment text)
returns table (credentials_changed bigint, bar_changed bigint, active_environments text[], mpesa_enabled boolean)
language plpgsql volatile as $$
declare
  v_message text; v_constraint text; v_table text; v_schema text;
begin
  return query select w.* from mpesa_sync.write_status_v1(p_bar, p_environment) w;
exception when integrity_constraint_violation then
  get stacked diagnostics v_message = message_text, v_constraint = constraint_name, v_table = table_name,
                          v_schema = schema_name;
  raise exception using errcode = sqlstate, message = v_message, constraint = v_constraint, table = v_table,
                        schema = v_schema, hint = 'Meet this rule of the platform or change it, then switch again.';
end $$;

-- Switch a bar's M-Pesa on or off for both applications, inside the caller's transaction: the locks, the write, the
-- read-back, the audit and the notice of `MpesaSyncManager.sync_mpesa_status`. With the rights of whoever calls it.
-- Errors: docs/how-to/sql-entry-point.md. Only the caller commits.
create function mpesa_sync.set_mpesa_status_v1(bar uuid, active boolean, actor text)
returns table (operation_id uuid, changed boolean, environment text)
language plpgsql volatile set row_security = off as $$
#variable_conflict use_variable
declare
  v_started timestamptz := clock_timestamp();
  v_lock_timeout text := current_setting('lock_timeout');
  v_actor text := mpesa_sync.line_of_text_v1(actor);
  v_row record;
  v_bar record;
  v_written record;
  v_flags jsonb := '{}';
  v_secrets jsonb := '{}';
  v_before jsonb; v_after jsonb;
  v_copies jsonb;
begin
  if v_actor ~* '^(staff|operator|user|cli|operation|migration|channel):' then
    raise exception 'actor must not begin like the name of somebody whom mpesa-sync has signed in.'
      using errcode = 'MS001', hint = 'For example: till:asha';
  elsif bar is null or active is null or v_actor is null then
    raise exception 'bar, active and actor must be given; actor is one line of 1 to 200 visible characters.'
      using errcode = 'MS001', hint = 'For example: mpesa_sync.set_mpesa_status_v1($1, true, ''asha@example.com'')';
  elsif current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'The transaction is %; it must be read committed.', current_setting('transaction_isolation')
      using errcode = 'MS002', hint = 'Begin it with BEGIN ISOLATION LEVEL READ COMMITTED.';
  end if;
  if v_lock_timeout = '0' then
    perform set_config('lock_timeout', '1500ms', true);
  end if;
  for v_row in select * from mpesa_sync.lock_bar_v1(bar, active) loop
    v_bar := v_row;
    if v_row.credentials_id is not null then
      v_flags := v_flags || jsonb_build_object(v_row.environment, v_row.is_active);
      v_secrets := v_secrets || jsonb_build_object(v_row.environment, jsonb_build_object(
        'consumer_key', coalesce(v_row.consumer_key, ''), 'consumer_secret', coalesce(v_row.consumer_secret, ''),
        'passkey', coalesce(v_row.passkey, '')));
    end if;
  end loop;
  if not found then
    raise exception 'There is no bar with this id.' using errcode = 'MS003', hint = 'Look the bar up in public.bars.';
  end if;
  if active then
    environment := mpesa_sync.choose_environment_v1(v_flags, v_bar.last_environment);
    perform mpesa_sync.require_switchable_v1(environment, v_secrets -> environment);
  end if;
  select * into v_written from mpesa_sync.write_status_or_refuse_v1(bar, environment);
  if v_written.active_environments is distinct from array_remove(array[environment], null)
     or v_written.mpesa_enabled is distinct from active then
    raise exception 'What was read back is not what was written: a trigger or rule of the database changes it.'
      using errcode = 'MS008', hint = 'Find it on bars and mpesa_credentials, then switch again.';
  end if;
  operation_id := gen_random_uuid();
  changed := v_written.credentials_changed + v_written.bar_changed > 0;
  if v_bar.has_open_alerts then
    update mpesa_sync.alerts a
       set state = 'resolved', resolved_at = now(), resolved_by = 'operation:' || operation_id
     where a.id in (select e.id from mpesa_sync.alerts e
                     where e.bar_id = bar and e.state <> 'resolved'
                       and e.kind in ('sync_failed', 'database_refused', 'outcome_unknown') for update skip locked);
  end if;
  v_before := jsonb_build_object('credentials', v_flags, 'mpesa_enabled', v_bar.mpesa_enabled);
  v_after := jsonb_build_object(
    'credentials', (select coalesce(jsonb_object_agg(k, coalesce(k = environment, false)), '{}')
                      from jsonb_object_keys(v_flags) k),
    'mpesa_enabled', v_written.mpesa_enabled);
  insert into mpesa_sync.operations (id, kind, bar_id, actor, request, before, after, result, started_at,
                                     source_address, client)
  values (operation_id, 'switch', bar, v_actor, jsonb_build_object('is_active', active, 'environment', null),
          v_before, v_after,
          jsonb_build_object('success', true, 'credentials_updated', true, 'bar_status_updated', true,
                             'changed', changed, 'operation_id', operation_id, 'environment', environment,
                             'attempts', 0, 'error', null),
          v_started, coalesce(host(inet_client_addr()), ''), left(current_setting('application_name'), 200));
  v_copies := mpesa_sync.courtesy_copy_v1(
    bar, operation_id, v_actor, null, case when active then 'mpesa:switched_on' else 'mpesa:switched_off' end,
    environment, v_before, v_after);
  for v_row in select e.key, e.value from jsonb_each_text(v_copies) e
                where e.value not in ('written', 'absent', 'unneeded') loop
    raise notice 'public.% keeps no copy of this switch (SQLSTATE %).', v_row.key, v_row.value;
  end loop;
  if v_lock_timeout = '0' then
    perform set_config('lock_timeout', '0', true);
  end if;
  return next;
end $$;

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

-- Runs of the migration (R2): one row each, with how it goes on. Its cursor and counters move in the transaction that
-- changes the bars, so that whoever takes it over after a kill knows exactly what is done.

-- kind: 'record' is one bar (migrate_record), 'retry' what stands in the quarantine, 'undo' takes back of_run.
-- is_bound: it corrects its first candidates alone, whatever else it finds drifted.
-- wanted: what somebody has asked of it. report: its counters. round and cursor: the candidates up to this bar are done.
-- token: of the process that holds it; nobody else can commit a batch. holder: where that process runs.
alter table mpesa_sync.migration_runs
  add column kind text not null default 'migrate' check (kind in ('migrate', 'record', 'retry', 'undo')),
  add column of_run uuid,
  add column is_bound boolean not null default false,
  add column state text not null default 'done' check (state in (
    'planned', 'running', 'pausing', 'paused', 'verifying', 'done', 'failed', 'cancelled', 'interrupted')),
  add column wanted text check (wanted in ('pause', 'cancel')),
  add column options jsonb not null default '{}',
  add column report jsonb not null default '{}',
  add column round integer not null default 0,
  add column candidates bigint not null default 0,
  add column cursor uuid,
  add column token uuid,
  add column holder text not null default '',
  add column heartbeat_at timestamptz,
  add column stopped_by text,
  add column fault text,
  add column finished_at timestamptz;
-- Two runs at once are refused; this is what refuses them where both begin in the same moment.
create unique index one_active_run on mpesa_sync.migration_runs ((true))
  where state in ('running', 'pausing', 'verifying');
create index migration_runs_latest on mpesa_sync.migration_runs (started_at desc);

-- What a run is to correct, written once for each of its looks. expected: the value that decides (the authority; of an
-- undo, what the run undone has left). target: what the flag becomes.
create table mpesa_sync.migration_candidates (
  run_id uuid not null,
  round integer not null,
  bar_id uuid not null,
  expected boolean not null,
  target boolean,
  primary key (run_id, round, bar_id)
);

-- Bars that could not be corrected, until a later run settles them. One open row a bar.
create table mpesa_sync.migration_quarantine (
  id bigint generated always as identity primary key,
  bar_id uuid not null,
  run_id uuid not null,
  code text not null,
  sqlstate text,
  message text not null,
  attempts integer not null,
  first_seen timestamptz not null default clock_timestamp(),
  last_seen timestamptz not null default clock_timestamp(),
  resolved_at timestamptz,
  resolved_by uuid
);
create unique index one_open_quarantine on mpesa_sync.migration_quarantine (bar_id) where resolved_at is null;
create index migration_quarantine_of_run on mpesa_sync.migration_quarantine (run_id);

-- An undo gives back what was there before, and that may have been NULL.
alter table mpesa_sync.migration_journal alter column current drop not null;

-- Continuous reconciliation (spec 3, C): where the sweep over all bars stands. One row, so that any number of processes
-- share one sweep: who works on a slice holds the lease, and every commit for it asks for its token again (races.md).
create table mpesa_sync.reconciler (
  singleton boolean primary key default true check (singleton),
  lease_token uuid,
  lease_until timestamptz,
  epoch text,                          -- the history that last_bar belongs to; a copy or a restore begins anew
  cycle_started timestamptz,           -- null: no cycle is under way
  last_bar uuid,                       -- the last bar that was looked at in it
  again boolean not null default false, -- asked for while one was under way: another one follows at once
  next_run timestamptz not null default now(),
  last_success timestamptz,            -- when a cycle last came to its end
  slices integer not null default 0,   -- from here on: of the cycle that is under way
  bars bigint not null default 0,
  hidden bigint not null default 0,    -- drifted still at the second look, by direction
  exposed bigint not null default 0,
  repaired bigint not null default 0,
  failed bigint not null default 0,    -- the database refused the repair: each has an alert of its own
  left_alone bigint not null default 0, -- secrets stand in bars and there is no credentials row (stale authority)
  postponed bigint not null default 0, -- the budget of the hour was spent
  reported bigint not null default 0,  -- by policy
  hour_started timestamptz,            -- of the budget
  hour_repairs integer not null default 0,
  budget_told_at timestamptz           -- when people were last told that it is spent
);
insert into mpesa_sync.reconciler default values;

-- The history of drift: one row a cycle, kept for 400 days.
create table mpesa_sync.reconciler_cycles (
  id bigint generated always as identity primary key,
  policy text not null check (policy in ('observe', 'repair')),
  started_at timestamptz not null,
  finished_at timestamptz not null,
  slices integer not null,
  bars bigint not null,
  hidden bigint not null,
  exposed bigint not null,
  repaired bigint not null,
  failed bigint not null,
  left_alone bigint not null,
  postponed bigint not null,
  reported bigint not null
);
create index reconciler_cycles_by_age on mpesa_sync.reconciler_cycles (finished_at);

-- `migrate --mirror-legacy` (R2) keeps bars.payment_mpesa_enabled equal, too, where the platform still has it: the journal
-- says of which of the two fields it tells, so that an undo takes both back, each where it is the run's still.
alter table mpesa_sync.migration_journal
  add column field text not null default 'mpesa_enabled' check (field in ('mpesa_enabled', 'payment_mpesa_enabled'));
