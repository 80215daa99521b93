"""What the writer has locked, written and settled, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mpesa_sync.domain.bars import BarFacts, CredentialsRow
from mpesa_sync.domain.credentials import Environment


@dataclass(frozen=True, slots=True)
class LockedRow:
    """A locked credentials row. The secrets as stored, None unless they were asked for."""

    row: CredentialsRow
    stored_secrets: tuple[bytes | None, bytes | None, bytes | None]


@dataclass(frozen=True, slots=True)
class LockedBar:
    """A bar whose credentials and own row are locked by this transaction, read after the locks were taken."""

    facts: BarFacts
    rows: tuple[LockedRow, ...]
    last_environment: Environment | None
    has_open_alerts: bool = False

    def state(self) -> dict[str, Any]:
        """Return both fields as the audit keeps them."""
        return {
            "credentials": {row.environment.value: row.is_active for row in self.facts.rows},
            "mpesa_enabled": self.facts.mpesa_enabled,
        }


@dataclass(frozen=True, slots=True)
class Written:
    """What was changed, and both fields as read back from the database."""

    credentials_changed: bool
    bar_changed: bool
    active: tuple[str, ...]
    mpesa_enabled: bool | None


class Settled(StrEnum):
    """What became of one candidate of a batch."""

    FIXED = "fixed"
    ALREADY_CONSISTENT = "already_consistent"
    STALE = "stale"
    VANISHED = "vanished"
    STALE_AUTHORITY = "stale_authority"
    SECRETS_DIFFER = "secrets_differ"
