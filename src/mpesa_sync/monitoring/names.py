"""Every log event and every metric by name, so that what is watched has one spelling."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """Log events. One per attempt, one per operation, those of a migration run and of the live feed."""

    SYNC_ATTEMPT_FAILED = "sync.attempt_failed"
    SYNC_OPERATION = "sync.operation"
    SYNC_REFUSED = "sync.refused"
    ALERT_RAISED = "alert.raised"
    ALERT_NOT_STORED = "alert.not_stored"
    SIGN_IN_REFUSED = "identity.sign_in_refused"
    REQUEST_FAILED = "web.request_failed"
    SCHEMA_MIGRATED = "schema.migrated"
    MIGRATION_STARTED = "migration.started"
    MIGRATION_QUARANTINED = "migration.quarantined"
    MIGRATION_FINISHED = "migration.finished"
    FEED_LIVE = "feed.live"
    FEED_LOST = "feed.lost"
    FEED_STALE = "feed.stale"
    FEED_MODE = "feed.mode"
    FEED_TASK_FAILED = "feed.task_failed"
    FEED_VERSION_WENT_BACK = "feed.version_went_back"
    FEED_BUMP_FAILED = "feed.bump_failed"
    STREAM_SLOW = "stream.slow"
    STREAMS_DRAINED = "stream.drained"


class Metric(StrEnum):
    """Prometheus metrics; labels are few and bounded (no bar ids)."""

    OPERATIONS = "mpesa_sync_operations"
    ATTEMPTS = "mpesa_sync_attempts"
    OPERATION_SECONDS = "mpesa_sync_operation_seconds"
    ALERTS = "mpesa_sync_alerts_raised"
    MIGRATION_RECORDS = "mpesa_sync_migration_records"
    FEED_NOTICES = "mpesa_sync_feed_notices"
    FEED_MISSED = "mpesa_sync_feed_missed_notices"
    FEED_CONNECTS = "mpesa_sync_feed_connects"
    FEED_LIVE = "mpesa_sync_feed_live"
    FEED_READS = "mpesa_sync_feed_reads"
    FEED_BUMPS = "mpesa_sync_feed_bumps"
    STREAMS = "mpesa_sync_streams"
    STREAM_FRAMES = "mpesa_sync_stream_frames"
    STREAMS_CLOSED = "mpesa_sync_streams_closed"
    STREAMS_REFUSED = "mpesa_sync_streams_refused"
