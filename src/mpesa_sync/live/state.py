"""How the feed stands, as a value for health checks and pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["notices", "sweep"]
"""`notices` where triggers tell of every change, `sweep` where only sweeps find those of other programs."""


@dataclass(frozen=True, slots=True)
class FeedState:
    """How the feed stands.

    `is_live`: it was proven live within 3 s (L6). `heard_ago_s`: seconds since that proof, None for never.
    `watched`, `streams`: how many bars and how many open pages.
    """

    is_live: bool
    mode: Mode
    heard_ago_s: float | None
    watched: int
    streams: int
    is_draining: bool
