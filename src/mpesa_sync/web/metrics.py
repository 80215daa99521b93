"""/metrics: what this process counts and what the database holds, as Prometheus reads it. No ids, no secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from litestar import Request, Response, get
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from mpesa_sync.db import deliveries, gauges
from mpesa_sync.db.gauges import Gauges
from mpesa_sync.db.guards import GuardState
from mpesa_sync.db.pool import Database
from mpesa_sync.db.reconciler import State
from mpesa_sync.errors import MpesaSyncError
from mpesa_sync.live.state import FeedState
from mpesa_sync.monitoring import names
from mpesa_sync.secret import Secret
from mpesa_sync.sync import channel_urls, spool
from mpesa_sync.sync.alert_kinds import AlertKind
from mpesa_sync.web import context, metrics_shared

PATH: Final = "/metrics"
KEY: Final = "stored_gauges"
"""In the application's state: a `StoredGauges`."""
_READ_TIMEOUT_S: Final = 2.0
_KEEP_S: Final = 5.0
_ALERT_STATES: Final = ("firing", "acknowledged", "resolved")
_GUARD_STATES: Final = ("off", *(state.value for state in GuardState))
_GUARD_HITS: Final = ("carried", "healed", "logged")
_DELIVERY_STATES: Final = ("pending", "delivered", "failed")


class StoredGauges:
    """What the database holds, read in one transaction of at most 2 s and kept for 5 s, for however many scrapers.

    That it could not be read is kept as long, so that a dead database makes no scrape wait twice.

    Arguments:
        alert_urls: the operators' channels of the settings; none: other programs have some that are not known here.
    """

    def __init__(self, database: Database, alert_urls: Sequence[Secret] = ()) -> None:
        self._db = database
        self._alert_urls = alert_urls
        self._one_at_a_time = asyncio.Lock()
        self._last: tuple[float, Gauges | None] | None = None

    async def read(self) -> Gauges | None:
        """Return what the database holds, None where it cannot be had."""
        async with self._one_at_a_time:
            now = self._db.clock.monotonic()
            if self._last is None or now - self._last[0] >= _KEEP_S:
                found = await self._read()
                self._last = (self._db.clock.monotonic(), found)
            return self._last[1]

    async def _read(self) -> Gauges | None:
        try:
            async with asyncio.timeout(_READ_TIMEOUT_S), self._db.reading() as connection:
                salt = await deliveries.salt(connection) if self._alert_urls else b""
                return await gauges.read(connection, channels=list(channel_urls.named(self._alert_urls, salt)))
        except (TimeoutError, MpesaSyncError):
            return None


@dataclass(frozen=True, slots=True, eq=False)
class Scrape:
    """One answer's own gauges. `stored` None: the database could not be read, and what it holds is left out."""

    feed: FeedState
    connections: tuple[int, int, int]
    spooled: int | None
    is_spool_usable: bool
    stored: Gauges | None

    def collect(self) -> Iterable[Metric]:
        """Return the gauges, as a registry asks for them."""
        yield _gauge(
            names.Metric.DATABASE_UP,
            "1 where the database could be read for this scrape, or up to 5 s before it.",
            {(): 0 if self.stored is None else 1},
        )
        if not metrics_shared.IS_SHARED:
            yield from self._own()
        yield _gauge(
            names.Metric.SPOOL_FILES,
            "Alerts that wait in files of this machine for the database; absent where the folder cannot be read.",
            {} if self.spooled is None else {(): self.spooled},
        )
        yield _gauge(
            names.Metric.SPOOL_USABLE,
            "1 where an alert could be kept in the folder for the time without a database, else 0.",
            {(): int(self.is_spool_usable)},
        )
        if self.stored is not None:
            yield from _stored(self.stored)

    def _own(self) -> Iterable[Metric]:
        in_use, idle, most = self.connections
        yield _gauge(
            names.Metric.POOL_CONNECTIONS,
            metrics_shared.POOL_TEXT,
            {("in_use",): in_use, ("idle",): idle, ("max",): most},
            ("state",),
        )
        heard = self.feed.heard_ago_s
        yield _gauge(names.Metric.FEED_LAG, metrics_shared.LAG_TEXT, {} if heard is None else {(): heard})


@get(PATH, include_in_schema=False)
async def show(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer one scrape. A database that is away leaves out what is stored there, and nothing else."""
    found = context.of(request)
    stored: StoredGauges = request.app.state[KEY]
    scrape = Scrape(
        stored=await stored.read(),
        feed=found.hub.state,
        connections=found.database.connections,
        spooled=await asyncio.to_thread(spool.waiting, found.database),
        is_spool_usable=await asyncio.to_thread(spool.fault, found.database) is None,
    )
    ours = CollectorRegistry()
    ours.register(scrape)
    return Response(
        metrics_shared.counted() + generate_latest(ours),
        headers={"content-type": CONTENT_TYPE_PLAIN_0_0_4, "cache-control": "no-store"},
    )


def _stored(stored: Gauges) -> Iterable[Metric]:
    """Return what is stored; a kind or state that there is nothing of counts 0, so that a rule can see it change."""
    none_of: dict[tuple[str, ...], float] = {(kind.value, state): 0 for kind in AlertKind for state in _ALERT_STATES}
    yield _gauge(
        names.Metric.ALERTS_STORED, "Alerts by kind and state.", {**none_of, **_pairs(stored.alerts)}, ("kind", "state")
    )
    yield _gauge(
        names.Metric.ALERT_DELIVERIES_STORED,
        "Messages about alerts by state, of all processes.",
        {(state,): stored.deliveries.get(state, 0) for state in _DELIVERY_STATES},
        ("state",),
    )
    yield _gauge(
        names.Metric.ALERT_DELIVERY_DELAY,
        "Seconds that the oldest message over a channel that is set has been waiting; 0 where none is.",
        {(): stored.oldest_pending_s},
    )
    yield _gauge(
        names.Metric.QUEUE_JOBS,
        "Jobs in the queue by entry point and state.",
        _pairs(stored.jobs),
        ("entrypoint", "state"),
    )
    if stored.reconciler is not None:
        yield from _reconciler(stored.reconciler)
    yield _gauge(
        names.Metric.GUARDS,
        "1 at the state in which the guards on the platform's tables are; off: none are meant to be installed.",
        {(state,): state == (stored.guards or "off") for state in _GUARD_STATES},
        ("state",),
    )
    yield _gauge(
        names.Metric.GUARD_HITS,
        "Writes of other programs that a guard met, by what it did, as far back as they are kept.",
        {(kind,): stored.guard_hits.get(kind, 0) for kind in _GUARD_HITS},
        ("kind",),
    )


def _reconciler(state: State) -> Iterable[Metric]:
    """Return how the sweep over all venues does; what no cycle has said yet is absent."""
    yield _gauge(
        names.Metric.RECONCILER_AGE,
        "Seconds since a sweep over all venues came to its end; where none has, since the installation.",
        {(): state.success_age_s},
    )
    yield _gauge(
        names.Metric.RECONCILER_SPENT, "Repairs of the reconciler in the hour of its budget.", {(): state.spent}
    )
    took_s, hidden, exposed = state.last_duration_s, state.last_hidden, state.last_exposed
    yield _gauge(
        names.Metric.RECONCILER_CYCLE,
        "Seconds that the last sweep took, rests included.",
        {} if took_s is None else {(): took_s},
    )
    yield _gauge(
        names.Metric.RECONCILER_FOUND,
        "Venues that the last sweep found drifted, by direction.",
        {} if hidden is None or exposed is None else {("hidden",): hidden, ("exposed",): exposed},
        ("direction",),
    )


def _pairs(counts: Mapping[tuple[str, str], int]) -> dict[tuple[str, ...], float]:
    return {(one, other): number for (one, other), number in counts.items()}


def _gauge(
    name: names.Metric, text: str, values: Mapping[tuple[str, ...], float], labels: Sequence[str] = ()
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for of, value in values.items():
        family.add_metric(of, value)
    return family
