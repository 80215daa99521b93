"""20,000 whole operations of everybody, with faults, each held against an oracle in plain Python (faults.md)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import UUID

import pytest

from mpesa_sync import connect
from mpesa_sync.db.pool import Database
from tests.prove.figures import SEED, TRANSITIONS, limit_s
from tests.support.databases import plain
from tests.support.faults import QUICK
from tests.support.people import add_account, person
from tests.support.venues import KEY
from tests.support.whole_faults import INSTALL
from tests.support.whole_machine import Machine, Named, Switch, switch_by_manager
from tests.support.whole_model import FAULTS, SITES

pytestmark = pytest.mark.prove
LANES: Final = 4


async def played(
    url: str, seed: int, transitions: int, *, lanes: int = LANES, switch: Switch = switch_by_manager
) -> tuple[Counter[str], set[UUID]]:
    """Run the machine in some lanes at once; return what was done, and which operations must be applied."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(connect(url, kms_keys=[KEY], retry=QUICK, pool_size=lanes + 1))
        owner = person(await add_account(database, "Asha"))
        machines = []
        for number in range(lanes):
            sql = await stack.enter_async_context(plain(url))
            if number == 0:
                await sql.execute(INSTALL)
            machines.append(Machine(number, seed, database, sql, owner, switch))
        async with asyncio.TaskGroup() as tasks:
            for machine in machines:
                tasks.create_task(machine.run(-(-transitions // lanes)))
    told: Counter[str] = sum((machine.told for machine in machines), Counter())
    return told, set[UUID]().union(*(machine.applied for machine in machines))


def covered(told: Counter[str], *, at_least: int) -> None:
    """Every kind of transition, of fault and of place was met often enough to mean something."""
    for what in (
        *(f"{name}: {end}" for name in ("switch", "save", "repair") for end in ("applied", "failed")),
        *("switch: refused", "repeat: replayed", "repeat: refused", "deleted: refused", "look", "rows"),
        *("legacy: written", "legacy: rolled back", "migrate: fixed", "migrate: already_consistent", "buried"),
        *(f"at {site}" for site in SITES),
        *(f"fault {fault}" for fault in FAULTS),
    ):
        assert told[what] >= at_least, f"{what}: {told[what]}"


@pytest.mark.timeout(limit_s(900))
async def test_twenty_thousand_whole_operations_are_as_the_oracle_says(database_url: str, sql: Any) -> None:
    """R1, R5, faults.md 10: 0 partial, 0 lost, 0 doubled; alerts as they must be; none that nobody asked for."""
    print(f"MPESA_SYNC_PROVE_SEED={SEED}")
    told, applied = await played(database_url, SEED, TRANSITIONS)
    print(dict(sorted(told.items())))
    assert told["transitions"] >= TRANSITIONS
    covered(told, at_least=TRANSITIONS // 1_000)
    found = {
        record["id"] for record in await sql.fetch("select id from mpesa_sync.operations where outcome = 'applied'")
    }
    assert found <= applied, "applied, and nobody was told so"
    kinds = await sql.fetchval("select count(*) from mpesa_sync.operations where outcome = 'failed'")
    assert kinds == told["buried"]


async def half(database: Database, bar: UUID, on: bool, named: Named, operation_id: UUID) -> Any:
    """Switch, say so, and leave half of it."""
    answer = await switch_by_manager(database, bar, on, named, operation_id)
    connection = await database.acquire()
    try:
        await connection.execute("update public.mpesa_credentials set is_active = not $2 where tenant_id = $1", bar, on)
    finally:
        await database.release(connection)
    return answer


async def forgetful(database: Database, bar: UUID, on: bool, named: Named, operation_id: UUID) -> Any:
    """Switch under an id of its own each time: a repeat is done again."""
    del operation_id
    return await switch_by_manager(database, bar, on, named, UUID(int=random.getrandbits(128), version=4))


@pytest.mark.parametrize("wrong", [half, forgetful])
async def test_the_machine_finds_a_writer_that_is_wrong(database_url: str, wrong: Switch) -> None:
    """The twins: half of a pair, and a repeat without its id, are found within 300 transitions."""
    with pytest.raises(ExceptionGroup) as found:
        await played(database_url, 1, 300, lanes=1, switch=wrong)
    assert found.group_contains(AssertionError)
