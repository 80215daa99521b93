"""What is committed of every bar, read in one statement: both fields, secrets, alerts, audit and journal."""

from __future__ import annotations

import json
from typing import Any, Final, cast
from uuid import UUID

from mpesa_sync.crypto.cipher import open_stored
from tests.support.e2e_model import ENVIRONMENTS, Seen
from tests.support.venues import KEYS, SECRETS, Row

_SEE: Final = """
select b.id, b.mpesa_enabled,
       (select json_object_agg(c.environment, json_build_array(
                 c.is_active, encode(c.passkey_enc, 'hex'),
                 md5(concat_ws('|', c.business_shortcode, c.consumer_key_enc, c.consumer_secret_enc, c.passkey_enc))))
          from public.mpesa_credentials c where c.tenant_id = b.id)::text as rows,
       (select json_object_agg(a.kind, a.count)
          from mpesa_sync.alerts a where a.bar_id = b.id and a.state <> 'resolved')::text as alerts,
       (select count(*) from mpesa_sync.alerts a where a.bar_id = b.id) as episodes,
       (select json_object_agg(k.what, k.entries)
          from (select case when o.outcome = 'failed' then 'buried' when o.actor = 'reconciler' then 'swept'
                            else o.kind end as what, count(*) as entries
                  from mpesa_sync.operations o where o.bar_id = b.id group by 1) k)::text as audit,
       (select count(*) from mpesa_sync.migration_journal j where j.bar_id = b.id) as journal
  from public.bars b
"""
_KINDS: Final = {
    "settings": "settings",
    "switch": "switches",
    "repair": "repairs",
    "swept": "swept",
    "buried": "buried",
}


class Eyes:
    """One connection that looks, as another program does.

    `stored`: of each bar and environment, a digest of the bytes of its credentials.
    """

    def __init__(self, sql: Any) -> None:
        self.sql = sql
        self.stored: dict[tuple[UUID, str], str] = {}
        self._opened: dict[str, str] = {}

    async def all(self) -> dict[UUID, Seen]:
        """Return what is committed of every bar."""
        self.stored = {}
        return {record["id"]: self._seen(record) for record in await self.sql.fetch(_SEE)}

    def _seen(self, record: Any) -> Seen:
        rows, audit = json.loads(record["rows"] or "{}"), json.loads(record["audit"] or "{}")
        self.stored |= {(record["id"], name): row[2] for name, row in rows.items()}
        sandbox, production = (cast(Row, rows[name][0] if name in rows else "absent") for name in ENVIRONMENTS)
        first, second = (self._open(rows[name][1]) if name in rows else "" for name in ENVIRONMENTS)
        return Seen(
            enabled=record["mpesa_enabled"],
            sandbox=sandbox,
            production=production,
            passkeys=(first, second),
            alerts=tuple(sorted(json.loads(record["alerts"] or "{}").items())),
            episodes=record["episodes"],
            journal=record["journal"],
            **{_KINDS[kind]: count for kind, count in audit.items()},
        )

    def _open(self, stored: str) -> str:
        if stored not in self._opened:
            found = open_stored(KEYS, bytes.fromhex(stored)).secret.reveal()
            self._opened[stored] = "" if found == SECRETS[2].reveal() else found
        return self._opened[stored]
