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
