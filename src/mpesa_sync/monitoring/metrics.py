"""The counters, gauges and histograms themselves; their names stand in `names`."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
alerts_spooled = Counter(Metric.ALERTS_SPOOLED, "Alerts written to the spool because the database could not take them.")
alert_deliveries = Counter(
    Metric.ALERT_DELIVERIES, "Messages about alerts sent over a channel, by result.", labelnames=("result",)
)
alert_delivery_seconds = Histogram(
    Metric.ALERT_DELIVERY_SECONDS,
    "Seconds that a channel took for a message.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0),
)
migration_records = Counter(Metric.MIGRATION_RECORDS, "Records a migration settled, by result.", labelnames=("result",))

reconciler_drift = Counter(
    Metric.RECONCILER_DRIFT,
    "Bars that the reconciler found drifted, also at its second look.",
    labelnames=("direction",),
)
reconciler_repairs = Counter(
    Metric.RECONCILER_REPAIRS,
    "What became of bars that the reconciler found drifted, by result.",
    labelnames=("result",),
)

feed_notices = Counter(Metric.FEED_NOTICES, "Notices heard.")
feed_missed = Counter(Metric.FEED_MISSED, "Changes that the probe found and no notice had told.")
feed_connects = Counter(Metric.FEED_CONNECTS, "Times the listener connected, by result.", labelnames=("result",))
feed_live = Gauge(Metric.FEED_LIVE, "1 while the feed is proven live, else 0.", multiprocess_mode="livemin")
feed_reads = Counter(Metric.FEED_READS, "Reads of what bars offer, by result.", labelnames=("result",))
feed_bumps = Counter(
    Metric.FEED_BUMPS, "Versions moved for a writer that moved none, by result.", labelnames=("result",)
)
streams = Gauge(Metric.STREAMS, "Open streams.", multiprocess_mode="livesum")
stream_frames = Counter(Metric.STREAM_FRAMES, "Frames written to streams.")
streams_closed = Counter(Metric.STREAMS_CLOSED, "Streams ended, by cause.", labelnames=("cause",))
streams_refused = Counter(Metric.STREAMS_REFUSED, "Streams refused, by cause.", labelnames=("cause",))
