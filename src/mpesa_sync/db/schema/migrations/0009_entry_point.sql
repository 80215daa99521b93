-- The switch for programs in other languages (R1), and courtesy copies of the audit for the platform's own tables.

-- Copy an operation that changed something into the platform's own logs, where they exist and allow it. It never fails
-- the operation: each copy has an exception block, "others" does not catch a timeout or an assertion, and no lock is
-- waited for longer than 200 ms. Constraints are immediate by now, so deferred triggers speak inside the block. A
-- trigger there that moves the pair after it was read back loses its copy. Returns what became of each: written,
-- absent (no such table), unneeded, or the SQLSTATE that refused it.
create function mpesa_sync.courtesy_copy_v1(
  p_bar uuid, p_operation uuid, p_actor text, p_person uuid, p_act text, p_environment text, p_before jsonb,
  p_after jsonb
)
returns jsonb language plpgsql volatile as $$
declare
  v_lock_timeout text := current_setting('lock_timeout');
  v_status text;
  v_audit text := 'absent';
  v_events text := 'absent';
  v_saved text := p_after -> 'saved' ->> 'environment';
  v_user uuid;
  v_details jsonb := jsonb_build_object('operation_id', p_operation, 'actor', p_actor, 'environment', p_environment,
                                        'before', p_before, 'after', p_after);
begin
  if p_act is null or p_before is not distinct from p_after then
    return '{"audit_logs": "unneeded", "mpesa_credential_events": "unneeded"}';
  end if;
  perform set_config('lock_timeout', '200ms', true);
  v_status := (select r::text from mpesa_sync.read_status_v1(p_bar) r);
  if to_regclass('public.audit_logs') is not null then
    begin
      v_user := mpesa_sync.platform_user_v1(p_person);
      insert into public.audit_logs (bar_id, staff_id, action, details) values (p_bar, v_user, p_act, v_details);
      perform mpesa_sync.require_status_v1(p_bar, v_status);
      v_audit := 'written';
    exception when query_canceled or assert_failure or others then
      v_audit := sqlstate;
    end;
  end if;
  if v_audit = '57014' then
    v_events := v_audit; -- the statement's time is up, and nothing would end a second wait
  elsif to_regclass('public.mpesa_credential_events') is not null then
    begin
      v_user := mpesa_sync.platform_user_v1(p_person);
      insert into public.mpesa_credential_events (credential_id, tenant_id, event_type, event_data, user_id)
      select c.id, c.tenant_id,
             case when v_saved is not null
                   and (to_jsonb(c) ->> 'created_at')::timestamptz = transaction_timestamp() then 'created'
                  else 'updated' end,
             v_details || jsonb_build_object('action', p_act), v_user
        from public.mpesa_credentials c
       where c.tenant_id = p_bar
         and case when v_saved is not null then c.environment = v_saved
                  else p_before -> 'credentials' -> c.environment::text
                       is distinct from p_after -> 'credentials' -> c.environment::text end;
      v_events := case when found then 'written' else 'unneeded' end;
      perform mpesa_sync.require_status_v1(p_bar, v_status);
    exception when query_canceled or assert_failure or others then
      v_events := sqlstate;
    end;
  end if;
  perform set_config('lock_timeout', v_lock_timeout, true);
  return jsonb_build_object('audit_logs', v_audit, 'mpesa_credential_events', v_events);
end $$;

-- Who the platform knows by this id; null for a local account, whose id is ours.
create function mpesa_sync.platform_user_v1(p_person uuid) returns uuid language plpgsql stable as $$
begin
  if p_person is null or exists (select 1 from mpesa_sync.accounts a where a.id = p_person) then
    return null;
  end if;
  return p_person;
end $$;

-- Refuse to go on where both fields of a bar are not what they were when they were read back.
create function mpesa_sync.require_status_v1(p_bar uuid, p_status text) returns void language plpgsql volatile as $$
begin
  if (select r::text from mpesa_sync.read_status_v1(p_bar) r) is distinct from p_status then
    raise exception 'What was read back has changed.' using errcode = 'MS008';
  end if;
end $$;

-- Store what an operation found, left and answers, and copy it where the platform keeps such things. p_act: which of
-- the audit acts it is, null for none of them. Returns what courtesy_copy_v1 does.
create function mpesa_sync.finish_operation_v1(p_id uuid, p_before jsonb, p_after jsonb, p_result jsonb, p_act text)
returns jsonb language plpgsql volatile as $$
declare
  v_operation record;
begin
  update mpesa_sync.operations o set before = p_before, after = p_after, result = p_result
   where o.id = p_id
  returning o.bar_id, o.actor, o.person_id into v_operation;
  return mpesa_sync.courtesy_copy_v1(v_operation.bar_id, p_id, v_operation.actor, v_operation.person_id, p_act,
                                     p_result ->> 'environment', p_before, p_after);
end $$;

-- A text of one line without the white space around it, as domain/inputs.py wants it; null where it is refused: empty,
-- longer than 200 characters, or with control, bidi or invisible characters in it.
create function mpesa_sync.line_of_text_v1(p_text text) returns text language plpgsql immutable as $$
declare
  v_text text := regexp_replace(p_text,
    '^[\t\n\r \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+|[\t\n\r \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+$',
    '', 'g');
begin
  if char_length(v_text) not between 1 and 200 or v_text ~ (
    '[\u0001-\u001f\u007f-\u009f\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5'
    '\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000110bd\U000110cd'
    '\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]') then
    return null;
  end if;
  return v_text;
end $$;

-- What one stored secret is worth, as far as that can be told without a key: missing, unreadable, malformed, or usable
-- for all that is known. The forms are those of crypto/forms.py. p_text: the column as lock_bar_v1 hands it out.
create function mpesa_sync.secret_state_v1(p_text text) returns text language plpgsql immutable as $$
declare
  v_stored bytea;
  v_text text;
  v_json jsonb;
begin
  if coalesce(p_text, '') in ('', '\x') then
    return 'missing';
  end if;
  begin
    v_stored := case when p_text ~ '^\\x([0-9a-fA-F]{2})+$' then decode(substr(p_text, 3), 'hex')
                     else convert_to(p_text, 'UTF8') end;
    v_text := convert_from(v_stored, 'UTF8');
  exception when others then
    v_text := null;
  end;
  if v_text is null or v_text ~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]' then
    return case when length(v_stored) < 28 then 'unreadable' else 'usable' end; -- form 1
  end if;
  v_text := regexp_replace(v_text, '^\s+|\s+$', '', 'g');
  if v_text ~ '^\\x' then -- form 3
    return case when v_text !~ '^\\x[0-9a-fA-F]*$' then 'malformed'
                when length(v_text) % 2 = 1 or length(v_text) < 2 + 2 * 28 then 'unreadable' else 'usable' end;
  elsif v_text ~ '^\{' then -- form 2
    begin
      v_json := v_text::jsonb;
    exception when others then
      return 'malformed';
    end;
    if v_json ->> 'type' is distinct from 'Buffer' then
      return 'unreadable';
    elsif jsonb_typeof(v_json -> 'data') is distinct from 'array' or exists (
      select 1 from jsonb_array_elements(v_json -> 'data') n where n::text !~ '^(\d|[1-9]\d|1\d\d|2[0-4]\d|25[0-5])$')
    then
      return 'malformed';
    end if;
    return case when jsonb_array_length(v_json -> 'data') < 28 then 'unreadable' else 'usable' end;
  end if;
  return case when v_text ~ '^\u2022*$' then 'malformed' else 'unreadable' end; -- blank, the mask; forms 4 and 5
end $$;

-- The environment that a switch-on makes the active one, as domain/environments.py chooses where none is named: the
-- only row present, else the only row active, else the one last seen active. Raises where none of them says which.
create function mpesa_sync.choose_environment_v1(p_flags jsonb, p_last text) returns text
language plpgsql immutable as $$
declare
  v_present text[] := array(select jsonb_object_keys(p_flags));
  v_active text[] := array(select f.key from jsonb_each(p_flags) f where f.value = 'true');
begin
  if cardinality(v_present) = 0 then
    raise exception 'There are no M-Pesa credentials.'
      using errcode = 'MS004', hint = 'Save them first, then switch on.';
  elsif cardinality(v_present) = 1 then
    return v_present[1];
  elsif cardinality(v_active) = 1 then
    return v_active[1];
  elsif p_last = any(v_present) then
    return p_last;
  end if;
  raise exception 'Credentials exist for sandbox and production, and nothing says which is to be active.'
    using errcode = 'MS006', hint = 'Switch on once with mpesa-sync or on the staff page, where one can be named.';
end $$;

-- Refuse a switch-on that could not serve, as far as stored facts tell. p_secrets: the texts of consumer_key,
-- consumer_secret and passkey as stored.
create function mpesa_sync.require_switchable_v1(p_environment text, p_secrets jsonb)
returns void language plpgsql stable as $$
declare
  v_missing text;
  v_unusable text;
begin
  if p_environment = 'sandbox' and not exists (select 1 from mpesa_sync.installation i where i.mode = 'greenfield') then
    raise exception 'Sandbox credentials may not serve customers here.'
      using errcode = 'MS007', hint = 'Save production credentials, then switch on.';
  end if;
  select string_agg(s.key, ', ' order by s.key) filter (where s.state = 'missing'),
         string_agg(s.key, ', ' order by s.key) filter (where s.state in ('unreadable', 'malformed'))
    into v_missing, v_unusable
    from (select e.key, mpesa_sync.secret_state_v1(e.value) as state from jsonb_each_text(p_secrets) e) s;
  if v_missing is not null then
    raise exception 'The % credentials lack %.', p_environment, v_missing
      using errcode = 'MS004', hint = 'Save them first, then switch on.';
  elsif v_unusable is not null then
    raise exception 'The stored % secrets cannot serve (%).', p_environment, v_unusable
      using errcode = 'MS005', hint = 'Save them again, then switch on.';
  end if;
end $$;

-- write_status_v1, with a refusal by a constraint said without its DETAIL: PostgreSQL puts the whole row there.
create function mpesa_sync.write_status_or_refuse_v1(p_bar uuid, p_environment text)
returns table (credentials_changed bigint, bar_changed bigint, active_environments text[], mpesa_enabled boolean)
language plpgsql volatile as $$
declare
  v_message text; v_constraint text; v_table text; v_schema text;
begin
  return query select w.* from mpesa_sync.write_status_v1(p_bar, p_environment) w;
exception when integrity_constraint_violation then
  get stacked diagnostics v_message = message_text, v_constraint = constraint_name, v_table = table_name,
                          v_schema = schema_name;
  raise exception using errcode = sqlstate, message = v_message, constraint = v_constraint, table = v_table,
                        schema = v_schema, hint = 'Meet this rule of the platform or change it, then switch again.';
end $$;

-- Switch a bar's M-Pesa on or off for both applications, inside the caller's transaction: the locks, the write, the
-- read-back, the audit and the notice of `MpesaSyncManager.sync_mpesa_status`. With the rights of whoever calls it.
-- Errors: docs/how-to/sql-entry-point.md. Only the caller commits.
create function mpesa_sync.set_mpesa_status_v1(bar uuid, active boolean, actor text)
returns table (operation_id uuid, changed boolean, environment text)
language plpgsql volatile set row_security = off as $$
#variable_conflict use_variable
declare
  v_started timestamptz := clock_timestamp();
  v_lock_timeout text := current_setting('lock_timeout');
  v_actor text := mpesa_sync.line_of_text_v1(actor);
  v_row record;
  v_bar record;
  v_written record;
  v_flags jsonb := '{}';
  v_secrets jsonb := '{}';
  v_before jsonb; v_after jsonb;
  v_copies jsonb;
begin
  if v_actor ~* '^(staff|operator|user|cli|operation|migration|channel):' then
    raise exception 'actor must not begin like the name of somebody whom mpesa-sync has signed in.'
      using errcode = 'MS001', hint = 'For example: till:asha';
  elsif bar is null or active is null or v_actor is null then
    raise exception 'bar, active and actor must be given; actor is one line of 1 to 200 visible characters.'
      using errcode = 'MS001', hint = 'For example: mpesa_sync.set_mpesa_status_v1($1, true, ''asha@example.com'')';
  elsif current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'The transaction is %; it must be read committed.', current_setting('transaction_isolation')
      using errcode = 'MS002', hint = 'Begin it with BEGIN ISOLATION LEVEL READ COMMITTED.';
  end if;
  if v_lock_timeout = '0' then
    perform set_config('lock_timeout', '1500ms', true);
  end if;
  for v_row in select * from mpesa_sync.lock_bar_v1(bar, active) loop
    v_bar := v_row;
    if v_row.credentials_id is not null then
      v_flags := v_flags || jsonb_build_object(v_row.environment, v_row.is_active);
      v_secrets := v_secrets || jsonb_build_object(v_row.environment, jsonb_build_object(
        'consumer_key', coalesce(v_row.consumer_key, ''), 'consumer_secret', coalesce(v_row.consumer_secret, ''),
        'passkey', coalesce(v_row.passkey, '')));
    end if;
  end loop;
  if not found then
    raise exception 'There is no bar with this id.' using errcode = 'MS003', hint = 'Look the bar up in public.bars.';
  end if;
  if active then
    environment := mpesa_sync.choose_environment_v1(v_flags, v_bar.last_environment);
    perform mpesa_sync.require_switchable_v1(environment, v_secrets -> environment);
  end if;
  select * into v_written from mpesa_sync.write_status_or_refuse_v1(bar, environment);
  if v_written.active_environments is distinct from array_remove(array[environment], null)
     or v_written.mpesa_enabled is distinct from active then
    raise exception 'What was read back is not what was written: a trigger or rule of the database changes it.'
      using errcode = 'MS008', hint = 'Find it on bars and mpesa_credentials, then switch again.';
  end if;
  operation_id := gen_random_uuid();
  changed := v_written.credentials_changed + v_written.bar_changed > 0;
  if v_bar.has_open_alerts then
    update mpesa_sync.alerts a
       set state = 'resolved', resolved_at = now(), resolved_by = 'operation:' || operation_id
     where a.id in (select e.id from mpesa_sync.alerts e
                     where e.bar_id = bar and e.state <> 'resolved'
                       and e.kind in ('sync_failed', 'database_refused', 'outcome_unknown') for update skip locked);
  end if;
  v_before := jsonb_build_object('credentials', v_flags, 'mpesa_enabled', v_bar.mpesa_enabled);
  v_after := jsonb_build_object(
    'credentials', (select coalesce(jsonb_object_agg(k, coalesce(k = environment, false)), '{}')
                      from jsonb_object_keys(v_flags) k),
    'mpesa_enabled', v_written.mpesa_enabled);
  insert into mpesa_sync.operations (id, kind, bar_id, actor, request, before, after, result, started_at,
                                     source_address, client)
  values (operation_id, 'switch', bar, v_actor, jsonb_build_object('is_active', active, 'environment', null),
          v_before, v_after,
          jsonb_build_object('success', true, 'credentials_updated', true, 'bar_status_updated', true,
                             'changed', changed, 'operation_id', operation_id, 'environment', environment,
                             'attempts', 0, 'error', null),
          v_started, coalesce(host(inet_client_addr()), ''), left(current_setting('application_name'), 200));
  v_copies := mpesa_sync.courtesy_copy_v1(
    bar, operation_id, v_actor, null, case when active then 'mpesa:switched_on' else 'mpesa:switched_off' end,
    environment, v_before, v_after);
  for v_row in select e.key, e.value from jsonb_each_text(v_copies) e
                where e.value not in ('written', 'absent', 'unneeded') loop
    raise notice 'public.% keeps no copy of this switch (SQLSTATE %).', v_row.key, v_row.value;
  end loop;
  if v_lock_timeout = '0' then
    perform set_config('lock_timeout', '0', true);
  end if;
  return next;
end $$;
