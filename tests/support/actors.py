"""Who takes part in the interleaving machine: our own writers, and the other programs of the platform.

Each actor is one transaction, written as any code on a connection is. It says in `Given` what it changes, before its
COMMIT; what it says is believed only once that COMMIT has succeeded.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Final
from uuid import UUID, uuid4

from mpesa_sync.db import detection, session
from mpesa_sync.domain import availability
from mpesa_sync.domain.credentials import Environment
from mpesa_sync.sync import writer
from mpesa_sync.sync.writer import Settled
from tests.support.corrections import Correction
from tests.support.venues import SEALED

_CREDENTIALS: Final = """
update public.mpesa_credentials set is_active = $2 where tenant_id = $1 returning environment
"""
_ONE_CREDENTIALS: Final = """
update public.mpesa_credentials set is_active = $2 where tenant_id = $1 and environment = $3 returning environment
"""
_BARS: Final = "update public.bars set mpesa_enabled = $2 where id = $1"
_DELETE: Final = "delete from public.mpesa_credentials where tenant_id = $1 and environment = $2 returning environment"
_INSERT: Final = """
insert into public.mpesa_credentials
  (id, tenant_id, environment, business_shortcode, consumer_key_enc, consumer_secret_enc, passkey_enc, is_active)
values ($1, $2, $3, '600123', $4, $5, $6, $7)
"""
_ABORTS: Final = 0.12


@dataclass
class Change:
    """What one transaction does to one bar, for the model.

    `flags`: rows written; `removed`: rows deleted; `enabled`: the customers' flag, `...` for not written;
    `switched`: every row is off but this environment ("" for none); `corrected`: the flag follows the rows.
    """

    bar: UUID
    flags: dict[str, bool | None] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    enabled: bool | EllipsisType | None = ...
    switched: str | None = None
    corrected: bool = False


@dataclass
class Given:
    """What an actor draws from, and what it says of itself."""

    random: random.Random
    bars: Sequence[UUID]
    changes: list[Change] = field(default_factory=list)
    claimed: set[UUID] = field(default_factory=set)
    asked: dict[UUID, tuple[bool, list[str]]] = field(default_factory=dict)
    aborted: bool = False

    def bar(self) -> UUID:
        return self.random.choice(self.bars)

    def flag(self) -> bool:
        return self.random.random() < 0.5

    def begin(self) -> str:
        """Return how another program begins: mostly as the default is."""
        isolation = "repeatable read" if self.random.random() < 0.2 else "read committed"
        return f"begin isolation level {isolation}"

    async def end(self, connection: Any) -> None:
        """Commit, or sometimes roll back: then nothing has changed and nothing is claimed."""
        if self.random.random() < _ABORTS:
            self.aborted = True
            self.changes.clear()
            self.claimed.clear()
            self.asked.clear()
            await connection.execute("rollback")
        else:
            await connection.execute("commit")


Act = Callable[[Any, Given], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Actor:
    """A kind of actor. `act` runs it once on a connection."""

    name: str
    act: Act


async def insert_credentials(
    connection: Any, drawn: random.Random, bar: UUID, environment: str, is_active: bool
) -> None:
    """Insert a row with an id of the seed's, because the order of ids is the order of locks."""
    row = UUID(int=drawn.getrandbits(128), version=4)
    await connection.execute(_INSERT, row, bar, environment, *SEALED, is_active)


async def _switch(connection: Any, given: Given) -> None:
    bar, on = given.bar(), given.flag()
    await connection.execute(session.WRITE.sql)
    locked = await writer.lock(connection, bar)
    environments = [row.environment for row in locked.facts.rows]
    chosen: Environment | None = given.random.choice(environments) if on and environments else None
    await writer.write_status(connection, bar, chosen)
    given.asked[bar] = (chosen is not None, [chosen.value] if chosen else [])
    given.changes.append(Change(bar, switched=chosen.value if chosen else "", enabled=chosen is not None))
    await given.end(connection)


async def _repair(connection: Any, given: Given) -> None:
    bar = given.bar()
    await connection.execute(session.WRITE.sql)
    facts = (await writer.lock(connection, bar)).facts
    if availability.direction(facts) is not None:
        await writer.write_shown(connection, bar, availability.authority(facts))
        given.changes.append(Change(bar, corrected=True))
    given.claimed.add(bar)
    await given.end(connection)


async def _migrate(connection: Any, given: Given) -> None:
    plan = await detection.still_drifted(connection, given.bars)
    planned = {bar for bar, _ in plan}
    plan += [(bar, given.flag()) for bar in given.bars if bar not in planned and given.flag()]
    await connection.execute(session.BATCH.sql)
    for bar, settled in (await writer.correct_bars(connection, uuid4(), plan)).items():
        if settled is Settled.FIXED:
            given.changes.append(Change(bar, corrected=True))
        if settled in (Settled.FIXED, Settled.ALREADY_CONSISTENT):
            given.claimed.add(bar)
    await given.end(connection)


def _paired(*, credentials_first: bool) -> Act:
    async def act(connection: Any, given: Given) -> None:
        bar, on = given.bar(), given.flag()
        await connection.execute(given.begin())
        flags: dict[str, bool | None] = {}
        for credentials in (credentials_first, not credentials_first):
            if credentials:
                flags = dict.fromkeys(await _environments(connection, _CREDENTIALS, bar, on), on)
            else:
                await connection.execute(_BARS, bar, on)
        given.changes.append(Change(bar, flags=flags, enabled=on))
        await given.end(connection)

    return act


async def _environments(connection: Any, statement: str, *args: Any) -> tuple[str, ...]:
    return tuple(record["environment"] for record in await connection.fetch(statement, *args))


async def _credentials_only(connection: Any, given: Given) -> None:
    bar, on, environment = given.bar(), given.flag(), given.random.choice(["sandbox", "production"])
    await connection.execute(given.begin())
    found = await _environments(connection, _ONE_CREDENTIALS, bar, on, environment)
    given.changes.append(Change(bar, flags=dict.fromkeys(found, on)))
    await given.end(connection)


async def _bars_only(connection: Any, given: Given) -> None:
    bar, enabled = given.bar(), given.random.choice([True, False, None])
    await connection.execute(given.begin())
    await connection.execute(_BARS, bar, enabled)
    given.changes.append(Change(bar, enabled=enabled))
    await given.end(connection)


async def _insert(connection: Any, given: Given) -> None:
    bar, environment, is_active = given.bar(), given.random.choice(["sandbox", "production"]), given.flag()
    await connection.execute(given.begin())
    await insert_credentials(connection, given.random, bar, environment, is_active)
    given.changes.append(Change(bar, flags={environment: is_active}))
    await given.end(connection)


async def _delete(connection: Any, given: Given) -> None:
    bar, environment = given.bar(), given.random.choice(["sandbox", "production"])
    await connection.execute(given.begin())
    given.changes.append(Change(bar, removed=await _environments(connection, _DELETE, bar, environment)))
    await given.end(connection)


SWITCH: Final = Actor("our switch", _switch)
REPAIR: Final = Actor("our repair", _repair)
MIGRATE: Final = Actor("our migration", _migrate)
CREDENTIALS_FIRST: Final = Actor("legacy pair, credentials first", _paired(credentials_first=True))
BARS_FIRST: Final = Actor("legacy pair, bars first", _paired(credentials_first=False))
CREDENTIALS_ONLY: Final = Actor("legacy, credentials only", _credentials_only)
BARS_ONLY: Final = Actor("legacy, bars only", _bars_only)
INSERT: Final = Actor("legacy insert", _insert)
DELETE: Final = Actor("legacy delete", _delete)

OURS: Final = (SWITCH, REPAIR, MIGRATE)
PAIRED: Final = (CREDENTIALS_FIRST, BARS_FIRST)
FOREIGN: Final = (CREDENTIALS_ONLY, BARS_ONLY, INSERT, DELETE)


def correcting(name: str, correction: Correction) -> Actor:
    """Return an actor that corrects all bars in another way; only what it claims is judged, and no model is kept."""

    async def act(connection: Any, given: Given) -> None:
        given.claimed |= await correction(connection, given.bars)

    return Actor(name, act)
