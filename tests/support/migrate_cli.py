"""What the tests of `migrate` on the command line share: drift to correct, a record that is refused, slow batches."""

from __future__ import annotations

import json
import re
from typing import Any, Final
from uuid import UUID

from tests.support.cli import Ended
from tests.support.observer import see_all
from tests.support.venues import add_bar

JSON_KEYS: Final = (
    "run",
    "state",
    "dry_run",
    "scanned",
    "consistent",
    "drifted",
    "fixed",
    "already_consistent",
    "stale",
    "vanished",
    "quarantined",
    "deferred",
    "verified",
    "duration_s",
    "outside",
)
OUTCOMES: Final = ("fixed", "already_consistent", "stale", "vanished", "quarantined", "deferred")
COLOUR: Final = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])(?:;\d+)*m")


def counts(ended: Ended) -> dict[str, Any]:
    """Return the object of the last line, which must have exactly the members of the contract and add up."""
    report: dict[str, Any] = json.loads(ended.out.splitlines()[-1])
    assert tuple(report) == JSON_KEYS
    assert report["scanned"] == report["consistent"] + report["drifted"]
    assert report["drifted"] == sum(report[name] for name in OUTCOMES)
    return report


async def add_drift(sql: Any, *, hidden: int = 0, exposed: int = 0, consistent: int = 0) -> None:
    """Insert bars in these numbers."""
    for _ in range(hidden):
        await add_bar(sql, mpesa_enabled=False, production=True)
    for _ in range(exposed):
        await add_bar(sql, mpesa_enabled=True, production=False)
    for _ in range(consistent):
        await add_bar(sql, mpesa_enabled=True, production=True)


async def drifted(sql: Any) -> list[UUID]:
    """Return the bars that are drifted, by the oracle."""
    return [bar_id for bar_id, seen in (await see_all(sql)).items() if seen.drifted]


async def refuse(sql: Any, bar_id: UUID) -> None:
    """Make a trigger refuse every change of one bar."""
    await sql.execute(
        f"create function poison() returns trigger language plpgsql as $$ begin if old.id = '{bar_id}' then "
        "raise exception 'no'; end if; return new; end $$; "
        "create trigger poison before update on bars for each row execute function poison()"
    )


async def slow_down(sql: Any, seconds: float) -> None:
    """Make every statement that updates bars take this long."""
    await sql.execute(
        f"create function slow() returns trigger language plpgsql as $$ begin perform pg_sleep({seconds}); "
        "return null; end $$; create trigger slow before update on bars for each statement execute function slow()"
    )


# --- dry run
