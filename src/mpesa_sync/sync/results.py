"""What the three methods of `MpesaSyncManager` return (R1)."""

from __future__ import annotations

from uuid import UUID

import msgspec


class SyncResult(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `sync_mpesa_status`.

    `credentials_updated` and `bar_status_updated` mean "stored as asked, and read back", true on a no-op too;
    `changed` says whether anything was written. `environment` is the one that is active now, None when off.
    `attempts` counts transactions that were begun for this call. `error` is None or a text safe to show.
    """

    success: bool
    credentials_updated: bool
    bar_status_updated: bool
    changed: bool
    operation_id: UUID
    environment: str | None = None
    attempts: int = 0
    error: str | None = None


class ValidationResult(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `validate_sync`: both fields, read in one statement. `direction` is hidden, exposed or None."""

    is_consistent: bool
    credentials_active: bool
    bar_mpesa_enabled: bool | None
    direction: str | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None


class RepairResult(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `repair_inconsistency`. `repaired` is False where the bar was consistent already."""

    success: bool
    repaired: bool
    operation_id: UUID
    previous_bar_status: bool | None = None
    new_bar_status: bool | None = None
    error: str | None = None
