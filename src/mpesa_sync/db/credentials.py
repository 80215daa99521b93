"""SQL of `public.mpesa_credentials`, read only: the three secrets of a bar as they are stored, still sealed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from mpesa_sync.domain.credentials import Environment

STORED_SECRETS: Final = """
select c.environment::text as environment, c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc
  from public.mpesa_credentials c where c.tenant_id = $1 and c.environment in ('sandbox', 'production')
"""

StoredSecrets = tuple[bytes | None, bytes | None, bytes | None]
"""Consumer key, consumer secret and passkey, in the order of `SECRET_FIELDS`."""


async def stored_secrets_of(connection: Any, bar_id: UUID) -> Mapping[Environment, StoredSecrets]:
    """Return what is stored for each environment that has a row, byte for byte, without locks."""
    found: dict[Environment, StoredSecrets] = {}
    for record in await connection.fetch(STORED_SECRETS, bar_id):
        key, secret, passkey = record["consumer_key_enc"], record["consumer_secret_enc"], record["passkey_enc"]
        found[Environment(record["environment"])] = (as_bytes(key), as_bytes(secret), as_bytes(passkey))
    return found


def as_bytes(stored: bytes | str | None) -> bytes | None:
    """Return the bytes of a column that is a bytea in one shape and a text in another."""
    return stored.encode("utf-8", "surrogatepass") if isinstance(stored, str) else stored
