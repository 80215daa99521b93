"""Refusals of requests about alerts, forms and repeated requests: leaves of the tree that `errors` draws."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from mpesa_sync.errors import SyncRefused


class AlertNotFound(SyncRefused):
    """No alert has this id."""

    code = "alert_not_found"
    http_status = 404


class AlertClosed(SyncRefused):
    """The alert is resolved already; its text says by whom and when."""

    code = "alert_closed"
    http_status = 409


class StaleForm(SyncRefused):
    """What is stored is not what the caller had read (`If-Match`).

    `changed_by` is the actor of the change as the history names it, None for another program; `changed_at` when it
    was, None where nothing says so.
    """

    code = "stale_form"
    http_status = 409

    def __init__(self, *, changed_by: str | None, changed_at: datetime | None) -> None:
        super().__init__("These settings have been changed since they were read. Nothing was saved.")
        self.changed_by = changed_by
        self.changed_at = changed_at


class IdempotencyKeyReused(SyncRefused):
    """The key stands for a request with another body."""

    code = "idempotency_key_reused"
    http_status = 422


class IdempotencyKeyInFlight(SyncRefused):
    """The first request with this key has no answer yet: its change, `operation_id`, may be under way."""

    code = "idempotency_key_in_flight"
    http_status = 409
    retryable = True

    def __init__(self, message: str, *, operation_id: UUID) -> None:
        super().__init__(message)
        self.operation_id = operation_id


class RunUnderWay(SyncRefused):
    """Another process owns the migration: another run is under way, or this run is another process's (spec 6)."""

    code = "run_under_way"
    http_status = 409
    retryable = True

    def __init__(self, message: str, *, run_id: UUID) -> None:
        super().__init__(f"{message} 'mpesa-sync migrate status {run_id}' shows it.")
        self.run_id = run_id


class RunNotFound(SyncRefused):
    """No run of the migration has this id."""

    code = "run_not_found"
    http_status = 404


class RunRefused(SyncRefused):
    """The run is not in a state in which this can be asked of it; its text says what to do."""

    code = "run_refused"
    http_status = 409
