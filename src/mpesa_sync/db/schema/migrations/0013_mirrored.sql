-- `migrate --mirror-legacy` (R2) keeps bars.payment_mpesa_enabled equal, too, where the platform still has it: the journal
-- says of which of the two fields it tells, so that an undo takes both back, each where it is the run's still.
alter table mpesa_sync.migration_journal
  add column field text not null default 'mpesa_enabled' check (field in ('mpesa_enabled', 'payment_mpesa_enabled'));
