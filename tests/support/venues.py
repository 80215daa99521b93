"""Bars in any state, written with plain SQL, and secrets made anew in every test run."""

from __future__ import annotations

import secrets
from typing import Any, Final, Literal
from uuid import UUID, uuid4

from mpesa_sync.crypto.cipher import seal
from mpesa_sync.crypto.keyring import KeyRing, generate_key
from mpesa_sync.secret import Secret

KEY: Final = generate_key()
KEYS: Final = KeyRing.from_texts([KEY])
SECRETS: Final = tuple(Secret(secrets.token_urlsafe(24)) for _ in range(3))
SEALED: Final = tuple(seal(KEYS, secret) for secret in SECRETS)

Flag = bool | None
Row = bool | Literal["absent"] | None
"""`is_active` of a credentials row: true, false, NULL (None), or no such row."""

_BAR: Final = "insert into public.bars (id, name, slug, mpesa_enabled, active) values ($1, $2, $3, $4, $5)"
_CREDENTIALS: Final = """
insert into public.mpesa_credentials
  (tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, '600123', $3, $4, $5, $6)
"""


async def add_bar(
    connection: Any,
    *,
    mpesa_enabled: Flag = False,
    sandbox: Row = "absent",
    production: Row = "absent",
    active: Flag = True,
    sealed: tuple[bytes, bytes, bytes] = (SEALED[0], SEALED[1], SEALED[2]),
    bar_id: UUID | None = None,
) -> UUID:
    """Insert one bar, and a credentials row for each environment that is not `absent`; return its id."""
    bar_id = bar_id or uuid4()
    await connection.execute(_BAR, bar_id, f"Bar {bar_id.hex[:6]}", bar_id.hex, mpesa_enabled, active)
    for environment, is_active in (("sandbox", sandbox), ("production", production)):
        if is_active != "absent":
            await connection.execute(_CREDENTIALS, bar_id, environment, *sealed, is_active)
    return bar_id
