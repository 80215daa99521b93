"""Every log event and every metric by name, so that what is watched has one spelling."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """Log events. One per attempt, one per operation, and those of a migration run."""

    SYNC_ATTEMPT_FAILED = "sync.attempt_failed"
    SYNC_OPERATION = "sync.operation"
    SYNC_REFUSED = "sync.refused"
    ALERT_RAISED = "alert.raised"
    ALERT_NOT_STORED = "alert.not_stored"
    SCHEMA_MIGRATED = "schema.migrated"
    MIGRATION_STARTED = "migration.started"
    MIGRATION_QUARANTINED = "migration.quarantined"
    MIGRATION_FINISHED = "migration.finished"


class Metric(StrEnum):
    """Prometheus metrics; labels are few and bounded (no bar ids)."""

    OPERATIONS = "mpesa_sync_operations"
    ATTEMPTS = "mpesa_sync_attempts"
    OPERATION_SECONDS = "mpesa_sync_operation_seconds"
    ALERTS = "mpesa_sync_alerts_raised"
    MIGRATION_RECORDS = "mpesa_sync_migration_records"
