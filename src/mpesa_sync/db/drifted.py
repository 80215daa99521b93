"""What a detection has found, as values: drifted bars, and counts over all bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import msgspec

from mpesa_sync.domain.availability import BarWarning, Direction


class Versions(msgspec.Struct, frozen=True, gc=False):
    """Which rows were read, and in which version: the transaction that last wrote each (`xmin`).

    `credentials`: versions in the order of `credential_ids`, which ascend.
    """

    bar: int
    credential_ids: tuple[UUID, ...]
    credentials: tuple[int, ...]


class DriftedBar(msgspec.Struct, frozen=True, gc=False):
    """A bar whose two fields disagree, as it was when it was read.

    `holds_both`: its secrets stand in `bars` and in a credentials row. `legacy_differs`: `payment_mpesa_enabled` is not
    as the authority, of a shape that has it. `versions`: where they were asked for.
    """

    bar_id: UUID
    slug: str | None
    mpesa_enabled: bool | None
    authority: bool
    warnings: tuple[BarWarning, ...]
    updated_at: datetime | None
    holds_both: bool = False
    legacy_differs: bool = False
    versions: Versions | None = None

    @property
    def is_drifted(self) -> bool:
        """Return whether the two fields disagree; otherwise the older flag alone is not as they are."""
        return (self.mpesa_enabled is True) is not self.authority

    @property
    def direction(self) -> Direction:
        """Return which way it has drifted."""
        return Direction.HIDDEN if self.authority else Direction.EXPOSED


@dataclass(frozen=True, slots=True)
class FleetSummary:
    """Counts over all bars at the moment of the detection."""

    bars: int
    hidden: int
    exposed: int
    warnings: Mapping[BarWarning, int] = field(default_factory=dict)

    @property
    def drifted(self) -> int:
        """Return how many bars have drifted, in both directions."""
        return self.hidden + self.exposed

    @property
    def consistent(self) -> int:
        """Return how many bars have not."""
        return self.bars - self.drifted
