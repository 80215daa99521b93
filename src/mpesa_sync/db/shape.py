"""The platform's tables as they really are: what is there, missing, or of an odd type. By name, never by version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mpesa_sync.db.pool import Database
from mpesa_sync.errors import MpesaSyncError, SchemaError

_TEXT: Final = ("text", "character varying")
_SEALED: Final = ("bytea", *_TEXT)
_FLAGS: Final = ("active", "payment_cash_enabled", "payment_card_enabled", "payment_mpesa_enabled")

REQUIRED: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "bars": {"id": ("uuid",), "name": _TEXT, "mpesa_enabled": ("boolean",)},
    "mpesa_credentials": {
        "id": ("uuid",),
        "tenant_id": ("uuid",),
        "environment": _TEXT,
        "business_shortcode": _TEXT,
        "consumer_key_enc": _SEALED,
        "consumer_secret_enc": _SEALED,
        "passkey_enc": _SEALED,
        "is_active": ("boolean",),
    },
}
"""What must be there, with the types that this program understands (existing-platform.md)."""

OPTIONAL: Final[Mapping[str, tuple[str, ...]]] = {
    "bars": (
        "slug",
        "active",
        "updated_at",
        "payment_cash_enabled",
        "payment_card_enabled",
        "payment_mpesa_enabled",
        "mpesa_environment",
        "mpesa_consumer_key_encrypted",
        "mpesa_consumer_secret_encrypted",
        "mpesa_passkey_encrypted",
    ),
    "mpesa_credentials": ("callback_url", "timeout_url"),
}
"""What some shapes have, and this program reads where it is there."""

OPTIONAL_TABLES: Final = ("mpesa_credential_events", "audit_logs", "user_bars")

_COLUMNS: Final = """
select c.relname::text as table_name, a.attname::text as column_name, format_type(a.atttypid, null) as type
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public'
  join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
 where c.relkind in ('r', 'p') and c.relname = any($1::text[])
"""


@dataclass(frozen=True, slots=True)
class Shape:
    """The platform's tables as found: table → column → type."""

    tables: Mapping[str, Mapping[str, str]]

    def missing(self) -> list[str]:
        """Return what must be there and is not: `bars`, or `bars.mpesa_enabled`."""
        found = []
        for table, columns in REQUIRED.items():
            have = self.tables.get(table)
            if have is None:
                found.append(table)
            else:
                found.extend(f"{table}.{column}" for column in columns if column not in have)
        return found

    def odd(self) -> list[str]:
        """Return columns of a type that this program does not understand, with that type."""
        understood = {table: dict(columns) for table, columns in REQUIRED.items()}
        understood["bars"] |= dict.fromkeys(_FLAGS, ("boolean",))
        return [
            f"{table}.{column} is {have[column]}, not {' or '.join(types)}"
            for table, columns in understood.items()
            if (have := self.tables.get(table)) is not None
            for column, types in columns.items()
            if column in have and have[column].partition("(")[0] not in types
        ]

    def faults(self) -> list[str]:
        """Return what is missing or odd, in words, each with what the platform has there."""
        return [f"{name} is missing (the platform's {_looks(name)})" for name in self.missing()] + self.odd()

    def optional(self) -> dict[str, bool]:
        """Return every optional table and column, and whether it is there."""
        found = {table: table in self.tables for table in OPTIONAL_TABLES}
        for table, columns in OPTIONAL.items():
            have = self.tables.get(table, {})
            found |= {f"{table}.{column}": column in have for column in columns}
        return found

    def has(self, table: str) -> bool:
        """Return whether `public` has this table."""
        return table in self.tables

    @property
    def has_legacy_flag(self) -> bool:
        """Return whether this shape still has `bars.payment_mpesa_enabled`."""
        return "payment_mpesa_enabled" in self.tables.get("bars", {})


def _looks(name: str) -> str:
    """Return what a table or column of the platform is like: `is boolean`, `has id uuid, tenant_id uuid`."""
    table, _, column = name.partition(".")
    columns = REQUIRED[table]
    if column:
        return f"is {' or '.join(columns[column])}"
    return f"has {', '.join(f'{one} {types[0]}' for one, types in columns.items())}"


async def inspect(connection: Any) -> Shape:
    """Return the shape of the platform's tables; reads only."""
    names = [*REQUIRED, *OPTIONAL_TABLES]
    tables: dict[str, dict[str, str]] = {}
    for record in await connection.fetch(_COLUMNS, names):
        tables.setdefault(record["table_name"], {})[record["column_name"]] = record["type"]
    return Shape(tables)


async def require(connection: Any) -> Shape:
    """Return the shape, once it is known to serve.

    Raises:
        SchemaError: names every table and column that is missing or odd.
    """
    shape = await inspect(connection)
    if faults := shape.faults():
        raise SchemaError(
            "This database does not look like the platform's: "
            + "; ".join(faults)
            + ". 'mpesa-sync db status' shows all of it; a database of your own is made by "
            "'mpesa-sync db init --create-platform-tables'."
        )
    return shape


async def named(database: Database, error: MpesaSyncError) -> MpesaSyncError:
    """Return `error`, or, where it says that something is missing, one that says by name what."""
    if not isinstance(error, SchemaError):
        return error
    try:
        async with database.reading() as connection:
            await require(connection)
    except SchemaError as telling:
        telling.attempts, telling.sqlstate = error.attempts, error.sqlstate
        return telling
    except MpesaSyncError:
        return error
    return error
