-- The notice trigger for updates of bars, for a shape of bars that lacks some of those columns. A WHEN that
-- names a column cannot be made there, so this one compares whole rows; it costs a little more.

create constraint trigger mpesa_sync_notice_update after update on public.bars
  deferrable initially deferred for each row
  when (to_jsonb(old) - 'updated_at' is distinct from to_jsonb(new) - 'updated_at')
  execute function mpesa_sync.notice_bar_v1();
alter table public.bars enable always trigger mpesa_sync_notice_update;
