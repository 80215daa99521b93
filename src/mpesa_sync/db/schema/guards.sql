-- The guards on the platform's tables (G1, G2): run by `guard install`, and in a database of our own by `db init`.
-- Deferred constraint triggers, so that they speak at the commit, whatever order a writer works in; ENABLE ALWAYS, so
-- that a restore or a logical apply is met, too; WHEN on values and no column list, so that what a BEFORE trigger of the
-- platform changes counts, and other updates cost nothing. Their names sort before those of the notices.

create constraint trigger mpesa_sync_guard_insert after insert on public.mpesa_credentials
  deferrable initially deferred for each row
  when (new.is_active and new.environment in ('sandbox', 'production'))
  execute function mpesa_sync.guard_credentials_v1();
create constraint trigger mpesa_sync_guard_delete after delete on public.mpesa_credentials
  deferrable initially deferred for each row
  when (old.is_active and old.environment in ('sandbox', 'production'))
  execute function mpesa_sync.guard_credentials_v1();
create constraint trigger mpesa_sync_guard_update after update on public.mpesa_credentials
  deferrable initially deferred for each row
  when (case when old.is_active and old.environment in ('sandbox', 'production') then old.tenant_id end
        is distinct from
        case when new.is_active and new.environment in ('sandbox', 'production') then new.tenant_id end)
  execute function mpesa_sync.guard_credentials_v1();
create trigger mpesa_sync_guard_truncate after truncate on public.mpesa_credentials
  for each statement execute function mpesa_sync.guard_truncated_v1();

create constraint trigger mpesa_sync_guard_insert after insert on public.bars
  deferrable initially deferred for each row execute function mpesa_sync.guard_bars_v1();
create constraint trigger mpesa_sync_guard_update after update on public.bars
  deferrable initially deferred for each row
  when (old.id <> new.id or coalesce(old.mpesa_enabled, false) <> coalesce(new.mpesa_enabled, false))
  execute function mpesa_sync.guard_bars_v1();

alter table public.mpesa_credentials enable always trigger mpesa_sync_guard_insert;
alter table public.mpesa_credentials enable always trigger mpesa_sync_guard_delete;
alter table public.mpesa_credentials enable always trigger mpesa_sync_guard_update;
alter table public.mpesa_credentials enable always trigger mpesa_sync_guard_truncate;
alter table public.bars enable always trigger mpesa_sync_guard_insert;
alter table public.bars enable always trigger mpesa_sync_guard_update;
