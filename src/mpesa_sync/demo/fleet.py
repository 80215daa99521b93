"""A fleet beside the sample venues: a chain of bars that years of single-field writes have pulled apart."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from mpesa_sync.crypto.keyring import KeyRing
from mpesa_sync.demo import venues
from mpesa_sync.demo.observer import Fields
from mpesa_sync.demo.venues import Venue
from mpesa_sync.secret import Secret

NAME: Final = "Pwani"
SIZE: Final = 288
_STATES: Final[tuple[tuple[bool | None, bool | str], ...]] = (
    (False, True),
    (None, True),
    (True, False),
    (True, "absent"),
    (True, True),
    (False, False),
)
"""`mpesa_enabled` and `is_active`: two hidden, two exposed, two as they should be, and so on through the chain."""
_SHORTCODE: Final = "600200"
_REMOVE: Final = "delete from public.bars where id = any($1::uuid[])"
_HOLD: Final = "select pg_backend_pid() from public.bars where id = $1 for update"
_WAITS: Final = "select pid from pg_catalog.pg_stat_activity where $1 = any(pg_blocking_pids(pid)) limit 1"
_IS_THERE: Final = "select count(*) from pg_catalog.pg_stat_activity where pid = $1"
_LOOK_EVERY_S: Final = 0.01
_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Planned:
    """A saved plan, and what was stored when it was made.

    `bars`: what the flag of each is to become, in the order of the file. `before`: both fields of every bar.
    `credentials`: a digest of that table.
    """

    bars: dict[UUID, bool]
    before: Mapping[UUID, Fields]
    credentials: str


@dataclass(frozen=True, slots=True)
class Document:
    """What stands in the file of a plan. `digest` is what its last line says, `computed` what it is."""

    expires_at: str
    bars: dict[UUID, bool]
    directions: dict[UUID, str]
    count: int
    digest: str
    computed: str

    @property
    def totals(self) -> Counter[str]:
        """Return how many bars there are in each direction."""
        return Counter(self.directions.values())


def chain() -> list[Venue]:
    """Return the bars of the chain."""
    bars = []
    for number in range(1, SIZE + 1):
        mpesa_enabled, production = _STATES[number % len(_STATES)]
        slug = f"{NAME.lower()}-{number:03}"
        bars.append(Venue(slug, f"{NAME} {number:03}", "", mpesa_enabled, production))
    return bars


async def add(connection: Any, keys: KeyRing) -> list[Venue]:
    """Insert the chain, all of it with the same secrets, and return its bars."""
    bars, blobs = chain(), venues.stored_secrets(keys, venues.Sealed.GOOD)
    async with connection.transaction():
        await connection.executemany(
            venues.ADD_BAR, [(bar.id, bar.name, bar.slug, bar.mpesa_enabled, True, True, "production") for bar in bars]
        )
        await connection.executemany(
            venues.ADD_CREDENTIALS,
            [
                (bar.id, "production", _SHORTCODE, *blobs, bar.production)
                for bar in bars
                if isinstance(bar.production, bool)
            ],
        )
    return bars


async def remove(connection: Any) -> None:
    """Remove the chain where it is there, with its credentials."""
    await connection.execute(_REMOVE, [bar.id for bar in chain()])


def read(path: Path) -> Document:
    """Read a plan apart from the code that writes it: JSON Lines, the last of which has the digest of those before."""
    lines = path.read_bytes().splitlines(keepends=True)
    bars = [json.loads(line) for line in lines[1:-1]]
    first, last = json.loads(lines[0]), json.loads(lines[-1])
    return Document(
        expires_at=first["expires_at"],
        bars={UUID(bar["bar_id"]): bar["authority"] for bar in bars},
        directions={UUID(bar["bar_id"]): bar["direction"] for bar in bars},
        count=last["count"],
        digest=last["digest"],
        computed=hashlib.sha256(b"".join(lines[:-1])).hexdigest(),
    )


@asynccontextmanager
async def row_held(url: Secret, bar_id: UUID) -> AsyncIterator[int]:
    """Hold the row of a bar, as another program in the middle of its work; give the id of its server process."""
    other: Any = await asyncpg.connect(url.reveal(), server_settings={"application_name": "another program"})
    try:
        async with other.transaction():
            yield await other.fetchval(_HOLD, bar_id)
    finally:
        await other.close()


async def waiting_for(connection: Any, holder: int, process: asyncio.subprocess.Process) -> int | None:
    """Wait until somebody waits for the holder of a row; return the id of its server process.

    None where the process, which is to do so, ends before it does.
    """
    async with asyncio.timeout(_PATIENCE_S):
        while process.returncode is None:
            if (waiter := await connection.fetchval(_WAITS, holder)) is not None:
                return int(waiter)
            await asyncio.sleep(_LOOK_EVERY_S)
    return None


async def gone(connection: Any, pid: int | None) -> None:
    """Wait until the server has noticed that a client is gone, and has rolled back what it had open."""
    async with asyncio.timeout(_PATIENCE_S):
        while await connection.fetchval(_IS_THERE, pid):  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(_LOOK_EVERY_S)
