-- The notice trigger for updates of bars, where bars has every column that customers can see.

create constraint trigger mpesa_sync_notice_update after update on public.bars
  deferrable initially deferred for each row
  when ((old.id, old.name, old.slug, old.active, old.mpesa_enabled, old.payment_cash_enabled, old.payment_card_enabled)
        is distinct from
        (new.id, new.name, new.slug, new.active, new.mpesa_enabled, new.payment_cash_enabled, new.payment_card_enabled))
  execute function mpesa_sync.notice_bar_v1();
alter table public.bars enable always trigger mpesa_sync_notice_update;
