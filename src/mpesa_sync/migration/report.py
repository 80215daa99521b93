"""What a migration says of itself: the values its methods return, its counters, its progress."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from mpesa_sync.db.detection import DriftedBar
from mpesa_sync.domain.availability import Reason

LEGACY: Final = "legacy"
"""The direction of a bar that has not drifted, but in `payment_mpesa_enabled`."""


class RunState(StrEnum):
    """How a run ended, or that it has not."""

    RUNNING = "running"
    """It has not ended."""
    PAUSING = "pausing"
    """It will pause after the batch in hand."""
    VERIFYING = "verifying"
    PAUSED = "paused"
    """Somebody asked for it, or a fault of the whole stopped it: `migrate resume` goes on."""
    PLANNED = "planned"
    """A dry run: found, nothing written."""
    DONE = "done"
    CANCELLED = "cancelled"
    """A limit refused it before anything was written."""
    FAILED = "failed"
    """The verification found drift, or a limit stopped it."""
    INTERRUPTED = "interrupted"


class Outcome(StrEnum):
    """What became of one drifted bar."""

    FIXED = "fixed"
    ALREADY_CONSISTENT = "already_consistent"
    """Somebody else had corrected it in the meantime."""
    STALE = "stale"
    """It drifted the other way in the meantime; a later look decides anew."""
    VANISHED = "vanished"
    """The bar was deleted in the meantime."""
    QUARANTINED = "quarantined"
    """It could not be corrected; the reason is kept, the others went on."""
    DEFERRED = "deferred"
    """The run stopped before it."""


class InconsistentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A drifted bar as detection saw it (R2.1), with the rows that say so.

    `direction`: `hidden` or `exposed`; in a plan that mirrors also `legacy`: `payment_mpesa_enabled` alone differs.
    `reason`: `drift_hidden`, a credentials row is active; `drift_exposed`, none
    is; `no_credentials`, none is there; None with `legacy`. `credential_ids`: the bar's credentials rows, ascending.
    `bar_version`, `credential_versions` (in their order): the row as it was read, by the transaction that last wrote
    it (PostgreSQL's `xmin`). Another number means that the row was written since. Numbers say nothing about before
    and after, come again after 4 billion transactions, and are others in a copy of the database. None: not read.
    """

    bar_id: UUID
    credentials_active: bool
    bar_mpesa_enabled: bool | None
    last_updated: datetime | None
    direction: str
    slug: str | None = None
    warnings: tuple[str, ...] = ()
    reason: str | None = None
    credential_ids: tuple[UUID, ...] = ()
    bar_version: int | None = None
    credential_versions: tuple[int, ...] = ()

    @classmethod
    def of(cls, bar: DriftedBar) -> InconsistentRecord:
        """Return the record of a bar that was read with its versions."""
        assert bar.versions is not None, "asked for"
        return cls(
            bar_id=bar.bar_id,
            credentials_active=bar.authority,
            bar_mpesa_enabled=bar.mpesa_enabled,
            last_updated=bar.updated_at,
            direction=bar.direction if bar.is_drifted else LEGACY,
            slug=bar.slug,
            warnings=bar.warnings,
            reason=_reason(bar, has_rows=bool(bar.versions.credential_ids)),
            credential_ids=bar.versions.credential_ids,
            bar_version=bar.versions.bar,
            credential_versions=bar.versions.credentials,
        )


def _reason(bar: DriftedBar, *, has_rows: bool) -> Reason | None:
    if not bar.is_drifted:
        return None
    if bar.authority:
        return Reason.DRIFT_HIDDEN
    return Reason.DRIFT_EXPOSED if has_rows else Reason.NO_CREDENTIALS


class Quarantined(msgspec.Struct, frozen=True, kw_only=True):
    """A record that could not be corrected: why, in words safe to show, and how often it was tried."""

    bar_id: UUID
    code: str
    message: str
    sqlstate: str | None = None
    attempts: int = 1


class MigrationResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `migrate_record` did."""

    bar_id: UUID
    outcome: Outcome
    error: Quarantined | None = None


class ValidationSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A full pass over all bars that wrote nothing; only drift that survived a second look counts (R2.3)."""

    bars: int
    hidden: int
    exposed: int
    warnings: dict[str, int]

    @property
    def is_consistent(self) -> bool:
        """Return whether no bar is drifted."""
        return self.hidden + self.exposed == 0


class RunReport(msgspec.Struct, kw_only=True):
    """The counters of a run, and how it ended.

    `scanned == consistent + drifted`, and `drifted` is the sum of the six outcomes; a dry run defers all that it
    would correct. A bar that drifts again during the run is found by the verification and
    counts again, in `scanned` too. `verified` is None where no verification was reached.
    """

    run: UUID
    state: RunState
    dry_run: bool
    scanned: int = 0
    consistent: int = 0
    drifted: int = 0
    fixed: int = 0
    already_consistent: int = 0
    stale: int = 0
    vanished: int = 0
    quarantined: int = 0
    deferred: int = 0
    verified: bool | None = None
    duration_s: float = 0.0

    def count(self, outcome: Outcome, number: int = 1) -> None:
        """Add to the counter of an outcome."""
        setattr(self, outcome.value, getattr(self, outcome.value) + number)

    def of(self, outcome: Outcome) -> int:
        """Return the counter of an outcome."""
        return int(getattr(self, outcome.value))

    @property
    def settled(self) -> int:
        """Return how many drifted bars have an outcome."""
        return sum(getattr(self, outcome.value) for outcome in Outcome)


class Run(msgspec.Struct, kw_only=True):
    """A finished run: its report, and what does not fit into counters.

    `hidden`, `exposed`: the drift that it found, by direction. `legacy_only`: bars that have not drifted, but in
    `payment_mpesa_enabled`, which the run mirrors. `legacy_left`: drifted bars in which that will differ, because the
    run does not mirror it. `installed`: the schema `mpesa_sync` was absent and was created. `limit`: which limit
    stopped it. `fault`: what paused it, safe to show. `warnings`: counts over all bars. `outside`: bars that are
    drifted and none of this run's, as its verification saw.
    `kind`: `migrate`, `retry` or `undo`. `is_bound`: it is about chosen bars alone, those of a plan or the quarantine.
    `of_run`: the run that is undone, or whose quarantined bars alone are retried. `is_kept`: it was written down, so
    that it can be looked at, resumed, undone. `plan_file`: where a dry run has written down what it would correct.
    """

    report: RunReport
    kind: str = "migrate"
    of_run: UUID | None = None
    is_bound: bool = False
    is_kept: bool = False
    records: list[Quarantined] = msgspec.field(default_factory=list)
    warnings: dict[str, int] = msgspec.field(default_factory=dict)
    hidden: int = 0
    exposed: int = 0
    legacy_only: int = 0
    legacy_left: int = 0
    outside: int = 0
    installed: bool = False
    limit: str | None = None
    fault: str | None = None
    plan_file: str | None = None


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A moment of a run. `settled` of `total` drifted bars have an outcome; `batch_ms` is of the last batch.

    `target_ms`: what a batch should take, None where its size is fixed. `rate`: bars settled a second, lately; 0
    where nothing is known yet. `eta_s`: seconds that the rest of the phase will take at that rate. `throttle`: why
    the run holds back now. `cursor`: the last bar settled. `checkpoint_s`: seconds since the last commit.
    """

    phase: str
    settled: int
    total: int
    report: RunReport
    batch_size: int = 0
    batch_ms: float = 0.0
    target_ms: float | None = None
    rate: float = 0.0
    eta_s: float | None = None
    throttle: str | None = None
    cursor: UUID | None = None
    checkpoint_s: float | None = None
