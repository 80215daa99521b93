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
