"""The counters and histograms themselves; their names stand in `names`."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from mpesa_sync.monitoring.names import Metric

operations = Counter(Metric.OPERATIONS, "Operations by kind and outcome.", labelnames=("kind", "outcome"))
attempts = Counter(Metric.ATTEMPTS, "Attempts of operations by kind and result.", labelnames=("kind", "result"))
operation_seconds = Histogram(
    Metric.OPERATION_SECONDS,
    "Seconds from the call to its known outcome, retries included.",
    labelnames=("kind",),
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
)
alerts = Counter(Metric.ALERTS, "Alerts raised by kind, stored or not.", labelnames=("kind",))
migration_records = Counter(Metric.MIGRATION_RECORDS, "Records a migration settled, by result.", labelnames=("result",))
