-- The notice triggers on the platform's tables, but the one for updates of bars, which stands in notices_of_bars*.sql: run
-- in a database of our own (greenfield), and by `guard install` in another one. Deferred constraint
-- triggers, so that they speak at commit, whatever order a writer works in; ENABLE ALWAYS, so that a restore or a
-- logical apply is heard, too; WHEN on the columns that customers can see, so that other updates cost nothing.

create constraint trigger mpesa_sync_notice_insert after insert on public.bars
  deferrable initially deferred for each row execute function mpesa_sync.notice_bar_v1();
create constraint trigger mpesa_sync_notice_delete after delete on public.bars
  deferrable initially deferred for each row execute function mpesa_sync.notice_bar_v1();
create trigger mpesa_sync_notice_truncate after truncate on public.bars
  for each statement execute function mpesa_sync.notice_all_v1();

create constraint trigger mpesa_sync_notice_insert after insert on public.mpesa_credentials
  deferrable initially deferred for each row execute function mpesa_sync.notice_credentials_v1();
create constraint trigger mpesa_sync_notice_delete after delete on public.mpesa_credentials
  deferrable initially deferred for each row execute function mpesa_sync.notice_credentials_v1();
create constraint trigger mpesa_sync_notice_update after update on public.mpesa_credentials
  deferrable initially deferred for each row
  when ((old.tenant_id, old.environment, old.is_active, old.consumer_key_enc, old.consumer_secret_enc, old.passkey_enc)
        is distinct from
        (new.tenant_id, new.environment, new.is_active, new.consumer_key_enc, new.consumer_secret_enc, new.passkey_enc))
  execute function mpesa_sync.notice_credentials_v1();
create trigger mpesa_sync_notice_truncate after truncate on public.mpesa_credentials
  for each statement execute function mpesa_sync.notice_all_v1();

alter table public.bars enable always trigger mpesa_sync_notice_insert;
alter table public.bars enable always trigger mpesa_sync_notice_delete;
alter table public.bars enable always trigger mpesa_sync_notice_truncate;
alter table public.mpesa_credentials enable always trigger mpesa_sync_notice_insert;
alter table public.mpesa_credentials enable always trigger mpesa_sync_notice_delete;
alter table public.mpesa_credentials enable always trigger mpesa_sync_notice_update;
alter table public.mpesa_credentials enable always trigger mpesa_sync_notice_truncate;
