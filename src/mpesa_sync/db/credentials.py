"""SQL of a bar's three secrets as they are stored, still sealed, in `mpesa_credentials` and in `bars`. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from mpesa_sync.domain.credentials import Environment

STORED_SECRETS: Final = """
select c.environment::text as environment, c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc
  from public.mpesa_credentials c where c.tenant_id = $1 and c.environment in ('sandbox', 'production')
"""
IN_BOTH_PLACES: Final = """
select b.id, o.consumer_key, o.consumer_secret, o.passkey, c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc
  from public.bars b
  join public.mpesa_credentials c on c.tenant_id = b.id and c.environment in ('sandbox', 'production')
 cross join (
   select null::text as mpesa_consumer_key_encrypted, null::text as mpesa_consumer_secret_encrypted,
          null::text as mpesa_passkey_encrypted
 ) absent
 cross join lateral (
   -- a column that this shape of bars lacks is found one level further out, in "absent"
   select nullif(btrim(mpesa_consumer_key_encrypted::text), '') as consumer_key,
          nullif(btrim(mpesa_consumer_secret_encrypted::text), '') as consumer_secret,
          nullif(btrim(mpesa_passkey_encrypted::text), '') as passkey
     from (select b.*) present
 ) o
 where b.id = any($1::uuid[]) and coalesce(o.consumer_key, o.consumer_secret, o.passkey) is not null
"""
"""Of bars that hold secrets in `bars` and in credentials rows: both, once for each row."""

StoredSecrets = tuple[bytes | None, bytes | None, bytes | None]
"""Consumer key, consumer secret and passkey, in the order of `SECRET_FIELDS`."""


async def stored_secrets_of(connection: Any, bar_id: UUID) -> Mapping[Environment, StoredSecrets]:
    """Return what is stored for each environment that has a row, byte for byte, without locks."""
    found: dict[Environment, StoredSecrets] = {}
    for record in await connection.fetch(STORED_SECRETS, bar_id):
        key, secret, passkey = record["consumer_key_enc"], record["consumer_secret_enc"], record["passkey_enc"]
        found[Environment(record["environment"])] = (as_bytes(key), as_bytes(secret), as_bytes(passkey))
    return found


async def in_both_places(
    connection: Any, bar_ids: Sequence[UUID]
) -> Mapping[UUID, tuple[StoredSecrets, list[StoredSecrets]]]:
    """Return the bars that hold secrets in `bars` and in credentials rows: those of `bars`, and of each row."""
    found: dict[UUID, tuple[StoredSecrets, list[StoredSecrets]]] = {}
    for bar_id, *stored in await connection.fetch(IN_BOTH_PLACES, bar_ids):
        key, secret, passkey, row_key, row_secret, row_passkey = map(as_bytes, stored)
        _, rows = found.setdefault(bar_id, ((key, secret, passkey), []))
        rows.append((row_key, row_secret, row_passkey))
    return found


def as_bytes(stored: bytes | str | None) -> bytes | None:
    """Return the bytes of a column that is a bytea in one shape and a text in another."""
    return stored.encode("utf-8", "surrogatepass") if isinstance(stored, str) else stored
