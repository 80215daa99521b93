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
-- both environments have credentials (R1). Locked only while the bar's row in public.bars is held (races.md).
create table mpesa_sync.bar_state (
  bar_id uuid primary key,
  last_environment text not null check (last_environment in ('sandbox', 'production')),
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
      where s.last_environment <> excluded.last_environment;
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
