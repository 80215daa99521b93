"""Which tables are written, asked of the database itself: a trigger on every table notes each statement's kind."""

from __future__ import annotations

from typing import Any, Final

_NOTE: Final = """
create table public.touched (op text, name text);
create function public.touch() returns trigger language plpgsql as $$
begin insert into public.touched values (lower(tg_op), tg_table_schema || '.' || tg_table_name); return null; end $$;
do $$ declare v record; begin
  for v in select schemaname, tablename from pg_tables
            where schemaname in ('public', 'mpesa_sync') and tablename <> 'touched'
  loop
    execute format('create trigger zz_touch after insert or update or delete on %I.%I for each row '
                   'execute function public.touch()', v.schemaname, v.tablename);
  end loop;
end $$;
"""


async def note(sql: Any) -> None:
    """Begin to note, in every table of `public` and `mpesa_sync`."""
    await sql.execute(_NOTE)


async def forget(sql: Any) -> None:
    """Forget what was noted until now."""
    await sql.execute("delete from public.touched")


async def noted(sql: Any) -> set[tuple[str, str]]:
    """Return what was committed since: `insert`, `update` or `delete`, and the table."""
    return {tuple(record) for record in await sql.fetch("select op, name from public.touched")}
