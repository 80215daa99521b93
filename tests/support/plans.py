"""Saved plans for tests: written, read, refused, forged."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync.db.plan_identity import DatabaseIdentity
from mpesa_sync.errors import InvalidInput
from mpesa_sync.migration import plan_file
from mpesa_sync.migration.plan_file import PlanHeader, PlannedBar, PlanWriter
from mpesa_sync.migration.plan_format import Trailer, line_of

NOW: Final = datetime(2026, 3, 6, 18, 0, tzinfo=UTC)
HERE: Final = DatabaseIdentity(
    name="platform",
    database=16_400,
    bars_table=16_500,
    system="7300000000000000001",
    timeline=1,
    installation=UUID(int=9),
)


def header(**more: Any) -> PlanHeader:
    """Return the header of a plan that was made now."""
    return PlanHeader.made(HERE, now=NOW, **{"actor": "ops:amina", "reason": "ticket 512", "scanned": 9, **more})


def planned(number: int, *, authority: bool = True, was_null: bool = False) -> PlannedBar:
    """Return a drifted bar."""
    shown = not authority if not (authority and was_null) else None
    direction = "hidden" if authority else "exposed"
    return PlannedBar(bar_id=UUID(int=number), authority=authority, shown=shown, direction=direction)


def written(path: Path, bars: list[PlannedBar], said: PlanHeader | None = None) -> bytes:
    """Write a plan and return its bytes."""
    path.unlink(missing_ok=True)
    with PlanWriter(path, said or header()) as writer:
        for bar in bars:
            writer.add(bar)
        writer.finish()
    return path.read_bytes()


def read(path: Path, *, here: DatabaseIdentity = HERE, now: datetime = NOW) -> list[tuple[UUID, bool]]:
    """Read a plan and return its pairs."""
    with plan_file.read(path, identity=here, now=now) as plan:
        pairs = list(plan.pairs())
        assert len(plan) == len(pairs)
        return pairs


def refusal(path: Path, **more: Any) -> str:
    """Return in which words a plan is refused."""
    with pytest.raises(InvalidInput) as caught:
        read(path, **more)
    assert caught.value.field == "--plan"
    return str(caught.value)


def sealed(*lines: bytes, count: int | None = None) -> bytes:
    """Return lines with a trailer that is right: what somebody would forge."""
    body = b"".join(lines)
    number = len(lines) - 1 if count is None else count
    return body + line_of(Trailer(number, hashlib.sha256(body).hexdigest()))


SOME: Final = [planned(1), planned(2, authority=False), planned(700, was_null=True), planned(2**127)]
