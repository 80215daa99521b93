-- The platform's tables, as a platform of this kind has them (facts/existing-platform.md). Run only when
-- mpesa-sync makes its own database (greenfield); attached, these tables are the platform's and stay as they are.

create function public.set_updated_at() returns trigger language plpgsql as $$
begin
  new.updated_at := now();
  return new;
end $$;

create table public.bars (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  slug text unique,
  active boolean default true,
  mpesa_enabled boolean default false,
  payment_cash_enabled boolean default true,
  payment_card_enabled boolean default false,
  mpesa_environment varchar(20) default 'sandbox' check (mpesa_environment in ('sandbox', 'production')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create trigger bars_updated_at before update on public.bars
  for each row execute function public.set_updated_at();

create table public.mpesa_credentials (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.bars (id) on delete cascade,
  environment text not null check (environment in ('sandbox', 'production')),
  business_shortcode text not null,
  consumer_key_enc bytea not null,
  consumer_secret_enc bytea not null,
  passkey_enc bytea not null,
  initiator_name text,
  security_credential_enc bytea,
  is_active boolean default true,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (tenant_id, environment)
);
create trigger mpesa_credentials_updated_at before update on public.mpesa_credentials
  for each row execute function public.set_updated_at();

create table public.mpesa_credential_events (
  id uuid primary key default gen_random_uuid(),
  credential_id uuid not null,
  tenant_id uuid not null,
  event_type text not null check (event_type in ('created', 'updated', 'tested', 'rotated', 'deleted')),
  event_data jsonb,
  user_id uuid,
  created_at timestamptz not null default now()
);

create table public.audit_logs (
  id uuid primary key default gen_random_uuid(),
  bar_id uuid references public.bars (id) on delete cascade,
  tab_id uuid,
  staff_id uuid,
  action text not null,
  details jsonb,
  created_at timestamptz not null default now()
);

create table public.user_bars (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null,
  bar_id uuid not null references public.bars (id) on delete cascade,
  role text not null check (role in ('owner', 'manager', 'staff')),
  created_at timestamptz not null default now(),
  unique (user_id, bar_id)
);
