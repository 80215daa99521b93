"""Occurrences of alerts as tests raise them, and what became of them as another program reads it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync.db.alerts import Occurrence
from mpesa_sync.sync.alert_kinds import AlertKind

NOON: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
_ALL: Final = "select state, count, episode, resolved_by, acknowledged_by from mpesa_sync.alerts order by episode"


def occurrence(bar: UUID | None, kind: str = AlertKind.SYNC_FAILED, **more: Any) -> Occurrence:
    """One failure of a bar, at noon."""
    plain = Occurrence(uuid4(), bar, kind, "database_busy", "40001", "Look at it.", uuid4(), NOON, NOON)
    return replace(plain, **more)


async def rows(sql: Any) -> list[tuple[Any, ...]]:
    """Every alert, as another program reads it."""
    return [tuple(row) for row in await sql.fetch(_ALL)]
