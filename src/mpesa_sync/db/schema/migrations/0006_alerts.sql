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
