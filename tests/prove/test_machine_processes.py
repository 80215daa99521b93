"""Everybody on real processes, one rule after the other from a seed, each held against all possible worlds (T8.2)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from tests.prove.figures import SEED, TIMES
from tests.support.databases import Clerk
from tests.support.e2e_customers import Customers
from tests.support.e2e_faults import Faults
from tests.support.e2e_machine import MOST_SKIPPED, Machine, covered
from tests.support.e2e_others import Operators, Programs
from tests.support.e2e_place import BARS, Place, place
from tests.support.e2e_staff import Staff

pytestmark = [pytest.mark.prove, pytest.mark.usefixtures("many_files"), pytest.mark.timeout(900)]

MACHINES: Final = 2
"""Side by side, each on a database and processes of its own: together they reach what each rule must."""
_JOURNAL: Final = "select run_id, bar_id, previous, current from mpesa_sync.migration_journal order by id"
_FLEET_ALERTS: Final = "select kind, state from mpesa_sync.alerts where bar_id is null"


class Whole:
    """The machine with everybody in it."""

    def __init__(self, found: Place, seed: str) -> None:
        self.machine = Machine(found, seed)
        programs, customers = Programs(self.machine), Customers(self.machine)
        self.staff, self.operators = Staff(self.machine), Operators(self.machine, programs)
        self.rules = {**self.staff.rules, **programs.rules, **self.operators.rules, **customers.rules}
        self._faults = Faults(self.machine, self.staff, programs, self.operators)
        self.faults = self._faults.all

    async def run(self, share: float) -> None:
        """Play it, or a share of it, to its end."""
        self.machine.sweeps(True)
        await self.machine.run(self.rules, self.faults, self.rest, share=share)

    async def rest(self) -> None:
        """All stand still: what was lost is known, nothing is drifted, and every open page shows what is stored."""
        await self.staff.settle_lost()
        await self._faults.until_swept()
        await self.operators.migrate()
        await self.machine.look()
        pages = self.machine.place.pages
        await pages.until_shown({bar.id: bar.seen.offer for bar in self.machine.bars})
        assert not [page for page in pages.all if page.went_back]
        alerts = [tuple(record) for record in await self.machine.place.sql.fetch(_FLEET_ALERTS)]
        assert set(alerts) <= {("reconciler_stale", "resolved")}, alerts
        assert len(alerts) <= self.machine.faults["clock jumped"], "one for each jump at most"

    async def over(self) -> None:
        """The processes end; nothing changes by that, and the journal is what the migrations have changed."""
        await self.machine.place.stop()
        self.machine.sweeps(False)
        await self.machine.look()
        journal = [tuple(record) for record in await self.machine.place.sql.fetch(_JOURNAL)]
        assert sorted(journal, key=str) == sorted(self.operators.changes, key=str)


async def played(home: Path, url: str, seed: str, *, share: float = 1.0) -> Whole:
    """Play one machine from a seed on a database of its own; say what was done, whatever becomes of it."""
    await asyncio.to_thread(home.mkdir)
    async with place(home, url) as found:
        whole = Whole(found, seed)
        try:
            await whole.run(share)
            await whole.over()
        finally:
            machine = whole.machine
            for counted in (machine.fired, machine.faults, machine.skipped, machine.met):
                print(seed, dict(sorted(counted.items())))
            print(seed, {name: round(took_s, 1) for name, took_s in sorted(machine.took_s.items())})
    return whole


@pytest.mark.parametrize("number", range(TIMES))
async def test_what_everybody_does_on_real_processes_is_possible(
    tmp_path: Path, clerk: Clerk, greenfield_template: str, number: int
) -> None:
    """Spec 4: nothing half, nothing lost or doubled; audit, journal and alerts say what was done; pages end right."""
    seed = SEED + number
    print(f"MPESA_SYNC_PROVE_SEED={seed} .venv/bin/python -m pytest -s tests/prove/test_machine_processes.py")
    urls = [await asyncio.to_thread(clerk.make, greenfield_template) for _ in range(MACHINES)]
    async with asyncio.TaskGroup() as tasks:
        playing = [
            tasks.create_task(played(tmp_path / str(lane), url, f"{seed}/{lane}")) for lane, url in enumerate(urls)
        ]
    whole = [one.result() for one in playing]
    swept = sum(bar.seen.swept for one in whole for bar in one.machine.bars)
    print(f"repaired by the reconciler: {swept}; states seen: {[len(one.machine.cells) for one in whole]}")
    assert swept >= MACHINES * BARS
    assert covered([one.machine for one in whole], whole[0].rules, whole[0].faults) == []
    for url in urls:
        await asyncio.to_thread(clerk.drop, url)


async def test_a_tenth_of_it_is_possible_too(tmp_path: Path, database_url: str) -> None:
    """The same from a smaller deck: what the mutants of the machine are given to."""
    print(f"MPESA_SYNC_PROVE_SEED={SEED} .venv/bin/python -m pytest -s tests/prove/test_machine_processes.py")
    whole = await played(tmp_path / "short", database_url, f"{SEED}/short", share=0.1)
    assert whole.machine.skipped.total() < MOST_SKIPPED * whole.machine.fired.total()
