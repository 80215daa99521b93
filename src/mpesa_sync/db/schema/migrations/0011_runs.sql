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
