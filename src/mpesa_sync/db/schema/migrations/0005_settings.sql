-- What the settings form stores of a bar's credentials.

-- Beside the platform's columns: how the venue is paid. No row: a paybill.
create table mpesa_sync.credential_details (
  bar_id uuid not null,
  environment text not null check (environment in ('sandbox', 'production')),
  account_type text not null check (account_type in ('paybill', 'till')),
  till_number text not null default '',
  primary key (bar_id, environment)
);

-- Store the credentials of one environment of a locked bar; null keeps what is stored. A new row is inactive: only
-- write_status_v1 makes it active. p_is_text: the secrets' columns are text, which holds hex (form 3).
-- p_callback_url: for the shape that requires one, null for the others. Each statement is planned when it is reached,
-- so that one function serves every shape.
create function mpesa_sync.write_credentials_v1(
  p_bar uuid, p_environment text, p_shortcode text, p_key bytea, p_secret bytea, p_passkey bytea,
  p_is_text boolean, p_callback_url text
)
returns void language plpgsql volatile as $$
begin
  if p_is_text then
    if exists (select 1 from public.mpesa_credentials c where c.tenant_id = p_bar and c.environment = p_environment) then
      update public.mpesa_credentials c
         set business_shortcode = coalesce(p_shortcode, c.business_shortcode),
             consumer_key_enc = coalesce('\x' || encode(p_key, 'hex'), c.consumer_key_enc),
             consumer_secret_enc = coalesce('\x' || encode(p_secret, 'hex'), c.consumer_secret_enc),
             passkey_enc = coalesce('\x' || encode(p_passkey, 'hex'), c.passkey_enc)
       where c.tenant_id = p_bar and c.environment = p_environment;
    elsif p_callback_url is null then
      insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                            consumer_secret_enc, passkey_enc, is_active)
      values (p_bar, p_environment, p_shortcode, '\x' || encode(p_key, 'hex'), '\x' || encode(p_secret, 'hex'),
              '\x' || encode(p_passkey, 'hex'), false);
    else
      insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                            consumer_secret_enc, passkey_enc, is_active, callback_url)
      values (p_bar, p_environment, p_shortcode, '\x' || encode(p_key, 'hex'), '\x' || encode(p_secret, 'hex'),
              '\x' || encode(p_passkey, 'hex'), false, p_callback_url);
    end if;
  elsif exists (select 1 from public.mpesa_credentials c where c.tenant_id = p_bar and c.environment = p_environment) then
    update public.mpesa_credentials c
       set business_shortcode = coalesce(p_shortcode, c.business_shortcode),
           consumer_key_enc = coalesce(p_key, c.consumer_key_enc),
           consumer_secret_enc = coalesce(p_secret, c.consumer_secret_enc),
           passkey_enc = coalesce(p_passkey, c.passkey_enc)
     where c.tenant_id = p_bar and c.environment = p_environment;
  elsif p_callback_url is null then
    insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                          consumer_secret_enc, passkey_enc, is_active)
    values (p_bar, p_environment, p_shortcode, p_key, p_secret, p_passkey, false);
  else
    insert into public.mpesa_credentials (tenant_id, environment, business_shortcode, consumer_key_enc,
                                          consumer_secret_enc, passkey_enc, is_active, callback_url)
    values (p_bar, p_environment, p_shortcode, p_key, p_secret, p_passkey, false, p_callback_url);
  end if;
  perform mpesa_sync.notice_v1(p_bar);
end $$;
