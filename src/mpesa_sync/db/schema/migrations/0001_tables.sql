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
