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
